"""Which files are in the cache's folder, least recently used first. Pure Python.

    DIR/SCOPE/GROUP-KEY.safetensors     SCOPE: model and software; GROUP: a block's parent, "features", "snapshots"

The index is made of the file names, so a restart finds everything without opening a file. Folders of other scopes (a
model whose files have changed, another model) are never read; they count against the limit and are evicted by age like
the rest. Files with other names are ignored, and never deleted.
"""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Container, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from engine.cache.disk import checksummed

_SCOPE = re.compile(r"[0-9a-f]{32}")
_FILE = re.compile(r"([0-9a-f]{32}|[a-z]+)-([0-9a-f]{32})\.safetensors")


@dataclass(eq=False, slots=True)
class StoredFile:
    """One file of the folder. facts: its header's, once they were read."""

    path: Path
    scope: str
    group: str
    key: str
    num_bytes: int
    facts: dict[str, str] | None = None


class FileIndex:
    """The files of all scopes in the order of their use, and those of one scope by (group, key)."""

    def __init__(self, folder: Path, scope: str) -> None:
        self.folder = folder
        self.scope = scope
        self.num_bytes = 0
        self._files: OrderedDict[Path, StoredFile] = OrderedDict()
        self._groups: dict[str, dict[str, StoredFile]] = {}

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[StoredFile]:
        """Least recently used first."""
        return iter(tuple(self._files.values()))

    def __contains__(self, file: StoredFile) -> bool:
        """Whether it is this very file that the index has under its path."""
        return self._files.get(file.path) is file

    def path(self, group: str, key: str) -> Path:
        """Where a file of this scope is, or would be."""
        return self.folder / self.scope / f"{group}-{key}.safetensors"

    def get(self, group: str, key: str) -> StoredFile | None:
        return self._groups.get(group, {}).get(key)

    def keys(self, group: str) -> list[str]:
        """The keys of a group, oldest first."""
        return list(self._groups.get(group, ()))

    def num_blocks(self) -> int:
        """Files of this scope that are of blocks: of any group without a name."""
        return sum(len(files) for group, files in self._groups.items() if _SCOPE.fullmatch(group))

    def add(self, file: StoredFile) -> None:
        """Most recently used; in place of one of the same name."""
        if (old := self._files.get(file.path)) is not None:
            self.remove(old)
        self._files[file.path] = file
        self.num_bytes += file.num_bytes
        if file.scope == self.scope:
            self._groups.setdefault(file.group, {})[file.key] = file

    def remove(self, file: StoredFile) -> None:
        del self._files[file.path]
        self.num_bytes -= file.num_bytes
        if file.scope == self.scope:
            del self._groups[file.group][file.key]
            if not self._groups[file.group]:
                del self._groups[file.group]

    def touch(self, file: StoredFile) -> None:
        """Most recently used."""
        self._files.move_to_end(file.path)

    def next_to_evict(self) -> StoredFile | None:
        """The last block of the chain that continues the oldest file: a block is of no use without those before it."""
        file = next(iter(self._files.values()), None)
        seen: set[Path] = set()  # names made by somebody else may lead in a circle
        while file and file.scope == self.scope and file.path not in seen and (after := self._groups.get(file.key)):
            seen.add(file.path)
            file = next(iter(after.values()))
        return file

    def reconcile(self, listed: Iterable[StoredFile], removed: Container[Path]) -> None:
        """Make the index agree with what was seen in the folder, where somebody else may write and delete.

        removed: files whose deletion was queued after the look.
        """
        seen = {file.path: file for file in listed}
        for file in self:
            if file.path not in seen:
                self.remove(file)
        for path, file in seen.items():
            if path not in self._files and path not in removed:
                self.add(file)


def scan(folder: Path) -> list[StoredFile]:
    """Every file of ours in the folder, least recently used first. Any thread. Raises OSError when it cannot be
    looked at, as when no more files may be opened; a folder that is not there is empty."""
    files: list[tuple[int, StoredFile]] = []
    with suppress(FileNotFoundError):
        for child in os.scandir(folder):
            if _SCOPE.fullmatch(child.name) and child.is_dir(follow_symlinks=False):
                files += _scan_scope(Path(child.path))
    return [file for _, file in sorted(files, key=lambda pair: pair[0])]


def prepare(folder: Path, scope: str) -> None:
    """Make the folder; delete what a killed process left half written, and the empty folders of other scopes."""
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for child in os.scandir(folder):
            if not _SCOPE.fullmatch(child.name) or not child.is_dir(follow_symlinks=False):
                continue
            for entry in os.scandir(child.path):
                if _FILE.match(entry.name) and entry.name.endswith(checksummed.TEMPORARY):
                    checksummed.remove(Path(entry.path))
            if child.name != scope:
                with suppress(OSError):  # it is not empty
                    os.rmdir(child.path)


def _scan_scope(folder: Path) -> list[tuple[int, StoredFile]]:
    files: list[tuple[int, StoredFile]] = []
    with suppress(FileNotFoundError, PermissionError):
        for entry in os.scandir(folder):
            name = _FILE.fullmatch(entry.name)
            if name is None or not entry.is_file(follow_symlinks=False):
                continue
            with suppress(OSError):  # another process may just have removed it
                status = entry.stat(follow_symlinks=False)
                file = StoredFile(Path(entry.path), folder.name, name[1], name[2], status.st_size)
                files.append((status.st_mtime_ns, file))
    return files
