"""One SQLite file: opened, set aside where it is damaged, left for memory where the disk takes no more. Any thread.

Blocking: callers on an event loop ask from a thread. The file is in WAL mode: a process that is killed loses what it
had not committed, and never the file (https://www.sqlite.org/wal.html).
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from engine.errors import Busy
from workbench.conversations import schema
from workbench.language import later, t

log = logging.getLogger(__name__)
T = TypeVar("T")
WAIT_S = 5.0
"""How long a change waits for another process that writes."""

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_DISK = (
    *_DAMAGED,
    *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY),
    *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_PROTOCOL),
)
"""The disk, and not what it was asked for, is at fault."""

MEMORY = ":memory:"


class Database:
    """file: None keeps everything in memory. problem: what a person should know of the file; "" if nothing.

    was_damaged: the file was moved aside, and this one is new.
    """

    def __init__(self, file: Path | None) -> None:
        self._problem: Callable[[], str] = str
        self.was_damaged = False
        self._file = file
        self._lock = threading.RLock()
        self._connection = self._open()

    @property
    def on_disk(self) -> bool:
        """False where what is written is lost when the process ends."""
        return self._file is not None

    def read(self, sql: str, values: Any = ()) -> list[sqlite3.Row]:
        """All rows. Where the disk cannot be read any more, those of memory. Raises Busy as `write` does."""
        return self._on_disk_or_in_memory(lambda: self._connection.execute(sql, values).fetchall())

    def write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """Make a change in a transaction: all of it, or nothing and the error of `change`.

        Where the disk takes no more, everything goes on in memory and `problem` says so. Raises Busy where another
        process holds the file for long.
        """
        return self._on_disk_or_in_memory(lambda: self._commit(change))

    def close(self) -> None:
        """Idempotent. Nothing may be read or written afterwards."""
        with self._lock:
            self._connection.close()

    def _on_disk_or_in_memory(self, work: Callable[[], T]) -> T:
        with self._lock:
            try:
                return work()
            except sqlite3.DatabaseError as error:
                if _code(error) in _BUSY:
                    raise Busy(t("Another program is writing to the kept conversations. Try again.")) from error
                if not self.on_disk or _code(error) not in _DISK:
                    raise
                self._leave_disk(error)
                return work()

    def _commit(self, change: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = change(connection)
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.DatabaseError):  # a full disk may have ended the transaction already
                connection.execute("ROLLBACK")
            raise
        return result

    def _open(self) -> sqlite3.Connection:
        if self._file is None:
            return _connect(MEMORY)
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            return self._checked(self._file)
        except (sqlite3.DatabaseError, OSError) as error:
            if isinstance(error, sqlite3.DatabaseError) and _code(error) in _DAMAGED:
                return self._begin_anew(self._file)
            self._say(
                later(
                    "Conversations cannot be kept in {parent} ({error}): they are lost at the end.",
                    parent=self._file.parent,
                    error=error,
                )
            )
            self._file = None
            return _connect(MEMORY)

    def _checked(self, file: Path) -> sqlite3.Connection:
        """The file, opened and found whole. Raises sqlite3.DatabaseError."""
        connection = _connect(str(file), migrated=False)
        try:
            if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise _damaged()
            if schema.version_of(connection) > schema.VERSION:
                raise sqlite3.DatabaseError("it was written by a newer version")
            schema.migrate(connection)
            connection.execute("SELECT count(*) FROM conversation").fetchone()
        except BaseException:
            connection.close()
            raise
        file.chmod(0o600)
        return connection

    def _begin_anew(self, file: Path) -> sqlite3.Connection:
        """Move a damaged file aside, and what belongs to it; nothing of it is deleted."""
        kept = file.with_name(f"{file.stem}-damaged-{time.strftime('%Y%m%d-%H%M%S')}{file.suffix}")
        for ending in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                file.with_name(file.name + ending).rename(kept.with_name(kept.name + ending))
        self.was_damaged = True
        self._say(
            later("The file of kept conversations was damaged. It is now {kept}, and a new one was begun.", kept=kept)
        )
        return self._checked(file)

    def _leave_disk(self, error: sqlite3.DatabaseError) -> None:
        """Go on in memory with all that the file holds."""
        memory = _connect(MEMORY, migrated=False)
        try:
            self._connection.backup(memory)
        except sqlite3.DatabaseError:
            log.exception("kept conversations cannot be read")
            memory.close()
            memory = _connect(MEMORY)
        with contextlib.suppress(sqlite3.DatabaseError):
            self._connection.close()
        self._connection, self._file = memory, None
        self._say(
            later(
                "Conversations are not kept any more ({error}): what is written from now on is lost at the end.",
                error=error,
            )
        )

    @property
    def problem(self) -> str:
        return self._problem()

    def _say(self, problem: Callable[[], str]) -> None:
        log.warning(problem())
        self._problem = problem


def _connect(name: str, *, migrated: bool = True) -> sqlite3.Connection:
    connection = sqlite3.connect(name, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON", "temp_store = MEMORY"):
        connection.execute(f"PRAGMA {pragma}")
    if migrated:
        schema.migrate(connection)
    return connection


def _code(error: BaseException) -> int:
    """SQLite's primary error code: https://www.sqlite.org/rescode.html"""
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


def _damaged() -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError("the check of its pages failed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error
