"""Clips are decoded in a process of their own, with limits: what a damaged or hostile file does to a decoder ends one
request, not the server.

    media pool ── part, limits, sampling, bytes ──> child: open_moving
    Media <── shape, frame by frame its pixels, facts ──

A child starts at the first clip (some 0.3 s), serves one clip at a time and stays. It is a fresh interpreter, not a
fork: a process that runs MLX must not be forked. What comes back is data only, never a pickle: a child that was taken
over could not do more than lie about a clip. It holds one frame at a time, and the parent makes room for no more than a
clip may have, whatever it is told.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.config import MediaLimits
from engine.errors import BadMedia
from engine.media.frames import CLIP_PIXELS, PAIR
from engine.media.medium import bad_media, content_sha256
from engine.media.sniff import sniff
from engine.types import FrameSampling, Part
from engine.types.media import Media, Pixels

if TYPE_CHECKING:
    from engine.media.chosen import ChosenFrames

log = logging.getLogger(__name__)

GRACE_S = 5.0
"""A child looks at the clock itself and says so in better words; only one that hangs is killed, so much later."""

_LENGTH = struct.Struct("!Q")
_MAX_FACTS_BYTES = 1 << 20


class Decoder:
    """One child and the socket to it. Belongs to one thread at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id, None while there is none."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def decode(self, part: Part, data: bytes, limits: MediaLimits, frames: FrameSampling) -> Media:
        """As decode_moving. Raises BadMedia, also for a child that dies, hangs or says what cannot be; the next call
        starts another."""
        deadline = time.monotonic() + limits.decode_timeout_s + GRACE_S
        kind = sniff(data).name
        try:
            link = self._started(deadline)
            _send(link, pickle.dumps((replace(part, url=None), limits, frames)), deadline)
            _send(link, data, deadline)
            return _received(link, part, limits, deadline)
        except BadMedia:
            raise
        except TimeoutError as e:
            self.close()
            raise bad_media(part, f"decoding the clip ({kind}) took longer than {limits.decode_timeout_s:g} s") from e
        except Exception as e:  # whatever else is wrong with what it says: it is not to be listened to any longer
            how = self.close()
            log.warning("the process that decodes clips ended at a clip (%s): %s, %r", kind, how, e)
            raise bad_media(
                part, f"the clip ({kind}) cannot be decoded: the process that reads clips ended ({how})"
            ) from e

    def kill(self) -> None:
        """From any thread: the child ends, and whoever waits for it learns so."""
        if self._process is not None:
            self._process.kill()

    def close(self) -> str:
        """End the child, if there is one, and say how it ended."""
        process, link, self._process, self._socket = self._process, self._socket, None, None
        if link is not None:
            link.close()
        if process is None:
            return "it did not start"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)  # long enough to learn why one that dies has died
        process.kill()
        return _ending(process.wait())

    def _started(self, deadline: float) -> socket.socket:
        if self._socket is None or self._process is None or self._process.poll() is not None:
            self.close()
            ours, theirs = socket.socketpair()
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "engine.media.child"],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
                )
            self._socket = ours
        self._socket.settimeout(max(0.1, deadline - time.monotonic()))
        return self._socket


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"


def _received(link: socket.socket, part: Part, limits: MediaLimits, deadline: float) -> Media:
    """The child's answer. Raises BadMedia for a clip that it refuses; anything else that is wrong with it leaves the
    link in the middle of a message."""
    head = _facts(link, part, deadline)
    pixels = np.zeros(_checked_shape(head["shape"], limits), np.uint8)
    for frame in pixels:
        length = _length(link, deadline)
        if length == 0:  # it met an error, which follows
            _facts(link, part, deadline)
            raise ValueError("a clip that ends early for no reason")
        if length != frame.nbytes:
            raise ValueError(f"a frame of {length} bytes instead of {frame.nbytes}")
        _read_into(link, frame.data.cast("B"), deadline)
    return _medium(_facts(link, part, deadline), pixels)


def _facts(link: socket.socket, part: Part, deadline: float) -> dict[str, Any]:
    facts = json.loads(_receive(link, deadline, _MAX_FACTS_BYTES))
    if not isinstance(facts, dict):
        raise TypeError("facts that are no object")
    if "error" in facts:
        raise BadMedia(str(facts["error"]), param=part.param)
    return facts


def _checked_shape(shape: Any, limits: MediaLimits) -> tuple[int, int, int, int]:
    """(T, H, W, 3) of no more than a clip may have. Raises ValueError or TypeError."""
    count, height, width, channels = (int(size) for size in shape)
    if min(count, height, width) < 1 or channels != 3 or count > limits.max_frames + PAIR:
        raise ValueError(f"a clip of shape {shape}")
    if count * height * width > CLIP_PIXELS * limits.max_pixels:
        raise ValueError(f"a clip of shape {shape}: more pixels than one may have")
    return count, height, width, channels


def _medium(facts: dict[str, Any], pixels: Pixels) -> Media:
    frames = tuple((int(index), float(time_s)) for index, time_s in facts["frames"])
    if len(frames) != len(pixels):
        raise ValueError("frames without a time")
    width, height = (int(size) for size in facts["decoded_px"])
    return Media(
        kind="video",
        pixels=pixels,
        sha256=content_sha256(pixels),
        num_bytes=int(facts["num_bytes"]),
        decoded_px=(width, height),
        frames=frames,
        source_fps=float(facts["source_fps"]),
        num_source_frames=int(facts["num_source_frames"]),
        duration_s=float(facts["duration_s"]),
    )


# both ends


def _send(link: socket.socket, data: bytes | memoryview, deadline: float) -> None:
    link.settimeout(_left(deadline))
    link.sendall(_LENGTH.pack(len(data)))
    link.sendall(data)


def _receive(link: socket.socket, deadline: float, most: int) -> bytearray:
    """One message. Raises EOFError when the other end is gone, ValueError when it is longer than `most`."""
    length = _length(link, deadline)
    if length > most:
        raise ValueError(f"a message of {length} bytes; at most {most} are read")
    data = bytearray(length)
    _read_into(link, memoryview(data), deadline)
    return data


def _length(link: socket.socket, deadline: float) -> int:
    head = bytearray(_LENGTH.size)
    _read_into(link, memoryview(head), deadline)
    return int(_LENGTH.unpack(head)[0])


def _read_into(link: socket.socket, view: memoryview, deadline: float) -> None:
    while view:
        link.settimeout(_left(deadline))
        count = link.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]


def _left(deadline: float) -> float | None:
    return None if deadline == float("inf") else max(0.001, deadline - time.monotonic())


# the child


def main() -> None:
    """Serve the socket that is this process's standard input until the other end closes it."""
    forever = float("inf")
    link = socket.socket(fileno=os.dup(0))
    with contextlib.suppress(EOFError, OSError), link:
        while True:
            part, limits, frames = pickle.loads(_receive(link, forever, 1 << 30))
            data = bytes(_receive(link, forever, limits.max_bytes))
            _limit(limits)
            _answer(link, (part, data, limits, frames))
            del data


def _answer(link: socket.socket, job: tuple[Part, bytes, MediaLimits, FrameSampling]) -> None:
    """The shape, the frames and the facts, or an error in place of any of them."""
    from engine.media.moving import open_moving

    is_begun = False
    try:
        chosen = open_moving(*job)
        _send(link, json.dumps({"shape": chosen.shape}).encode(), float("inf"))
        is_begun = True
        facts = _sent(link, chosen)
    except OSError:
        raise  # the other end is gone
    except Exception as e:
        if is_begun:
            _send(link, b"", float("inf"))
        facts = {"error": _in_words(job[0], job[1], e)}
    _send(link, json.dumps(facts).encode(), float("inf"))


def _sent(link: socket.socket, chosen: ChosenFrames) -> dict[str, Any]:
    """Every frame sent, and then what is to be said of them."""
    indices = []
    for index, pixels in chosen.frames:
        _send(link, np.ascontiguousarray(pixels).data.cast("B"), float("inf"))
        indices.append(index)
    clip = chosen.clip
    return {
        "num_bytes": chosen.num_bytes,
        "decoded_px": chosen.decoded_px,
        "frames": [(index, clip.time_s(index)) for index in indices],
        "source_fps": clip.fps,
        "num_source_frames": clip.num_frames,
        "duration_s": clip.duration_s,
    }


def _in_words(part: Part, data: bytes, error: Exception) -> str:
    if isinstance(error, BadMedia):
        return error.message
    if isinstance(error, MemoryError):
        return f"{part.param}: the clip does not fit in the memory that decoding may take"
    return f"{part.param}: the clip ({sniff(data).name}) cannot be decoded ({type(error).__name__})"


def _limit(limits: MediaLimits) -> None:
    """Seconds of CPU for this clip, and memory, where the system can (macOS ignores the second)."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = int(used.ru_utime + used.ru_stime + limits.decode_timeout_s * (os.cpu_count() or 1)) + 1
    for what, most in ((resource.RLIMIT_CPU, cpu_s), (resource.RLIMIT_AS, limits.decode_memory_bytes)):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(what, (most, resource.getrlimit(what)[1]))


if __name__ == "__main__":
    main()
