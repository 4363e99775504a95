"""Where files and batches are kept, for whom, and by which server: one at a time. The server's loop only."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import BinaryIO

from engine.access.visibility import Caller, keeps_conversations
from engine.config import ServerConfig
from engine.errors import Conflict, Forbidden, Unavailable


class KeptFolder:
    """The folder of files and batches inside the data folder. It is made, and claimed, when it is first needed."""

    def __init__(self, config: ServerConfig) -> None:
        self._is_kept = keeps_conversations(config)
        self._data = config.data_folder
        self._lock: BinaryIO | None = None

    @property
    def path(self) -> Path:
        assert self._data is not None, "nothing is kept: owner() says so"
        return self._data / "batches"

    @property
    def is_ours(self) -> bool:
        """Whether there is such a folder, and no other server uses it; it is then this one's until `release`."""
        if self._lock is None and self._is_kept and self.path.is_dir():
            self._claim()
        return self._lock is not None

    def owner(self, who: Caller) -> str:
        """Whose are the files that somebody keeps here: the operator's are the same with one key and with several.

        Raises Forbidden where nothing is kept, and Conflict while another server uses the folder.
        """
        if not self._is_kept:
            why = "This server keeps no files: it has no data folder, or is open to visitors."
            raise Forbidden(why, code="files_not_kept")
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise Unavailable(f"No files can be kept: {error.strerror or error}.", code="storage_failed") from error
        if not self.is_ours:
            why = "Another server keeps its files in this folder; start this one with a --data-dir of its own."
            raise Conflict(why, code="folder_in_use")
        return "" if who.operator else who.owner

    def release(self) -> None:
        """Let another server use it. Idempotent."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _claim(self) -> None:
        try:
            lock = (self.path / "lock").open("ab")
        except OSError:
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
        else:
            self._lock = lock
