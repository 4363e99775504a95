"""Clips are decoded in a process of their own, with limits: what a damaged or hostile file does to a decoder ends one
request, not the server.

    media pool ── part, limits, sampling, bytes ──> child: decode_moving ── facts as JSON, pixels as bytes ──> Media

A child starts at the first clip (some 0.3 s), serves one clip at a time and stays. It is a fresh interpreter, not a
fork: a process that runs MLX must not be forked. What comes back is data only, never a pickle: a child that was taken
over could not do more than lie about a clip.
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
from pathlib import Path
from typing import Any

import numpy as np

from engine.config import MediaLimits
from engine.errors import BadMedia
from engine.media.medium import refuse
from engine.types import FrameSampling, Part
from engine.types.media import Media

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
        """As decode_moving. Raises BadMedia, also for a child that dies or hangs; the next call starts another."""
        deadline = time.monotonic() + limits.decode_timeout_s + GRACE_S
        try:
            link = self._started(deadline)
            _send(link, pickle.dumps((part, limits, frames)), deadline)
            _send(link, data, deadline)
            facts = json.loads(_receive(link, deadline, _MAX_FACTS_BYTES))
            if "error" in facts:
                raise BadMedia(facts["error"], param=part.param)
            pixels = _receive(link, deadline, int(np.prod(facts["shape"])))
        except TimeoutError as e:
            self.close()
            raise refuse(part, f"decoding the clip took longer than {limits.decode_timeout_s:g} s") from e
        except (OSError, EOFError, ValueError, KeyError) as e:
            how = self.close()
            log.warning("the process that decodes clips ended: %s", how)
            raise refuse(part, f"the clip cannot be decoded: the process that reads clips ended ({how})") from e
        return _medium(facts, pixels)

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


def _medium(facts: dict[str, Any], pixels: bytearray) -> Media:
    facts["pixels"] = np.frombuffer(pixels, np.uint8).reshape(facts.pop("shape"))
    facts["frames"] = tuple((int(index), float(time_s)) for index, time_s in facts["frames"])
    facts["decoded_px"] = tuple(facts["decoded_px"])
    return Media(kind="video", **facts)


# both ends


def _send(link: socket.socket, data: bytes | memoryview, deadline: float) -> None:
    link.settimeout(_left(deadline))
    link.sendall(_LENGTH.pack(len(data)))
    link.sendall(data)


def _receive(link: socket.socket, deadline: float, most: int) -> bytearray:
    """One message. Raises EOFError when the other end is gone, ValueError when it is longer than `most`."""
    (length,) = _LENGTH.unpack(_exactly(link, _LENGTH.size, deadline))
    if length > most:
        raise ValueError("a message of another length than announced")
    return _exactly(link, length, deadline)


def _exactly(link: socket.socket, length: int, deadline: float) -> bytearray:
    data = bytearray(length)
    view = memoryview(data)
    while view:
        link.settimeout(_left(deadline))
        count = link.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    return data


def _left(deadline: float) -> float | None:
    return None if deadline == float("inf") else max(0.001, deadline - time.monotonic())


# the child


def main() -> None:
    """Serve the socket that is this process's standard input until the other end closes it."""
    forever = float("inf")
    link = socket.socket(fileno=os.dup(0))
    with contextlib.suppress(EOFError, OSError), link:
        while True:
            job = pickle.loads(_receive(link, forever, 1 << 30))
            data = bytes(_receive(link, forever, job[1].max_bytes))
            _limit(job[1])
            reply, pixels = _reply(job, data)
            _send(link, json.dumps(reply).encode(), forever)
            if pixels is not None:
                _send(link, np.ascontiguousarray(pixels).data.cast("B"), forever)


def _reply(job: tuple[Part, MediaLimits, FrameSampling], data: bytes) -> tuple[dict[str, Any], Any]:
    from engine.media.moving import decode_moving

    part, limits, frames = job
    try:
        media = decode_moving(part, data, limits, frames)
    except BadMedia as e:
        return {"error": e.message}, None
    except MemoryError:
        return {"error": f"{part.param}: the clip does not fit in the memory that decoding may take"}, None
    names = ("sha256", "num_bytes", "decoded_px", "frames", "source_fps", "num_source_frames", "duration_s")
    return {"shape": media.pixels.shape, **{name: getattr(media, name) for name in names}}, media.pixels


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
