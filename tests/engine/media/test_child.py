"""child: a clip is decoded in a process of its own; what happens to that process ends one request only."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
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
from tests.engine.media.clip_writer import EVEN, RECIPES, Recipe, write
from tests.engine.media.clips import read_number, write_coded_clip
from tests.waiting import wait_until

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


def tint(recipe: Recipe, level: int) -> bytes:
    """A clip that is grey of about one level, in every pixel of every frame."""
    frame = np.full((recipe.size[1], recipe.size[0], 3), level, np.uint8)
    return write(recipe.but(times_s=EVEN[:6]), [frame] * 6)


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


def test_a_killed_child_fails_one_clip(decoder: Decoder, clip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder.decode(CLIP, clip, LIMITS, FRAMES)
    pid = decoder.pid
    assert pid is not None and pid != os.getpid()
    os.kill(pid, signal.SIGSTOP)  # so that it is surely in the middle of it
    received = child._received
    with monkeypatch.context() as patch:
        patch.setattr(child, "_received", lambda *args: (os.kill(pid, signal.SIGKILL), received(*args))[1])
        with pytest.raises(BadMedia, match=r"here: .* \(killed by SIGKILL\)"):
            decoder.decode(CLIP, clip, LIMITS, FRAMES)
    assert len(decoder.decode(CLIP, clip, LIMITS, FRAMES).frames) == 6
    assert decoder.pid not in (None, pid)


def test_one_that_died_while_idle_fails_nothing(decoder: Decoder, clip: bytes) -> None:
    decoder.decode(CLIP, clip, LIMITS, FRAMES)
    pid = decoder.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: decoder.pid is None, "it lives")
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


POISON = 0x80
"""What fresh memory of the child is filled with (glibc's M_PERTURB: malloc(3) gives the byte's complement)."""

DARK, BRIGHT = 30, 225


@pytest.fixture(scope="module")
def poisoned() -> Iterator[Decoder]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MALLOC_PERTURB_", str(0xFF - POISON))
        made = Decoder()
        made._started(time.monotonic() + 10)
    yield made
    made.close()


def strangers(pixels: np.ndarray, level: int) -> int:
    """How many pixels are neither of the level nor what a codec makes of it."""
    return int((np.abs(pixels.astype(int) - level) > 25).sum())


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's poison")
def test_two_tenants_in_turn_see_nothing_of_each_other(poisoned: Decoder) -> None:
    """200 clips of one size, one dark and one bright, in memory that is full of grey."""
    interlaced = RECIPES["MPEG-TS", "MPEG-2"].but(codec={"flags": "+ilme+ildct", "b": "4M"})
    names = (("MP4", "H.264"), ("WebM", "VP8"), ("MPEG-TS", "MPEG-2"), ("AVI", "MJPEG"), ("MOV", "ProRes 4444"))
    recipes = [*(RECIPES[name] for name in names), interlaced]
    clips = [[tint(recipe, level) for level in (DARK, BRIGHT)] for recipe in recipes]
    pid = poisoned.pid
    for turn in range(200):
        which, level = turn % 2, (DARK, BRIGHT)[turn % 2]
        media = poisoned.decode(CLIP, clips[turn // 2 % len(clips)][which], LIMITS, FRAMES)
        assert strangers(media.pixels, level) == 0, f"clip {turn}"
    assert poisoned.pid == pid is not None


def test_twin_a_row_that_nobody_wrote_is_seen() -> None:
    pixels = np.full((2, 96, 320, 3), DARK, np.uint8)
    pixels[1, -1] = POISON
    assert strangers(pixels, DARK) == 320 * 3 and strangers(pixels[:1], DARK) == 0


def test_no_array_is_left_as_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """What decoding makes room with is full of poison before it is written."""
    data = tint(RECIPES["MP4", "H.264"], DARK)

    def filled(shape: object, dtype: object = float, **_: object) -> np.ndarray:
        return np.full(shape, POISON, dtype)  # type: ignore[call-overload]

    monkeypatch.setattr(np, "empty", filled)
    monkeypatch.setattr(np, "zeros", filled)
    assert strangers(decode_moving(CLIP, data, LIMITS, FRAMES).pixels, DARK) == 0


def message(data: bytes) -> bytes:
    return len(data).to_bytes(8, "big") + data


SHAPE = message(b'{"shape": [2, 4, 4, 3]}')
FRAME = message(bytes(48))
LIES = {
    "a clip of terabytes": message(b'{"shape": [2, 1000000, 1000000, 3]}'),
    "more frames than are allowed": message(b'{"shape": [100000, 4, 4, 3]}'),
    "less than nothing": message(b'{"shape": [-2, -4, 4, 3]}'),
    "four channels": message(b'{"shape": [2, 4, 4, 4]}'),
    "no shape": message(b"{}"),
    "a shape of words": message(b'{"shape": ["a", [], {}, null]}'),
    "a shape beyond floats": message(b'{"shape": [1e999, 4, 4, 3]}'),
    "no object": message(b"[1, 2, 3]"),
    "no JSON": message(b"\xff\xfe nonsense"),
    "deep JSON": message(b"[" * 100_000),
    "an endless message": (1 << 62).to_bytes(8, "big"),
    "a frame too large": SHAPE + message(bytes(49)),
    "a frame too small": SHAPE + message(bytes(47)),
    "an end before the frames": SHAPE + FRAME,
    "facts without times": SHAPE + FRAME * 2 + message(b'{"frames": []}'),
    "times that are none": SHAPE + FRAME * 2 + message(b'{"frames": [[0, "x"], [1, 2]], "decoded_px": [4, 4]}'),
    "an error without a reason": SHAPE + message(b"") + message(b"{}"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_child_that_lies_is_closed_and_only_it(
    decoder: Decoder, clip: bytes, lie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it says costs no memory and ends one request; the next one has another child."""
    liar = Decoder()
    ours, theirs = socket.socketpair()
    liar._socket = ours
    monkeypatch.setattr(liar, "_started", lambda deadline: ours)
    theirs.sendall(LIES[lie])
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(BadMedia, match=r"here: the clip \(MP4\) cannot be decoded: the process that reads clips ended"):
        liar.decode(CLIP, clip, LIMITS, FRAMES)
    assert liar._socket is None and ours.fileno() == -1, "its link is closed"
    assert len(decoder.decode(CLIP, clip, LIMITS, FRAMES).frames) == 6


def test_no_memory_for_what_it_sends(decoder: Decoder, clip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link is in the middle of a message then: it is not used again."""
    decoder.decode(CLIP, clip, LIMITS, FRAMES)
    pid = decoder.pid

    def none_left(*_: object, **__: object) -> np.ndarray:
        raise MemoryError

    monkeypatch.setattr(np, "zeros", none_left)
    with pytest.raises(BadMedia, match=r"here: the clip \(MP4\) cannot be decoded"):
        decoder.decode(CLIP, clip, LIMITS, FRAMES)
    monkeypatch.undo()
    assert len(decoder.decode(CLIP, clip, LIMITS, FRAMES).frames) == 6
    assert decoder.pid != pid


def test_a_clip_is_sent_once(clip: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not also as the data: URL that it came in."""
    sent: list[bytes] = []
    real = child._send
    monkeypatch.setattr(
        child, "_send", lambda link, data, deadline: (sent.append(bytes(data)), real(link, data, deadline))
    )
    made = Decoder()
    url = "data:video/mp4;base64," + "QUJD" * 1000
    made.decode(replace(CLIP, url=url), clip, LIMITS, FRAMES)
    made.close()
    assert len(sent) == 2 and sent[1] == clip and b"QUJDQUJD" not in sent[0]


SPOILT = (
    ("MP4", "H.264"),
    ("MP4", "HEVC"),
    ("WebM", "VP9"),
    ("MKV", "MPEG-2"),
    ("AVI", "MPEG-4"),
    ("MPEG-TS", "H.264"),
    ("WMV", "WMV 8"),
    ("FLV", "Sorenson"),
    ("MOV", "ProRes"),
)


@pytest.mark.parametrize("row", SPOILT, ids=" ".join)
def test_damage_is_read_or_refused(decoder: Decoder, row: tuple[str, str]) -> None:
    """Bytes changed at random places: frames or a reason, and the child goes on."""
    rng = np.random.default_rng(13)
    data = write(RECIPES[row].but(times_s=EVEN[:20]))
    pid = decoder.pid
    for _ in range(12):
        bad = bytearray(data)
        for at in rng.integers(0, len(bad), 20):
            bad[at] = rng.integers(256)
        try:
            media = decoder.decode(CLIP, bytes(bad), LIMITS, FRAMES)
        except BadMedia as error:
            assert error.message.startswith("here: ")
        else:
            assert len(media.frames) == len(media.pixels) and media.num_source_frames >= 1
    decoder.decode(CLIP, data, LIMITS, FRAMES)
    assert pid is None or decoder.pid == pid, "the same process"


def test_a_damaged_animation_of_avif(decoder: Decoder) -> None:
    """Its plugin raises what it likes: that is an error of this file."""
    frames = [Image.fromarray(np.random.default_rng(k).integers(0, 255, (48, 64, 3), np.uint8)) for k in range(6)]
    out = io.BytesIO()
    frames[0].save(out, "AVIF", save_all=True, append_images=frames[1:], duration=100)
    data = bytearray(out.getvalue())
    decoder.decode(CLIP, bytes(data), LIMITS, FRAMES)
    pid = decoder.pid
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    with pytest.raises(BadMedia, match="here: "):
        decoder.decode(CLIP, bytes(data), LIMITS, FRAMES)
    assert decoder.pid == pid


def grey_4k(tiles: np.ndarray) -> av.VideoFrame:
    """(27, 48) uint8 as a frame of 3840 x 2160."""
    frame = av.VideoFrame(3840, 2160, "yuv420p")
    for plane, level in zip(frame.planes, (tiles.repeat(80, 0).repeat(80, 1), 128, 128), strict=True):
        plane.update(np.broadcast_to(np.uint8(level), (plane.height, plane.line_size)).tobytes())
    return frame


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_minute_of_4k_stays_under_400_mb() -> None:
    """30 frames of 8 megapixels would be 750 MB: the child holds one."""
    times_s = tuple(2.0 * k for k in range(30))
    recipe = RECIPES["MP4", "H.264"].but(size=(3840, 2160), times_s=times_s, rate=None)
    tiles = np.random.default_rng(4).integers(0, 255, (27, 48), np.uint8)
    data = write(recipe, [grey_4k(np.roll(tiles, k, axis=1)) for k in range(30)])
    made = Decoder()
    media = made.decode(CLIP, data, LIMITS, FrameSampling())
    status = Path(f"/proc/{made.pid}/status").read_text()
    made.close()
    assert len(media.frames) == 30 and media.decoded_px == (3840, 2160)
    assert int(status.split("VmHWM:")[1].split()[0]) < 400 * 1024, "KiB"


def test_the_server_does_not_load_the_decoder_of_clips() -> None:
    """Its imports would lengthen every start by some 70 ms; clips are decoded in the child."""
    code = "import sys, engine.core, engine.media.child, engine.media.read_medium; assert 'av' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
