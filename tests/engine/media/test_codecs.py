"""Codecs and containers as people have them: H.264, HEVC, VP9; MP4, MOV, MKV, WebM; turned phones and uneven rates.

Frames carry their number, so what was decoded is read off the picture.
"""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from engine.config import EngineConfig, MediaLimits
from engine.errors import BadMedia
from engine.media.moving import decode_moving
from engine.models import registry
from engine.prompt.build import build_prompt
from engine.types import FrameSampling, Part, Request
from engine.types.media import Media
from tests.engine.drive import user
from tests.engine.media.clips import coded_frame, read_number

CLIP = Part("video", param="here")
EVEN = [i / 10 for i in range(60)]
UNEVEN = [i / 20 if i < 100 else 5 + (i - 100) / 5 for i in range(200)]
"""A hundred frames at 20 a second, then a hundred at 5: 25 seconds."""


def encoded(codec: str, container: str, times_s: list[float] = EVEN) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        stream: Any = file.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.gop_size = 12
        stream.codec_context.thread_count = 1  # see clip_writer
        for number, time_s in enumerate(times_s):
            frame = av.VideoFrame.from_ndarray(coded_frame(number), format="rgb24")
            frame.pts, frame.time_base = round(time_s * 1000), Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return out.getvalue()


def decode(data: bytes, **frames: Any) -> Media:
    return decode_moving(CLIP, data, MediaLimits(), FrameSampling(**frames))


def check(media: Media, times_s: list[float]) -> None:
    """Every frame is the one that its index names, at its true time."""
    indices = [index for index, _ in media.frames]
    assert [read_number(frame) for frame in media.pixels] == indices
    assert [time_s for _, time_s in media.frames] == pytest.approx([times_s[i] for i in indices], abs=0.002)


@pytest.mark.parametrize(
    ("codec", "container"),
    [
        ("libx264", "mp4"),
        ("libx264", "mov"),
        ("libx264", "matroska"),
        ("libx265", "mp4"),
        ("libx265", "matroska"),
        ("libvpx-vp9", "webm"),
        ("libvpx", "webm"),
    ],
)
def test_what_cameras_and_browsers_write(codec: str, container: str) -> None:
    media = decode(encoded(codec, container), max_frames=6)
    check(media, EVEN)
    assert [index for index, _ in media.frames] == [0, 12, 24, 35, 47, 59]
    assert (media.decoded_px, media.num_source_frames) == ((160, 64), 60)


def turned(data: bytes) -> bytes:
    """The MP4 with a quarter turn in its track header, as a phone held upright writes it (ISO/IEC 14496-12, 8.3.2)."""
    at = data.index(b"tkhd") + 44
    assert struct.unpack(">9i", data[at : at + 36])[0] == 1 << 16
    matrix = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 64 << 16, 0, 1 << 30)
    return data[:at] + matrix + data[at + 36 :]


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_a_turned_phone(codec: str) -> None:
    """Shown upright, as a player would. Twin: without the turn it lies."""
    data = encoded(codec, "mp4")
    media = decode(turned(data), max_frames=4)
    assert media.decoded_px == (64, 160)
    assert [read_number(np.rot90(frame)) for frame in media.pixels] == [index for index, _ in media.frames]
    assert decode(data, max_frames=4).decoded_px == (160, 64)


@pytest.mark.parametrize(("codec", "container"), [("libx264", "mp4"), ("libx264", "matroska"), ("libvpx-vp9", "webm")])
@pytest.mark.parametrize("count", [4, 8, 40])
def test_an_uneven_rate(codec: str, container: str, count: int) -> None:
    """Evenly in time, not in frames, and every time is true."""
    media = decode(encoded(codec, container, UNEVEN), fps=10, max_frames=count)
    check(media, UNEVEN)
    times_s = [time_s for _, time_s in media.frames]
    assert count - 2 <= len(times_s) <= count
    assert np.diff(times_s) == pytest.approx(UNEVEN[-1] / (count - 1), abs=0.31)
    assert media.duration_s == pytest.approx(25, abs=0.2)


def test_a_stretch_of_an_uneven_rate() -> None:
    media = decode(encoded("libx264", "mp4", UNEVEN), start_s=10, end_s=20, max_frames=8)
    check(media, UNEVEN)
    assert all(9.8 <= time_s <= 20.2 for _, time_s in media.frames)


def test_the_prompt_says_the_true_times() -> None:
    """Twin: index over rate, which is what the processor would write, is another time."""
    loaded = registry.load(EngineConfig())
    medium = decode(encoded("libx264", "mp4", UNEVEN), max_frames=6)
    request = Request(messages=(user("What happens?"),))
    request = Request(messages=(type(request.messages[0])("user", (CLIP, *request.messages[0].parts)),))
    text = loaded.tokenizer.decode(build_prompt(loaded, request, (medium,)).ids)
    times_s = [time_s for _, time_s in medium.frames]
    for pair in zip(times_s[::2], times_s[1::2], strict=True):
        assert f"<{sum(pair) / 2:.1f} seconds>" in text
    nominal = [index / medium.source_fps for index, _ in medium.frames]
    assert max(abs(a - b) for a, b in zip(nominal, times_s, strict=True)) > 1


@pytest.mark.parametrize("times_s", [EVEN, UNEVEN], ids=["even", "uneven"])
def test_frames_by_number(times_s: list[float]) -> None:
    """Exactly those, by seeking or not; an odd last one twice."""
    data = encoded("libx264", "mp4", times_s)
    media = decode(data, indices=(0, 5, 6, 41, 59))
    check(media, times_s)
    assert [index for index, _ in media.frames] == [0, 5, 6, 41, 59, 59]
    for wrong in ((3, 2), (1, 1), (0, 900), ()):
        with pytest.raises(BadMedia, match="frames must be named once each, ascending, from 0 to"):
            decode(data, indices=wrong)
