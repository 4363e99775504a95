"""The request log on disk: a line of JSON for each request that has ended, and its media beside it.

    FILE           the newest lines; when it is full it becomes FILE.1, FILE.1 becomes FILE.2 …; the oldest is deleted
    FILE.media/    media by the SHA-256 of their bytes, as long as a line names them

Written by a thread of its own: a disk takes as long as it takes. Only this user may read the files.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Full, Queue
from typing import TYPE_CHECKING

from engine.access.visibility import Caller
from engine.config import LogLimits
from engine.request_log.record import LoggedRequest

if TYPE_CHECKING:
    from engine.request_log.log import RequestLog

log = logging.getLogger(__name__)

_MAX_WAITING = 256
_END_S = 10.0
_NAME = re.compile(r'"sha256": "([0-9a-f]{64})"')


class LogFile:
    """Starts its thread when it is made."""

    def __init__(self, limits: LogLimits, requests: RequestLog) -> None:
        assert limits.file is not None
        self._path = limits.file
        self._limits = limits
        self._requests = requests
        self._jobs: Queue[tuple[LoggedRequest, Callable[[], None]] | None] = Queue(_MAX_WAITING)
        # A daemon: a disk that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="request-log", daemon=True)
        self._is_closed = False
        self._thread.start()

    @property
    def media_folder(self) -> Path:
        return self._path.with_name(self._path.name + ".media")

    def write(self, record: LoggedRequest, then: Callable[[], None]) -> bool:
        """Queue the line of a request that has ended; then is called once it is written. False, with a warning, where
        the disk is so slow that too many wait; and once it is closed."""
        if self._is_closed:
            return False
        try:
            self._jobs.put_nowait((record, then))
        except Full:
            log.warning("%s is not in the request log: %d others wait to be written", record.id, _MAX_WAITING)
            return False
        return True

    def close(self) -> None:
        """Write what is queued, and end the thread. Waits for it, but not for ever."""
        if not self._is_closed:
            self._is_closed = True
            self._jobs.put(None)
            self._thread.join(_END_S)

    def _run(self) -> None:
        """The thread."""
        while (job := self._jobs.get()) is not None:
            record, then = job
            try:
                self._write(record)
            except OSError as error:
                log.warning("%s could not be written to the request log: %s", record.id, error.strerror or error)
            except Exception:
                log.exception("%s could not be written to the request log", record.id)
            finally:
                then()

    def _write(self, record: LoggedRequest) -> None:
        from engine.request_log.form import whole_json

        whole = whole_json(self._requests, record, Caller())
        line = (json.dumps(whole, ensure_ascii=False) + "\n").encode()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.exists() and self._path.stat().st_size + len(line) > self._limits.max_file_bytes:
            self._rotate()
        self._keep_media(record)
        with os.fdopen(_private(self._path, os.O_APPEND), "ab") as file:
            file.write(line)

    def _keep_media(self, record: LoggedRequest) -> None:
        from engine.request_log.log import single_parts

        refs = self._requests.media(record)
        for part in single_parts(record.request):
            ref = refs.get(part)
            if ref is None or (path := self.media_folder / ref.sha256).exists():
                continue
            data = self._requests.content(record, part)
            if data is not None:
                self.media_folder.mkdir(mode=0o700, exist_ok=True)
                unfinished = path.with_suffix(".part")
                with os.fdopen(_private(unfinished, os.O_TRUNC), "wb") as file:
                    file.write(data)
                unfinished.replace(path)

    def _rotate(self) -> None:
        """FILE becomes FILE.1 and so on; media that no line names any more are deleted."""
        for number in range(self._limits.num_files - 1, 0, -1):
            older, newer = self._numbered(number), self._numbered(number - 1)
            if newer.exists():
                newer.replace(older)
        if self._limits.num_files == 1:
            self._path.unlink()
        named = {name for path in self._files() for name in _names(path)}
        for path in self.media_folder.glob("*"):
            if path.name not in named:
                path.unlink(missing_ok=True)

    def _files(self) -> Iterator[Path]:
        return filter(Path.exists, map(self._numbered, range(self._limits.num_files)))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path


def _private(path: Path, how: int) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o600)


def _names(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield from _NAME.findall(line)
