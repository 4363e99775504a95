"""child: a clip is decoded in a process of its own; what happens to that process ends one request only."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from engine.config import MediaLimits
from engine.errors import BadMedia
from engine.media import child
from engine.media.child import Decoder
from engine.media.moving import decode_moving
from engine.types import FrameSampling, Part
from tests.engine.media.clips import read_number, write_coded_clip

CLIP = Part("video", param="here")
LIMITS = MediaLimits()
FRAMES = FrameSampling(max_frames=6)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    made = Decoder()
    yield made
    made.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_coded_clip(tmp_path_factory.mktemp("clips") / "a.mp4", 40).read_bytes()


def write_grey(path: Path, count: int, size: tuple[int, int]) -> bytes:
    """A clip of 5 frames a second that hardly changes."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 5.0, size)
    frame = np.full((size[1], size[0], 3), 128, np.uint8)
    for i in range(count):
        frame[:, i % size[0]] = i % 256
        writer.write(frame)
    writer.release()
    return path.read_bytes()


def test_it_gives_what_decoding_here_gives(decoder: Decoder, clip: bytes) -> None:
    there, here = decoder.decode(CLIP, clip, LIMITS, FRAMES), decode_moving(CLIP, clip, LIMITS, FRAMES)
    assert np.array_equal(there.pixels, here.pixels)
    assert there.pixels.dtype == np.uint8
    names = [name for name in here.__dataclass_fields__ if name != "pixels"]
    assert {n: getattr(there, n) for n in names if n != "samples"} == {
        n: getattr(here, n) for n in names if n != "samples"
    }
    assert [read_number(frame) for frame in there.pixels] == [index for index, _ in there.frames]


def test_animations_too(decoder: Decoder, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (32, 24), (40 * i, 0, 0)) for i in range(4)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=250)
    media = decoder.decode(CLIP, (tmp_path / "a.gif").read_bytes(), LIMITS, FrameSampling())
    assert [time_s for _, time_s in media.frames] == [0.0, 0.25, 0.5, 0.75]


def test_its_words_are_those_of_decoding_here(decoder: Decoder, clip: bytes) -> None:
    before = decoder.pid
    for data in (b"not a clip at all", clip[:600]):
        with pytest.raises(BadMedia) as there:
            decoder.decode(CLIP, data, LIMITS, FRAMES)
        with pytest.raises(BadMedia) as here:
            decode_moving(CLIP, data, LIMITS, FRAMES)
        assert (
            (there.value.message, there.value.param)
            == (here.value.message, here.value.param)
            == (here.value.message, "here")
        )
    assert decoder.pid == before, "a bad clip costs no process"


def test_a_killed_child_fails_one_clip(decoder: Decoder, clip: bytes) -> None:
    decoder.decode(CLIP, clip, LIMITS, FRAMES)
    pid = decoder.pid
    assert pid is not None and pid != os.getpid()
    os.kill(pid, signal.SIGSTOP)  # so that it is surely in the middle of it
    killer = threading.Timer(0.2, os.kill, (pid, signal.SIGKILL))
    killer.start()
    with pytest.raises(BadMedia, match=r"here: .* \(killed by SIGKILL\)"):
        decoder.decode(CLIP, clip, LIMITS, FRAMES)
    killer.join()
    assert len(decoder.decode(CLIP, clip, LIMITS, FRAMES).frames) == 6
    assert decoder.pid not in (None, pid)


def test_one_that_died_while_idle_fails_nothing(decoder: Decoder, clip: bytes) -> None:
    decoder.decode(CLIP, clip, LIMITS, FRAMES)
    pid = decoder.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    while decoder.pid is not None:
        time.sleep(0.01)
    assert len(decoder.decode(CLIP, clip, LIMITS, FRAMES).frames) == 6


def test_one_that_hangs_is_ended(decoder: Decoder, clip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder.decode(CLIP, clip, LIMITS, FRAMES)
    pid = decoder.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(child, "GRACE_S", 0.1)
    with pytest.raises(BadMedia, match=r"here: decoding the clip \(MP4\) took longer than 0\.2 s"):
        decoder.decode(CLIP, clip, replace(LIMITS, decode_timeout_s=0.2), FRAMES)
    monkeypatch.undo()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert len(decoder.decode(CLIP, clip, LIMITS, FRAMES).frames) == 6


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not hold a process to its address space")
def test_memory_is_limited(decoder: Decoder, tmp_path: Path) -> None:
    """Twin: with the usual limit, the same clip is fine, before and after."""
    data = write_grey(tmp_path / "large.mp4", 8, (1920, 1080))
    assert len(decoder.decode(CLIP, data, LIMITS, FRAMES).frames) == 4
    with pytest.raises(BadMedia, match="here: "):
        decoder.decode(CLIP, data, replace(LIMITS, decode_memory_bytes=64 * 1024**2), FRAMES)
    assert len(decoder.decode(CLIP, data, LIMITS, FRAMES).frames) == 4


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_long_clip_takes_no_more_than_its_samples(decoder: Decoder, tmp_path: Path) -> None:
    """Ten minutes against ten seconds, in a process that has decoded already."""

    def peak(seconds: int) -> int:
        data = write_grey(tmp_path / f"{seconds}.mp4", seconds * 5, (320, 240))
        media = decoder.decode(CLIP, data, LIMITS, FrameSampling(max_frames=8))
        assert len(media.frames) == 8
        assert media.duration_s == pytest.approx(seconds)
        status = Path(f"/proc/{decoder.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) - len(data) // 1024

    short = peak(10)
    assert peak(600) - short < 24 * 1024, "KiB"
