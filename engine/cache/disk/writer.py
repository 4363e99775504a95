"""The thread that writes to the cache's folder, so that a slow disk holds up nobody. Knows files, not MLX.

    engine thread ── jobs, at most max_bytes of them ──> writer thread ── one WriteResult each ──> engine thread

The bytes of a job are views of arrays that belong to the engine thread. The writer lets go of the views before it
reports; who gave the job keeps the arrays until then.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue

from engine.cache.disk import checksummed as sealed
from engine.cache.disk.checksummed import Tensor

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """A file to write; one to remove when there are no tensors."""

    path: Path
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, str]
    num_bytes: int


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What became of one file that was to be written."""

    path: Path
    number: int
    num_bytes: int
    written: bool


class Writer:
    """Starts its thread when it is made. Every method is the engine thread's."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._number = 0
        self._pending_bytes = 0
        self._jobs: SimpleQueue[tuple[int, Job] | None] = SimpleQueue()
        self._results: SimpleQueue[WriteResult] = SimpleQueue()
        # A daemon: a disk that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="cache-writer", daemon=True)
        self._thread.start()

    def has_room(self, num_bytes: int) -> bool:
        """Whether a job of this size would be taken; one that is larger than the whole queue is, when it is alone."""
        return not self._pending_bytes or self._pending_bytes + num_bytes <= self._max_bytes

    def write(self, job: Job) -> int:
        """Queue a file. Returns the number that its WriteResult will carry."""
        self._number += 1
        self._pending_bytes += job.num_bytes
        self._jobs.put((self._number, job))
        return self._number

    def remove(self, path: Path) -> None:
        """Queue a deletion, behind every write that was queued before it."""
        self._jobs.put((0, Job(path, {}, {}, 0)))

    def results(self, wait_s: float = 0.0) -> Iterator[WriteResult]:
        """What was done since the last call. Waits up to wait_s seconds for the first."""
        while True:
            try:
                result = self._results.get(timeout=wait_s) if wait_s > 0 else self._results.get_nowait()
            except Empty:
                return
            wait_s = 0.0
            self._pending_bytes -= result.num_bytes
            yield result

    def stop(self, timeout_s: float) -> None:
        """End the thread once it has done what is queued, or leave it to itself after timeout_s seconds."""
        self._jobs.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        """The thread."""
        failing = False
        while (numbered := self._jobs.get()) is not None:
            number, job = numbered
            if not number:
                sealed.remove(job.path)
                continue
            error = _write(job)
            if error and not failing:
                log.warning("the disk cache cannot write %s: %s", job.path.parent, error)
            failing = bool(error)
            self._results.put(WriteResult(job.path, number, job.num_bytes, written=not error))


def _write(job: Job) -> str:
    """Why it could not be written, or ""."""
    try:
        sealed.write(job.path, job.tensors, job.facts)
    except Exception as e:  # whatever it is, the thread goes on: a cache that fails costs a miss
        return str(e) or type(e).__name__
    finally:
        for tensor in job.tensors.values():
            tensor.data.release()
    return ""
