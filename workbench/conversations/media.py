"""The media of kept conversations: one file for each content, named by the hash of its bytes. Blocking; any thread.

The database says which turns and drafts refer to which content; a file that none refers to is deleted.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path, PurePath

from engine.types import Kind
from workbench.conversations.types import Attachment

CHUNK_BYTES = 1 << 20
MAX_NAME_CHARS = 120


class MediaFiles:
    """folder: where the files are kept. served: a folder whose files the page may show and the engine may read."""

    def __init__(self, folder: Path, served: Path) -> None:
        self._folder = folder
        self._served = served

    def add(self, path: str, kind: Kind) -> Attachment:
        """Keep a file's content. Raises OSError."""
        source = Path(path)
        sha256 = _digest(source)
        target = self._file(sha256)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _place(source, target)
        return Attachment(kind, clean_name(source.name), sha256, target.stat().st_size)

    def add_bytes(self, data: bytes, name: str, kind: Kind) -> Attachment:
        """The same, of what was imported. Raises OSError."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / clean_name(name)
            path.write_bytes(data)
            return self.add(str(path), kind)

    def path(self, attachment: Attachment) -> str:
        """A path of the content that may be shown and read, with the name that it was uploaded with.

        Where the content is gone, the path leads nowhere, and reading it says so.
        """
        shown = self._served / attachment.sha256 / clean_name(attachment.name)
        if not shown.exists():
            shown.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if (kept := self._file(attachment.sha256)).exists():
                _place(kept, shown)
        return str(shown)

    def read(self, sha256: str) -> bytes | None:
        """The content, None where it is gone."""
        try:
            return self._file(sha256).read_bytes()
        except FileNotFoundError:
            return None

    def remove(self, sha256: str) -> None:
        self._file(sha256).unlink(missing_ok=True)

    def _file(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256


def clean_name(name: str) -> str:
    """A file name that stays one in any folder."""
    plain = "".join(c for c in PurePath(name.replace("\\", "/")).name if c.isprintable()).lstrip(".")
    stem, suffix = PurePath(plain).stem, PurePath(plain).suffix[:12]
    return (stem[: MAX_NAME_CHARS - len(suffix)] + suffix) or "file"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _place(source: Path, target: Path) -> None:
    """Make `target` appear whole or not at all: as a second name of the same file, else as a copy."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as folder:
        whole = Path(folder) / "whole"
        try:
            os.link(source, whole)
        except OSError:  # another disk, or one without links
            shutil.copyfile(source, whole)
        os.replace(whole, target)
