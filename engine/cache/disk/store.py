"""Arrays in a folder, bounded by bytes, least recently used first. Engine thread only; its two threads read and write.

    save ──> Writer ──> DIR/SCOPE/GROUP-KEY.safetensors ──> Reader ──> receive

Whatever is wrong with a file (missing, damaged, not permitted) counts as a file that is not there. After a write has
failed (a full disk, a read-only one) nothing is written for a pause, which grows while it goes on.
"""

from __future__ import annotations

import errno
import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from engine.cache.disk import checksummed
from engine.cache.disk.arrays import is_supported, to_tensor
from engine.cache.disk.backoff import Backoff
from engine.cache.disk.checksummed import Contents
from engine.cache.disk.index import FileIndex, StoredFile, prepare, scan
from engine.cache.disk.reader import Reader, Reading
from engine.cache.disk.writer import Job, ScanResult, Writer, WriteResult
from engine.types import DiskStats

log = logging.getLogger(__name__)

_MAX_QUEUE_BYTES = 128 * 1024**2
_SCAN_S = 30.0
"""While the engine is idle, the index is compared with the folder as often as this."""

_SHORTAGE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)


@dataclass(slots=True)
class _Pending:
    """A file that is being written. Holds its arrays, so that their memory stays as it is and is freed by the engine
    thread."""

    file: StoredFile
    number: int
    arrays: list[mx.array]


class DiskStore:
    """The files of one scope by (group, key), and the bytes of all."""

    def __init__(
        self,
        folder: Path,
        scope: str,
        max_bytes: int,
        max_queue_bytes: int = _MAX_QUEUE_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._backoff = Backoff(clock=clock)
        self._index = FileIndex(folder, scope)
        self._pending: dict[Path, _Pending] = {}
        self._pending_bytes = 0
        self._removed: set[Path] = set()
        self._next_scan_s = clock() + _SCAN_S
        self._scanning = False
        self._hits = self._writes = self._faults = self._evictions = 0
        self._writer = Writer(max_queue_bytes)
        self._reader = Reader()
        prepare(folder, scope)
        with suppress(OSError):
            for file in scan(folder):
                self._index.add(file)
        # What the disk has room for may be less than what the folder is allowed.
        self._capacity_bytes: float = float("inf")
        with suppress(OSError):
            self._capacity_bytes = self._index.num_bytes + shutil.disk_usage(folder).free
        self._make_room(0)

    # What is there.

    def holds(self, group: str, key: str) -> bool:
        """Whether it is on disk, or being written."""
        self._settle()
        return self._index.get(group, key) is not None or self._index.path(group, key) in self._pending

    def has(self, group: str, key: str) -> bool:
        """Whether it is on disk, and can be read."""
        self._settle()
        return self._index.get(group, key) is not None

    def keys(self, group: str) -> list[str]:
        """What a group holds on disk, oldest first."""
        self._settle()
        return self._index.keys(group)

    def facts(self, group: str, key: str) -> dict[str, str] | None:
        """What the header of a file says of it, not checked against its digest; None when that was not read yet, see
        `read_facts`, and when there is no such file."""
        file = self._index.get(group, key)
        return None if file is None else file.facts

    def touch(self, group: str, key: str) -> None:
        """Most recently used, also after a restart."""
        if (file := self._index.get(group, key)) is not None:
            self._index.touch(file)
            self._writer.touch(file.path)

    # Reading.

    @property
    def is_stuck(self) -> bool:
        """Whether the disk still owes an answer that nobody waits for any more, see `give_up`."""
        return self._reader.is_stuck

    def silent_s(self, since_s: float) -> float:
        """For how many seconds the disk has not answered anything, since since_s (time.monotonic) at the earliest."""
        return time.monotonic() - max(since_s, self._reader.answered_s)

    def read(self, group: str, key: str) -> Reading | None:
        """Begin to read a file, off this thread. Every Reading wants one `receive` or `release`.

        Returns None when it is not on disk, or the disk is stuck.
        """
        file = self._index.get(group, key)
        if file is None or self._reader.is_stuck:
            return None
        return self._reader.read(file.path, file.num_bytes)

    def receive(self, group: str, key: str, reading: Reading) -> Contents | None:
        """What was read, once it is done. Returns None when the file is damaged, or was dropped meanwhile."""
        try:
            contents, error = reading.contents.result(timeout=0), None
        except Exception as e:
            contents, error = None, e
        self._reader.release(reading)
        file = self._index.get(group, key)
        if file is None:
            return None
        if contents is None or contents.facts.get("scope") != self._index.scope:
            log.debug("%s cannot be read: %s", file.path, error or "it is not as it was written")
            self._faults += 1
            if isinstance(error, FileNotFoundError):
                self._next_scan_s = self._clock()  # somebody else deletes here
            if not _is_shortage(error):
                self._drop(file)
            return None
        self._hits += 1
        file.facts = contents.facts
        self.touch(group, key)
        return contents

    def release(self, reading: Reading) -> None:
        """What was read is not wanted any more."""
        self._reader.release(reading)

    def give_up(self, future: Future[Any]) -> None:
        """The disk has taken too long over this: nothing more is read until it has answered."""
        log.warning("the disk cache does not answer: %s", self._index.folder)
        self._faults += 1
        self._reader.give_up(future)

    def read_facts(self, group: str, keys: Sequence[str]) -> Future[Any]:
        """Begin to read the headers of these files, off this thread; when it is done, give it to `receive_facts`."""
        return self._reader.facts([self._index.path(group, key) for key in keys])

    def receive_facts(self, group: str, keys: Sequence[str], future: Future[Any]) -> None:
        """From now on `facts` knows these files."""
        for key, facts in zip(keys, future.result(timeout=0), strict=True):
            if (file := self._index.get(group, key)) is not None and file.facts is None:
                file.facts = facts

    def count_fault(self) -> None:
        """A file was as it was written and yet could not be used."""
        self._faults += 1

    # Writing.

    @property
    def may_write(self) -> bool:
        """Whether there is no pause after a failed write, and no attempt after one that is not over yet."""
        self._settle()
        return self._backoff.may_try and not (self._backoff.is_failing and self._pending)

    def save(self, group: str, key: str, arrays: Mapping[str, mx.array], facts: Mapping[str, str]) -> bool:
        """Hand arrays to the writer, without a copy. They must never be changed in place by anyone.

        Returns True when they are on disk or being written; False when they will not be: the writer has too much to do,
        they are too large, or the disk could not be written to a moment ago.
        """
        if self.holds(group, key):
            return True
        if not self.may_write:
            return False
        held = [mx.contiguous(array) for array in arrays.values()]
        if not all(map(is_supported, held)):
            return False
        mx.eval(held)
        tensors = dict(zip(arrays, map(to_tensor, held), strict=True))
        facts = {**facts, "scope": self._index.scope}
        num_bytes = checksummed.num_bytes(tensors, facts)
        if num_bytes > self._max_bytes or not self._writer.has_room(num_bytes):
            return False
        self._make_room(num_bytes)
        path = self._index.path(group, key)
        file = StoredFile(path, self._index.scope, group, key, num_bytes, dict(facts))
        number = self._writer.write(Job(path, tensors, facts, num_bytes))
        self._pending[path] = _Pending(file, number, held)
        self._pending_bytes += num_bytes
        return True

    def wait(self, timeout_s: float) -> bool:
        """Wait until the writer has finished a file. Returns False when it had none, or did not finish in time."""
        before, until = len(self._pending), time.monotonic() + timeout_s
        while before and (left_s := until - time.monotonic()) > 0:
            self._settle(left_s)
            if len(self._pending) < before:
                return True
        return False

    def drop(self, group: str, key: str) -> None:
        """Delete a file, and the whole tree of blocks that continue from it."""
        self._settle()
        tree = [(group, key)]
        while tree:
            group, key = tree.pop()
            tree += [(key, child) for child in self._index.keys(key)]
            tree += [(key, pending.file.key) for pending in self._pending.values() if pending.file.group == key]
            if (file := self._index.get(group, key)) is not None:
                self._drop(file)
            elif (path := self._index.path(group, key)) in self._pending:
                self._cancel(path)

    def clear(self) -> None:
        """Delete everything of this scope."""
        for path in tuple(self._pending):
            self._cancel(path)
        for file in self._index:
            if file.scope == self._index.scope:
                self._drop(file)

    def idle(self) -> None:
        """Compare the index with the folder now and then: somebody else may have emptied it."""
        self._settle()
        if self._clock() >= self._next_scan_s and not self._scanning:
            self._scanning = True
            self._removed.clear()
            self._writer.scan(self._index.folder)

    def close(self, timeout_s: float) -> None:
        """End the threads, when what is to be written is written or when the time is up."""
        self._reader.stop()
        self._writer.stop(timeout_s)
        self._settle()

    def stats(self) -> DiskStats:
        """Sizes and counters, as the API shows them."""
        self._settle()
        return DiskStats(
            enabled=True,
            num_bytes=self._index.num_bytes,
            max_bytes=self._max_bytes,
            files=len(self._index),
            blocks=self._index.num_blocks(),
            features=len(self._index.keys("features")),
            snapshots=len(self._index.keys("snapshots")),
            pending=len(self._pending),
            hits=self._hits,
            writes=self._writes,
            faults=self._faults,
            evictions=self._evictions,
            failing=self._backoff.is_failing,
        )

    def _settle(self, wait_s: float = 0.0) -> None:
        """Take over what the writer has done."""
        for result in self._writer.results(wait_s if self._pending else 0.0):
            if isinstance(result, ScanResult):
                if result.files is not None:
                    self._index.reconcile(result.files, self._removed)
                self._next_scan_s, self._scanning = self._clock() + _SCAN_S, False
                continue
            pending = self._pending.get(result.path)
            if pending is not None and pending.number == result.number:
                self._written(pending, result)
            # Otherwise it was dropped meanwhile, and its deletion is queued.

    def _written(self, pending: _Pending, result: WriteResult) -> None:
        self._forget_pending(result.path)
        if result.error:
            self._faults += 1
            if self._backoff.failed():
                log.warning(
                    "the disk cache cannot write %s: %s; it tries again in %d s",
                    result.path.parent,
                    result.error,
                    self._backoff.pause_s,
                )
        else:
            if self._backoff.is_failing:
                log.info("the disk cache can write again: %s", result.path.parent)
            self._backoff.succeeded()
            self._writes += 1
            self._index.add(pending.file)
        if result.free_bytes is not None:
            self._capacity_bytes = self._index.num_bytes + result.free_bytes

    def _forget_pending(self, path: Path) -> None:
        self._pending_bytes -= self._pending.pop(path).file.num_bytes

    def _cancel(self, path: Path) -> None:
        """Delete a file as soon as it is written."""
        self._forget_pending(path)
        self._delete(path)

    def _drop(self, file: StoredFile) -> None:
        self._index.remove(file)
        self._delete(file.path)

    def _delete(self, path: Path) -> None:
        self._removed.add(path)
        self._writer.remove(path)

    def _make_room(self, num_bytes: int) -> None:
        """Delete the oldest files until so many bytes more fit into the folder's limit and on its disk."""
        limit = min(self._max_bytes, self._capacity_bytes)
        while self._index.num_bytes + self._pending_bytes + num_bytes > limit:
            file = self._index.next_to_evict()
            if file is None:
                return
            self._drop(file)
            self._evictions += 1


def _is_shortage(error: Exception | None) -> bool:
    """Whether this says nothing about the file that was to be read."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _SHORTAGE)
