"""Clips: exactly the chosen frames with their true times, and clear words for what is no clip."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.config import MediaLimits
from engine.errors import BadMedia
from engine.media.read_medium import load_media
from engine.types import FrameSampling, Part
from engine.types.media import Media
from tests import pictures
from tests.engine.media.clips import coded_frame, read_number, write_coded_clip

PARAM = "messages[0].content[0].video_url.url"
CONTAINERS = {"mp4": "mp4v", "mkv": "mp4v", "avi": "MJPG", "webm": "VP80"}


def load(path: Path, limits: MediaLimits | None = None, **sampling: float) -> Media:
    part = Part("video", path=str(path), param=PARAM)
    return load_media(part, limits or MediaLimits(), FrameSampling(**sampling))  # type: ignore[arg-type]


def refused(path: Path, limits: MediaLimits | None = None, **sampling: float) -> str:
    with pytest.raises(BadMedia) as caught:
        load(path, limits, **sampling)
    assert caught.value.param == PARAM and caught.value.message.startswith(f"{PARAM}: ")
    return caught.value.message


@pytest.fixture(scope="module")
def hundred(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An .mp4 of 100 coded frames at 10 fps."""
    return write_coded_clip(tmp_path_factory.mktemp("clips") / "hundred.mp4", 100)


@pytest.mark.parametrize("container", CONTAINERS)
def test_frames_are_the_ones_that_are_named(tmp_path: Path, container: str) -> None:
    path = write_coded_clip(tmp_path / f"a.{container}", 60, codec=CONTAINERS[container])
    media = load(path, fps=3)
    indices = [index for index, _ in media.frames]
    assert [read_number(frame) for frame in media.pixels] == indices
    assert len(indices) == 18 and indices[0] == 0 and indices[-1] == 59
    assert [time_s for _, time_s in media.frames] == pytest.approx([index / 10 for index in indices], abs=0.002)


def test_facts_of_the_source(hundred: Path) -> None:
    media = load(hundred)
    assert media.kind == "video" and media.pixels.dtype == np.uint8 and media.pixels.shape[1:] == (64, 160, 3)
    assert (media.source_fps, media.num_source_frames, media.duration_s) == (10.0, 100, 10.0)
    assert media.num_bytes == hundred.stat().st_size and media.decoded_px == (160, 64)
    assert media.decode_ms > 0


def test_seeking_far_is_as_exact_as_reading_on(hundred: Path) -> None:
    """Gaps of more than GRAB_AHEAD frames are sought, smaller ones are read through."""
    far = load(hundred, max_frames=2)
    assert [read_number(frame) for frame in far.pixels] == [0, 99]
    near = load(hundred, fps=10, max_frames=100)
    assert [read_number(frame) for frame in near.pixels] == list(range(100))


def test_a_window(hundred: Path) -> None:
    media = load(hundred, fps=2, start_s=4, end_s=6)
    assert [read_number(frame) for frame in media.pixels] == [i for i, _ in media.frames] == [40, 46, 53, 59]


def test_colours_are_rgb(hundred: Path) -> None:
    top, bottom = load(hundred).pixels[0][4, 8], load(hundred).pixels[0][60, 8]
    assert top[0] > 180 and top[2] < 80, "red on top"
    assert bottom[2] > 180 and bottom[0] < 80, "blue below"


def test_a_clip_of_one_frame_is_shown_twice(tmp_path: Path) -> None:
    media = load(write_coded_clip(tmp_path / "one.mp4", 1))
    assert media.frames == ((0, 0.0), (0, 0.0))
    assert (media.pixels[0] == media.pixels[1]).all()


def test_same_clip_same_hash_other_frames_other_hash(hundred: Path) -> None:
    assert load(hundred).sha256 == load(hundred).sha256 != load(hundred, fps=1).sha256


def test_0_bytes(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    assert "the clip is empty (0 bytes)" in refused(tmp_path / "empty.mp4")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"this is only text, whatever its name says", "not a clip: the bytes are plain text"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "not a clip: the bytes are plain text"),
        (bytes(range(200)), "data of an unknown format"),
        (b"\x00\x00\x00\x20ftypisom" + bytes(500), "cannot be opened"),
    ],
)
def test_what_is_no_clip(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "a.mp4").write_bytes(data)
    assert words in refused(tmp_path / "a.mp4")


@pytest.mark.parametrize("container", CONTAINERS)
def test_half_a_clip_is_refused(tmp_path: Path, container: str) -> None:
    path = write_coded_clip(tmp_path / f"a.{container}", 60, codec=CONTAINERS[container])
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    message = refused(path)
    assert "cut off" in message or "it ends after frame" in message


def test_a_container_without_frames(tmp_path: Path) -> None:
    path = write_coded_clip(tmp_path / "none.avi", 0, codec="MJPG")
    assert "frames" in refused(path) or "cannot be opened" in refused(path)


def test_limits(hundred: Path) -> None:
    assert "lasts 10 s; at most 5 s" in refused(hundred, MediaLimits(max_seconds=5))
    assert "160 x 64 pixels; at most 10,000" in refused(hundred, MediaLimits(max_pixels=10_000))
    assert "20 frames asked for; at most 8" in refused(hundred, MediaLimits(max_frames=8), max_frames=20)
    assert "longer than 0 s" in refused(hundred, MediaLimits(decode_timeout_s=0.0))
    assert "the start is at 11 s, but the clip lasts 10 s" in refused(hundred, start_s=11)
    assert load(hundred, MediaLimits(max_frames=8)).pixels.shape[0] == 8


def test_frames_that_do_not_fit_together_are_made_smaller(hundred: Path) -> None:
    """20 frames of 160 x 64 in a budget of 2 x 20,000 pixels: 2,000 each. Still the right frames, and said so."""
    media = load(hundred, MediaLimits(max_pixels=20_000))
    count, height, width, _ = media.pixels.shape
    assert count == 20 and count * height * width <= 40_000 and height * width > 1_500
    assert media.decoded_px == (160, 64)
    assert [read_number(frame) for frame in media.pixels] == [index for index, _ in media.frames]


def animation(kind: str, durations_ms: list[int]) -> bytes:
    images = [Image.fromarray(coded_frame(number)) for number in range(len(durations_ms))]
    out = io.BytesIO()
    lossless = {"lossless": True} if kind == "WEBP" else {}
    images[0].save(out, kind, save_all=True, append_images=images[1:], duration=durations_ms, **lossless)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_sent_as_a_clip(kind: str) -> None:
    """Frames with their own durations: 100 ms each but the third, which stands for a second."""
    data = animation(kind, [100, 100, 1000, 100, 100, 100])
    url = pictures.data_url(data, "video/mp4")
    media = load_media(Part("video", url=url), MediaLimits(), FrameSampling(fps=4))
    assert [read_number(frame) for frame in media.pixels] == [index for index, _ in media.frames]
    starts_s = [0.0, 0.1, 0.2, 1.2, 1.3, 1.4]
    assert [time_s for _, time_s in media.frames] == [starts_s[index] for index, _ in media.frames]
    assert media.duration_s == pytest.approx(1.5)


def test_a_still_sent_as_a_clip_and_a_clip_sent_as_a_picture(hundred: Path) -> None:
    still = Part("video", url=pictures.picture_url(), param="here")
    with pytest.raises(BadMedia, match=r"here: this is a still picture \(PNG\), not a clip; send it as image_url"):
        load_media(still, MediaLimits(), FrameSampling())
    clip = Part("image", path=str(hundred), param="here")
    with pytest.raises(BadMedia, match=r"here: this is a clip \(MP4\), not a picture; send it as video_url"):
        load_media(clip, MediaLimits(), FrameSampling())


def test_not_a_picture_and_sound() -> None:
    for kind, data, words in (
        ("image", b"hello", "this is not a picture: the bytes are plain text"),
        ("image", b"", "the picture is empty"),
        ("image", b"RIFF\x00\x00\x00\x00WAVE", r"this is a sound \(WAV\), not a picture"),
        ("image", b"\x00\x00\x00\x18ftypheic", "the picture cannot be decoded: its data is damaged"),
        ("audio", b"RIFF\x00\x00\x00\x00WAVE", "cannot be decoded"),
    ):
        part = Part(kind, url=pictures.data_url(data), param="here")  # type: ignore[arg-type]
        with pytest.raises(BadMedia, match=f"here: .*{words}"):
            load_media(part, MediaLimits(), FrameSampling())
