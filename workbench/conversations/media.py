"""The media of kept conversations: one file for each content, named by the hash of its bytes. Blocking; any thread.

The database says which turns and drafts refer to which content; a file that none refers to is deleted. A file that
comes in again counts as new, so that it is not deleted just before it is referred to.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path, PurePath

from engine.bounded import BoundedCache
from engine.errors import BadMedia, Unavailable
from engine.types import Kind
from workbench.conversations.types import Attachment
from workbench.language import later, t

MAX_NAME_CHARS = 120
MAX_HELD = 1024

log = logging.getLogger(__name__)


class MediaFiles:
    """folders: where the files are kept; the second, where the first takes no more. served: a folder whose files the
    page may show and the engine may read. problem: what a person should know of the folders; "" if nothing.
    """

    def __init__(self, folders: Sequence[Path], served: Path) -> None:
        self._problem: Callable[[], str] = str
        self._folders = tuple(dict.fromkeys(folders))
        self._served = served
        self._lock = threading.Lock()
        self._digests: BoundedCache[tuple[str, int, int], str] = BoundedCache(MAX_HELD, MAX_HELD, lambda _: 1)
        self._came_s: BoundedCache[str, float] = BoundedCache(MAX_HELD, MAX_HELD, lambda _: 1)

    def add(self, path: str, kind: Kind) -> Attachment:
        """Keep a file's content. Raises BadMedia for a file that cannot be read, Unavailable where no disk takes it."""
        source = Path(path)
        try:
            about = source.stat()
            # A draft is kept after each pause in the typing: what is attached to it is not read again each time.
            key = (path, about.st_mtime_ns, about.st_size)
            sha256 = self._digests.get_or_make(key, lambda: _digest(source))
        except OSError as error:
            raise BadMedia(
                t("{name}: it cannot be read ({strerror}).", name=source.name, strerror=error.strerror),
                param=source.name,
            ) from error
        return self._add(source, sha256, kind, about.st_size)

    def add_bytes(self, data: bytes, name: str, kind: Kind) -> Attachment:
        """The same, of what was imported. Raises Unavailable."""
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / clean_name(name)
                path.write_bytes(data)
                return self._add(path, hashlib.sha256(data).hexdigest(), kind, len(data))
        except OSError as error:
            raise _no_room(name, error) from error

    def _add(self, source: Path, sha256: str, kind: Kind, num_bytes: int) -> Attachment:
        with self._lock:
            self._came_s.put(sha256, time.time())
            kept = self._find(sha256)
        if kept is None:
            self._keep(source, sha256)
        return Attachment(kind, clean_name(source.name), sha256, num_bytes)

    def _keep(self, source: Path, sha256: str) -> None:
        """Put it into the first folder that takes it."""
        for folder in self._folders:
            target = folder / sha256[:2] / sha256
            try:
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                _place(source, target)
            except OSError as error:
                log.warning("%s takes no more: %s", folder, error)
                refused = error
            else:
                return
            if len(self._folders) > 1:
                self._problem = later(
                    "Files cannot be kept any more ({strerror}): those sent from now on are lost at the end.",
                    strerror=refused.strerror,
                )
        raise _no_room(source.name, refused) from refused

    @property
    def problem(self) -> str:
        return self._problem()

    def path(self, attachment: Attachment) -> str:
        """A path of the content that may be shown and read, with the name that it was uploaded with.

        Where the content is gone, the path leads nowhere, and reading it says so.
        """
        shown = self._served / attachment.sha256 / clean_name(attachment.name)
        if not shown.exists() and (kept := self._find(attachment.sha256)) is not None:
            with contextlib.suppress(OSError):
                shown.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                _place(kept, shown)
        return str(shown)

    def read(self, sha256: str) -> bytes | None:
        """The content, None where it is gone."""
        kept = self._find(sha256)
        try:
            return kept.read_bytes() if kept else None
        except OSError:
            return None

    def remove(self, sha256: str, before_s: float) -> None:
        """Delete a content, and what of it the page may show. Nothing where it came in again since (epoch seconds)."""
        with self._lock:
            if (self._came_s.get(sha256) or 0.0) >= before_s:
                return
            for folder in self._folders:
                with contextlib.suppress(OSError):
                    (folder / sha256[:2] / sha256).unlink()
        shutil.rmtree(self._served / sha256, ignore_errors=True)

    def sweep(self, known: Collection[str], before_s: float) -> None:
        """Delete files that are no known content and came in before then (epoch seconds): of an import that failed, of
        a process that was killed."""
        for path in self._folders[0].glob("??/*"):
            with contextlib.suppress(OSError):
                if path.name in known or path.stat().st_mtime >= before_s:
                    continue
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    def _find(self, sha256: str) -> Path | None:
        files = (folder / sha256[:2] / sha256 for folder in self._folders)
        return next((file for file in files if file.exists()), None)


def clean_name(name: str) -> str:
    """A file name that stays one in any folder."""
    plain = "".join(c for c in PurePath(name.replace("\\", "/")).name if c.isprintable()).lstrip(".")
    stem, suffix = PurePath(plain).stem, PurePath(plain).suffix[:12]
    return (stem[: MAX_NAME_CHARS - len(suffix)] + suffix) or "file"


def _no_room(name: str, error: OSError) -> Unavailable:
    return Unavailable(
        t("{name} cannot be stored on the server ({strerror}).", name=name, strerror=error.strerror), code="disk_full"
    )


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
