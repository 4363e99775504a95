"""Every container and codec of the table, and every quirk: what was burnt into a frame is what is reported of it."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.config import MediaLimits
from engine.media import clip_reader
from engine.media.codecs import CODECS, codec_table
from engine.media.moving import decode_moving
from engine.types import FrameSampling, Part
from engine.types.media import Media
from tests.engine.media.clip_writer import EVEN, RECIPES, write
from tests.engine.media.clips import burnt, colour_error, read_burnt

CLIP = Part("video", param="here")
READS: tuple[dict[str, Any], ...] = (
    {},
    {"fps": 12.5},
    {"fps": 1e308},
    {"max_frames": 2},
    {"start_s": 1.0, "end_s": 2.0, "fps": 10.0},
    {"start_s": 2.2},
    {"indices": (0, 7, 33, 59)},
)


def decode(data: bytes, **frames: Any) -> Media:
    return decode_moving(CLIP, data, MediaLimits(), FrameSampling(**frames))


def check(media: Media, times_s: tuple[float, ...], first: int = 0) -> None:
    """Every frame is the one that its index names, at its true time. first: the number in the frame shown first."""
    for pixels, (index, time_s) in zip(media.pixels, media.frames, strict=True):
        number, burnt_s = read_burnt(pixels)
        assert number == index + first, f"frame {number} is called {index}"
        assert burnt_s - times_s[first] == pytest.approx(time_s, abs=0.011), f"frame {number}"
    assert media.num_source_frames == len(times_s) - first


@pytest.mark.parametrize("row", RECIPES, ids=" ".join)
def test_row(row: tuple[str, str]) -> None:
    data = write(RECIPES[row])
    for reading in READS:
        media = decode(data, **reading)
        check(media, EVEN)
        assert media.duration_s == pytest.approx(2.4, abs=0.011)
        assert max(colour_error(frame) for frame in media.pixels) < 28, "colours"
    assert [index for index, _ in decode(data, fps=1e308).frames] == list(range(60))


def theora() -> bytes:
    """libav's wheel cannot write it; Debian's ffmpeg can."""
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("no ffmpeg to write Theora with")
    given = write(RECIPES["MKV", "FFV1"])
    command = [program, "-v", "error", "-i", "-", "-c:v", "libtheora", "-q:v", "10", "-g", "12", "-f", "ogg", "-"]
    return subprocess.run(command, input=given, capture_output=True, check=True).stdout


def animation(kind: str) -> bytes:
    images = [Image.fromarray(burnt(number, time_s)) for number, time_s in enumerate(EVEN)]
    out = io.BytesIO()
    settings: dict[str, Any] = {"WEBP": {"lossless": True}, "AVIF": {"quality": 95, "speed": 6}}.get(kind, {})
    images[0].save(out, kind, save_all=True, append_images=images[1:], duration=40, **settings)
    return out.getvalue()


OTHER: dict[tuple[str, str], Callable[[], bytes]] = {
    ("OGV", "Theora"): theora,
    ("GIF", "GIF"): partial(animation, "GIF"),
    ("PNG", "APNG"): partial(animation, "PNG"),
    ("WebP", "WebP"): partial(animation, "WEBP"),
    ("AVIF", "AV1"): partial(animation, "AVIF"),
}


@pytest.mark.parametrize("row", OTHER, ids=" ".join)
def test_other_row(row: tuple[str, str]) -> None:
    data = OTHER[row]()
    for reading in READS:
        media = decode(data, **reading)
        check(media, EVEN)
        assert max(colour_error(frame) for frame in media.pixels) < 28, "colours"
    assert [index for index, _ in decode(data, fps=1e308).frames] == list(range(60))


def test_the_table_is_what_is_tested() -> None:
    assert set(CODECS) == {*RECIPES, *OTHER} and len(CODECS) == len(set(CODECS))


def test_the_documents_table_is_this_one() -> None:
    text = (Path(__file__).parents[3] / "assets" / "docs" / "clips.md").read_text()
    assert codec_table() in text


@pytest.mark.parametrize(
    "row", [("MP4", "H.264"), ("MP4", "HEVC"), ("MPEG-TS", "HEVC"), ("MKV", "MPEG-2"), ("MP4", "MPEG-4")], ids=" ".join
)
def test_what_is_left_out_on_the_way_changes_no_pixel(row: tuple[str, str]) -> None:
    """Frames that no other looks at are not decoded; a chosen frame is the same as if all had been."""
    pictures = [np.roll(burnt(number, time_s), 3 * number, axis=0) for number, time_s in enumerate(EVEN)]
    data = write(RECIPES[row].but(gop=60), pictures)
    every = decode(data, fps=1e308)
    for chosen in ((5, 30), (11, 12, 13, 58), (59,)):
        assert (decode(data, indices=chosen).pixels[: len(chosen)] == every.pixels[list(chosen)]).all()


@pytest.fixture
def landings(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Every gap between two runs is sought, however short; whether each seek led where it should."""
    landed: list[bool] = []
    seek = clip_reader.ClipReader._sought

    def watched(self: Any, file: Any, run: Any) -> Any:
        found = seek(self, file, run)
        landed.append(found is not None)
        return found

    monkeypatch.setattr(clip_reader, "FAR_PACKETS", 0)
    monkeypatch.setattr(clip_reader.ClipReader, "_sought", watched)
    return landed


FAR_APART = (1, 17, 18, 37, 53, 59)


@pytest.mark.parametrize("row", [r for r in RECIPES if r[0] in ("MP4", "MOV", "WebM", "MKV", "3GP")], ids=" ".join)
def test_what_is_sought_is_what_is_read(row: tuple[str, str], landings: list[bool]) -> None:
    data = write(RECIPES[row].but(gop=10))
    check(decode(data, indices=FAR_APART), EVEN)
    assert landings and all(landings), "a seek that leads elsewhere"


def test_a_seek_that_leads_elsewhere_is_not_believed(landings: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """The library goes to another packet than it says; the frames are right all the same."""
    data, real = write(RECIPES["MP4", "H.264"].but(gop=10)), clip_reader.opened

    class Lost:
        def __init__(self, container: Any) -> None:
            self._container = container

        def __getattr__(self, name: str) -> Any:
            return getattr(self._container, name)

        def seek(self, stamp: int, **options: Any) -> None:
            self._container.seek(10**9, **options)

    @contextmanager
    def lost(*args: Any) -> Iterator[Any]:
        with real(*args) as file:
            yield replace(file, container=Lost(file.container))

    monkeypatch.setattr(clip_reader, "opened", lost)
    check(decode(data, indices=FAR_APART), EVEN)
    assert landings == [False], "after one that failed, no other is tried"


@pytest.mark.parametrize("shift", [1, -1])
def test_twin_a_frame_that_is_called_another_is_seen(shift: int) -> None:
    """Sabotage: the pixels of the neighbour, under the right name and time."""
    media = decode(write(RECIPES["MP4", "H.264"]), indices=(10, 20))
    other = decode(write(RECIPES["MP4", "H.264"]), indices=(10 + shift, 20 + shift))
    with pytest.raises(AssertionError, match=f"frame {10 + shift} is called 10"):
        check(replace(media, pixels=other.pixels), EVEN)
