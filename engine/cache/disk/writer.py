"""The thread that writes to the cache's folder, so that a slow disk holds up nobody. Knows files, not MLX.

    engine thread ── jobs, at most max_bytes of them ──> writer thread ── results, in the same order ──> engine thread

The bytes of a job are views of arrays that belong to the engine thread. The writer releases the views before it
reports; the engine thread keeps the arrays until then.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue

from engine.cache.disk import checksummed
from engine.cache.disk.checksummed import Tensor
from engine.cache.disk.index import StoredFile, scan

log = logging.getLogger(__name__)

_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Job:
    """A file to write."""

    path: Path
    tensors: Mapping[str, Tensor]
    facts: Mapping[str, str]
    num_bytes: int


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What became of one file that was to be written. error: why it could not be, or "". free_bytes: what its disk had
    left after it, as far as is known."""

    path: Path
    number: int
    num_bytes: int
    error: str
    free_bytes: int | None


@dataclass(frozen=True, slots=True)
class ScanResult:
    """Every file of ours that was in the folder; None when it could not be looked at."""

    files: list[StoredFile] | None


class Writer:
    """Starts its thread when it is made. Every method is the engine thread's."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._number = 0
        self._pending_bytes = 0
        self._jobs: SimpleQueue[Callable[[], WriteResult | ScanResult | None] | None] = SimpleQueue()
        self._results: SimpleQueue[WriteResult | ScanResult] = SimpleQueue()
        # A daemon: a disk that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="cache-writer", daemon=True)
        self._thread.start()

    def has_room(self, num_bytes: int) -> bool:
        """Whether a job of this size would be accepted. One larger than the whole queue is, when it is alone."""
        return not self._pending_bytes or self._pending_bytes + num_bytes <= self._max_bytes

    def write(self, job: Job) -> int:
        """Queue a file. Returns the number that its WriteResult will carry."""
        self._number += 1
        self._pending_bytes += job.num_bytes
        self._jobs.put(partial(_write, job, self._number))
        return self._number

    def remove(self, path: Path) -> None:
        """Queue a deletion, behind every write that was queued before it."""
        self._jobs.put(partial(checksummed.remove, path))

    def touch(self, path: Path) -> None:
        """Queue a mark that a file was just used, which a restart finds."""
        self._jobs.put(partial(_touch, path))

    def scan(self, folder: Path) -> None:
        """Queue a look at what is in the folder, behind every write that was queued before it."""
        self._jobs.put(partial(_scan, folder))

    def results(self, wait_s: float = 0.0) -> Iterator[WriteResult | ScanResult]:
        """What was done since the last call, in order. Waits up to wait_s seconds for the first."""
        while True:
            try:
                result = self._results.get(timeout=wait_s) if wait_s > 0 else self._results.get_nowait()
            except Empty:
                return
            wait_s = 0.0
            if isinstance(result, WriteResult):
                self._pending_bytes -= result.num_bytes
            yield result

    def stop(self, timeout_s: float) -> None:
        """End the thread once it has done what is queued. Returns after timeout_s seconds whether it has or not."""
        self._jobs.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        """The thread."""
        while (job := self._jobs.get()) is not None:
            try:
                result = job()
            except Exception:  # the thread goes on: a cache that fails costs a miss
                log.exception("the disk cache failed")
                continue
            if result is not None:
                self._results.put(result)


def _write(job: Job, number: int) -> WriteResult:
    error, is_full = "", False
    try:
        checksummed.write(job.path, job.tensors, job.facts)
    except Exception as e:  # whatever it is, it is one file that is not kept
        error, is_full = str(e) or type(e).__name__, isinstance(e, OSError) and e.errno in _FULL
    finally:
        for tensor in job.tensors.values():
            tensor.data.release()
    return WriteResult(job.path, number, job.num_bytes, error, 0 if is_full else _free_bytes(job.path.parent))


def _free_bytes(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _scan(folder: Path) -> ScanResult:
    try:
        return ScanResult(scan(folder))
    except OSError:
        return ScanResult(None)


def _touch(path: Path) -> None:
    with suppress(OSError):
        os.utime(path)
