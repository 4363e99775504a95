"""The thread that reads the cache's folder, so that a slow disk holds up nobody. Knows files, not MLX.

    engine thread ── paths ──> reader thread: read, compare the digest, parse ── Contents ──> engine thread

Who reads bounds what is read and not received yet (engine.cache.disk.read_ahead). Two prompts that want the same file
share one read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from engine.cache.disk import checksummed
from engine.cache.disk.checksummed import Contents


@dataclass(eq=False, slots=True)
class Reading:
    """A file that is being read. users: how many wait for it."""

    path: Path
    num_bytes: int
    contents: Future[Contents | None]
    users: int = 0


class Reader:
    """Starts its thread when it is made. Every method is the engine thread's."""

    def __init__(self) -> None:
        self._readings: dict[Path, Reading] = {}
        self.answered_s = 0.0
        """When the disk last answered anything, on time.monotonic."""
        self._overdue: Future[Any] | None = None
        self._current: Future[Any] | None = None  # the thread's, which may be of an earlier file than the overdue one
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        # A daemon: a disk that hangs must not keep the process from ending.
        threading.Thread(target=self._run, name="cache-reader", daemon=True).start()

    def read(self, path: Path, num_bytes: int) -> Reading:
        """Read a file of this size. Every call wants one `release`."""
        reading = self._readings.get(path)
        if reading is None:
            reading = Reading(path, num_bytes, self._submit(partial(checksummed.read, path, num_bytes)))
            self._readings[path] = reading
        reading.users += 1
        return reading

    def release(self, reading: Reading) -> None:
        """One of those who waited for it does so no longer."""
        reading.users -= 1
        if not reading.users:
            reading.contents.cancel()
            del self._readings[reading.path]

    def facts(self, paths: Sequence[Path]) -> Future[list[dict[str, str]]]:
        """What the headers of these files say of them."""
        return self._submit(lambda: [checksummed.facts(path) for path in paths])

    def give_up(self, future: Future[Any]) -> None:
        """The disk took too long over this: `is_stuck` until it has answered."""
        self._overdue = self._current or future

    @property
    def is_stuck(self) -> bool:
        """Whether the disk still owes an answer that was given up. Nothing is to be read meanwhile."""
        return self._overdue is not None and not self._overdue.done()

    def stop(self) -> None:
        """End the thread once it has read what is queued. Does not wait for it."""
        self._jobs.put(None)

    def _submit(self, job: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        self._jobs.put((future, job))
        return future

    def _run(self) -> None:
        """The thread."""
        while (queued := self._jobs.get()) is not None:
            future, job = queued
            if not future.set_running_or_notify_cancel():
                continue
            self._current = future
            try:
                future.set_result(job())
            except BaseException as e:  # whatever it is, the thread goes on: a file that cannot be read is a miss
                future.set_exception(e)
            self._current, self.answered_s = None, time.monotonic()
