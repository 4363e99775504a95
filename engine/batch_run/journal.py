"""The journal of a run: JSON Lines that are only appended to, so that a kill loses no more than the rows in flight.

first line      {"journal": 1, "settings": {...}}      what every answer of the run depends on
other lines     {"key": ..., "stamp": ..., ...}        a record; of several with one key the last one counts
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from engine.errors import BadRequest, Conflict, Unavailable
from engine.types import Json

VERSION = 1


def settings_digest(settings: Json) -> str:
    """16 hex digits that differ wherever the settings do."""
    return hashlib.sha256(_line(settings)).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """Where a record stands in the file, in bytes, and what is asked about it without reading it."""

    start: int
    size: int
    stamp: str
    is_failed: bool


class Journal:
    """Records by key. Only their places are in memory. One process at a time has a journal open. One thread."""

    def __init__(self, path: Path, settings: Json) -> None:
        """Open it, or begin it. A last line that a kill has torn is cut off.

        Raises Conflict while another process has it open, BadRequest for a file that is no journal of these settings,
        and Unavailable where it cannot be written.
        """
        self.path = path
        self.entries: dict[str, JournalEntry] = {}
        self._file: BinaryIO | None = None
        try:
            file = path.open("a+b")
            self._file = file
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._end = self._read(file, settings)
            file.truncate(self._end)
            if not self._end:
                self._append({"journal": VERSION, "settings": settings})
        except BlockingIOError as error:
            self.close()
            raise Conflict(f"{path} is written by another run just now.", code="run_in_progress") from error
        except OSError as error:
            self.close()
            raise _unwritable(path, error) from error
        except BaseException:
            self.close()
            raise

    def has_answer(self, key: str, stamp: str) -> bool:
        """Whether the record of this key is of this stamp, and no failure."""
        entry = self.entries.get(key)
        return entry is not None and entry.stamp == stamp and not entry.is_failed

    def record(self, key: str) -> Json | None:
        """The last record of this key."""
        entry = self.entries.get(key)
        if entry is None or self._file is None:
            return None
        found: Json = json.loads(os.pread(self._file.fileno(), entry.size, entry.start))
        return found

    def add(self, record: Json) -> None:
        """Append a record with its "key", its "stamp" and, where it failed, an "error". It is in the file on return.

        Raises Unavailable where it cannot be written.
        """
        start = self._end
        try:
            self._append(record)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self._note(record, start, self._end - start)

    def close(self) -> None:
        """Idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _append(self, value: Json) -> None:
        assert self._file is not None, "the journal is closed"
        line = _line(value)
        try:
            self._file.write(line)
            self._file.flush()
        except OSError:
            self._file.truncate(self._end)  # a full disk: half a line must not stand before the next one
            raise
        self._end += len(line)

    def _note(self, record: Json, start: int, size: int) -> None:
        failed = record.get("error") is not None
        self.entries[str(record["key"])] = JournalEntry(start, size, str(record.get("stamp", "")), failed)

    def _read(self, file: BinaryIO, settings: Json) -> int:
        """Note all records; returns where the last whole line ends."""
        end = 0
        for line in _whole_lines(file):
            try:
                value = json.loads(line)
                if not end:
                    if value["journal"] != VERSION or value["settings"] != json.loads(_line(settings)):
                        raise ValueError("another run's")
                else:
                    self._note(value, end, len(line))
            except (ValueError, KeyError, TypeError) as error:
                why = f"{self.path} is not a journal of this run: move it away, or name another output."
                raise BadRequest(why) from error
            end += len(line)
        return end


def _whole_lines(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    return (line for line in file if line.endswith(b"\n"))


def _line(value: Json) -> bytes:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.encode("utf-8", "replace") + b"\n"


def _unwritable(path: Path, error: OSError) -> Unavailable:
    return Unavailable(f"{path} cannot be written: {error.strerror or error}.", code="output_not_writable")
