"""Arrays in a folder, bounded by bytes, least recently used first. Engine thread only, but for the writer's work.

    DIR/SCOPE/GROUP-KEY.safetensors     SCOPE: model and software; GROUP: a block's parent, "features", "snapshots"

The index is made of the file names, so a restart finds everything without opening a file. Folders of other scopes (a
model whose files have changed, another model) are never read; they count against the limit and go by age like the rest.
Names that do not look like these are nobody's business here, and are left alone.

Whatever goes wrong with a file, missing, damaged, not permitted, disk full, is a file that is not there.
"""

from __future__ import annotations

import io
import logging
import os
import re
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from engine.cache.disk import checksummed as sealed
from engine.cache.disk.checksummed import Tensor
from engine.cache.disk.writer import Job, Writer
from engine.types import DiskStats

log = logging.getLogger(__name__)

_SCOPE = re.compile(r"[0-9a-f]{32}")
_FILE = re.compile(r"([0-9a-f]{32}|[a-z]+)-([0-9a-f]{32})\.safetensors")
_MAX_QUEUE_BYTES = 128 * 1024**2
_DTYPES = {
    mx.bfloat16: "BF16",
    mx.float16: "F16",
    mx.float32: "F32",
    mx.int32: "I32",
    mx.int64: "I64",
    mx.uint32: "U32",
    mx.uint8: "U8",
    mx.bool_: "BOOL",
}


@dataclass(eq=False, slots=True)
class _File:
    """One file of the folder. facts: its header's, once they were asked for."""

    path: Path
    scope: str
    group: str
    key: str
    num_bytes: int
    facts: dict[str, str] | None = None


@dataclass(slots=True)
class _Pending:
    """A file on its way. Holds its arrays, so that their memory stays as it is and is freed by the engine thread."""

    file: _File
    number: int
    arrays: list[mx.array]


class DiskStore:
    """The files of one scope by (group, key), and the bytes of all."""

    def __init__(self, folder: Path, scope: str, max_bytes: int, max_queue_bytes: int = _MAX_QUEUE_BYTES) -> None:
        self._folder = folder
        self._scope = scope
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._pending_bytes = 0
        self._files: OrderedDict[Path, _File] = OrderedDict()
        self._groups: dict[str, dict[str, _File]] = {}
        self._pending: dict[Path, _Pending] = {}
        self._hits = self._writes = self._faults = self._evictions = 0
        self.failing = False
        """Whether the file that the writer finished last could not be written."""
        self._writer = Writer(max_queue_bytes)
        for file in _scan(folder, scope):
            self._add(file)
        self._make_room(0)

    # reading

    def holds(self, group: str, key: str) -> bool:
        """Whether it is on disk, or on its way there."""
        self._settle()
        return key in self._groups.get(group, ()) or self._path(group, key) in self._pending

    def keys(self, group: str) -> list[str]:
        """What a group holds on disk, oldest first."""
        self._settle()
        return list(self._groups.get(group, ()))

    def facts(self, group: str, key: str) -> dict[str, str]:
        """What the header of a file says of it; only `load` checks that it is true. {} when there is no such file."""
        file = self._groups.get(group, {}).get(key)
        if file is None:
            return {}
        if file.facts is None:
            file.facts = sealed.facts(file.path)
        return file.facts

    def load(self, group: str, key: str) -> tuple[dict[str, mx.array], dict[str, str]] | None:
        """The arrays of a file, evaluated, and its facts; None when it is not there or not as it was written."""
        file = self._groups.get(group, {}).get(key)
        if file is None:
            return None
        try:
            data = sealed.read(file.path)
            found = None if data is None else _arrays(data)
        except (OSError, ValueError, RuntimeError) as e:
            log.debug("%s: %s", file.path, e)
            found = None
        if found is None or found[1].get("scope") != self._scope:
            self._faults += 1
            self._drop(file)
            return None
        self._hits += 1
        self.touch(group, key)
        return found

    def touch(self, group: str, key: str) -> None:
        """Most recently used, also after a restart."""
        file = self._groups.get(group, {}).get(key)
        if file is not None:
            self._files.move_to_end(file.path)
            with suppress(OSError):
                os.utime(file.path)

    # writing

    def save(self, group: str, key: str, arrays: Mapping[str, mx.array], facts: Mapping[str, str]) -> bool:
        """Hand arrays to the writer, without a copy. They must never be changed in place by anyone.

        True when they are on disk or on their way; False when the writer has too much to do: then they are not kept.
        """
        if self.holds(group, key):
            return True
        held = [mx.contiguous(array) for array in arrays.values()]
        if any(array.dtype not in _DTYPES for array in held):
            return False
        mx.eval(held)
        tensors = {
            name: Tensor(_DTYPES[array.dtype], tuple(array.shape), _view(array))
            for name, array in zip(arrays, held, strict=True)
        }
        facts = {**facts, "scope": self._scope}
        num_bytes = sealed.num_bytes(tensors, facts)
        if num_bytes > self._max_bytes or not self._writer.has_room(num_bytes):
            return False
        self._make_room(num_bytes)
        path = self._path(group, key)
        file = _File(path, self._scope, group, key, num_bytes, dict(facts))
        number = self._writer.write(Job(path, tensors, facts, num_bytes))
        self._pending[path] = _Pending(file, number, held)
        self._pending_bytes += num_bytes
        return True

    def wait(self, timeout_s: float) -> bool:
        """Wait until the writer has finished a file. False when it had none, or did not finish in time."""
        before, until = len(self._pending), time.monotonic() + timeout_s
        while before and (left_s := until - time.monotonic()) > 0:
            self._settle(left_s)
            if len(self._pending) < before:
                return True
        return False

    def drop(self, group: str, key: str) -> None:
        """Forget a file, and the whole tree of blocks that continue from it."""
        self._settle()
        tree = [(group, key)]
        while tree:
            group, key = tree.pop()
            tree += [(key, below) for below in self._groups.get(key, ())]
            tree += [(key, pending.file.key) for pending in self._pending.values() if pending.file.group == key]
            file = self._groups.get(group, {}).get(key)
            path = self._path(group, key)
            if file is not None:
                self._drop(file)
            elif path in self._pending:
                self._forget(path)
                self._writer.remove(path)

    def clear(self) -> None:
        """Forget everything of this scope."""
        for path in tuple(self._pending):
            self._forget(path)
            self._writer.remove(path)
        for file in [file for file in self._files.values() if file.scope == self._scope]:
            self._drop(file)

    def close(self, timeout_s: float) -> None:
        """End the writer, when it has written what it has or when the time is up."""
        self._writer.stop(timeout_s)
        self._settle()

    def stats(self) -> DiskStats:
        """Sizes and counters, as the API shows them."""
        self._settle()
        named = sum(len(self._groups.get(name, ())) for name in ("features", "snapshots"))
        return DiskStats(
            enabled=True,
            num_bytes=self._num_bytes,
            max_bytes=self._max_bytes,
            files=len(self._files),
            blocks=sum(map(len, self._groups.values())) - named,
            features=len(self._groups.get("features", ())),
            snapshots=len(self._groups.get("snapshots", ())),
            pending=len(self._pending),
            hits=self._hits,
            writes=self._writes,
            faults=self._faults,
            evictions=self._evictions,
        )

    # inside

    def _path(self, group: str, key: str) -> Path:
        return self._folder / self._scope / f"{group}-{key}.safetensors"

    def _add(self, file: _File) -> None:
        self._files[file.path] = file
        self._num_bytes += file.num_bytes
        if file.scope == self._scope:
            self._groups.setdefault(file.group, {})[file.key] = file

    def _settle(self, wait_s: float = 0.0) -> None:
        """Take over what the writer has done."""
        for result in self._writer.results(wait_s if self._pending else 0.0):
            pending = self._pending.get(result.path)
            if pending is None or pending.number != result.number:
                continue  # forgotten since; its removal is queued
            self._forget(result.path)
            self.failing = not result.written
            if result.written:
                self._writes += 1
                self._add(pending.file)
            else:
                self._faults += 1

    def _forget(self, path: Path) -> None:
        self._pending_bytes -= self._pending.pop(path).file.num_bytes

    def _drop(self, file: _File) -> None:
        del self._files[file.path]
        self._num_bytes -= file.num_bytes
        if file.scope == self._scope:
            del self._groups[file.group][file.key]
            if not self._groups[file.group]:
                del self._groups[file.group]
        self._writer.remove(file.path)

    def _make_room(self, num_bytes: int) -> None:
        """Delete the oldest until so many bytes more fit. A block goes after all that continue from it."""
        while self._files and self._num_bytes + self._pending_bytes + num_bytes > self._max_bytes:
            self._drop(self._leaf(next(iter(self._files.values()))))
            self._evictions += 1

    def _leaf(self, file: _File) -> _File:
        """The last of the oldest chain that continues this file. Names that lead in a circle are not ours, but end."""
        seen: set[Path] = set()
        while file.scope == self._scope and file.path not in seen and (below := self._groups.get(file.key)):
            seen.add(file.path)
            file = next(iter(below.values()))
        return file


def _scan(folder: Path, scope: str) -> list[_File]:
    """Every file of ours in the folder, least recently used first; what a killed process left half written goes."""
    found: list[tuple[int, _File]] = []
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for child in os.scandir(folder):
            if _SCOPE.fullmatch(child.name) and child.is_dir(follow_symlinks=False):
                found += _scan_scope(Path(child.path))
                if child.name != scope:
                    with suppress(OSError):
                        os.rmdir(child.path)  # only when it is empty
    except OSError as e:
        log.warning("the disk cache cannot read %s: %s", folder, e)
    return [file for _, file in sorted(found, key=lambda pair: pair[0])]


def _scan_scope(folder: Path) -> list[tuple[int, _File]]:
    found = []
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return []
    for entry in entries:
        name = _FILE.match(entry.name)
        if name is None or not entry.is_file(follow_symlinks=False):
            continue
        if entry.name.endswith(sealed.TEMPORARY):
            sealed.remove(Path(entry.path))
        elif name.end() == len(entry.name):
            with suppress(OSError):  # another process may just have removed it
                size, used_ns = (facts := entry.stat(follow_symlinks=False)).st_size, facts.st_mtime_ns
                found.append((used_ns, _File(Path(entry.path), folder.name, name[1], name[2], size)))
    return found


def _view(array: mx.array) -> memoryview:
    """The bytes of an evaluated, contiguous array; they are the array's own memory."""
    buffer: Any = array  # MLX's type stubs do not know that it is one
    return memoryview(buffer).cast("B") if array.size else memoryview(b"")


def _arrays(data: bytes) -> tuple[dict[str, mx.array], dict[str, str]]:
    """What is in a whole file. Raises RuntimeError when MLX cannot read it."""
    loaded: Any = mx.load(io.BytesIO(data), format="safetensors", return_metadata=True)
    arrays, facts = loaded
    arrays.pop(sealed.SEAL, None)
    mx.eval(arrays)
    return arrays, facts
