"""The last lines of the log, kept in memory for the operator: bounded in number and in bytes, and without secrets.

A secret is taken out before a line is cut: half a key would not be known for one.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import say_bytes
from engine.request_log.redact import Redactor

MAX_LINES = 2000
MAX_BYTES = 1024**2
MAX_LINE_BYTES = 16 * 1024
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
"""What a line may be, from the least on."""

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""All but tab and newline: a terminal that shows the file would follow some, and others turn the text around."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One record of the log. id: grows with each line, also over a restart. created_s: since 1970. text: may have
    several lines itself, as a traceback has."""

    id: int
    created_s: float
    level: str
    logger: str
    text: str

    @property
    def num_bytes(self) -> int:
        """Of the text in UTF-8."""
        return len(self.text.encode())


class LogRing(logging.Handler):
    """Keeps the last lines that it is handed. Any thread. level_name: of the least lines that come; None where none do,
    since the log is that of a program around the server."""

    def __init__(self, level_name: str | None = None, max_lines: int = MAX_LINES, max_bytes: int = MAX_BYTES) -> None:
        super().__init__()
        self.level_name = level_name
        self.num_gone = 0
        """Lines that were here and had to make room."""
        self._max_lines, self._max_bytes = max_lines, max_bytes
        self._lines: deque[LogLine] = deque()
        self._num_bytes = 0
        self._last_id = time.time_ns() // 1000
        self._redactor = Redactor()
        self._form = logging.Formatter()
        self._guard = threading.RLock()  # what makes a text of an argument may log itself

    def hide(self, secrets: Sequence[str]) -> None:
        """Take these out of every line, too: of those that are here and of those to come."""
        with self._guard:
            self._redactor = Redactor(tuple(dict.fromkeys((*self._redactor.secrets, *secrets))))
            lines, self._num_bytes = list(self._lines), 0
            self._lines.clear()
            for line in lines:
                text = self._redactor.text(line.text)
                self._append(LogLine(line.id, line.created_s, line.level, line.logger, text))

    def redacted(self, text: str) -> str:
        """A text without what is taken out of every line."""
        with self._guard:
            return self._redactor.text(text)

    def emit(self, record: logging.LogRecord) -> None:
        """Called by `handle`."""
        try:
            with self._guard:
                text = _shown(self._redactor.text(self._form.format(record)))
                self._last_id += 1
                self._append(LogLine(self._last_id, record.created, level_of(record.levelno), record.name, text))
        except Exception:  # as in every handler: a line that cannot be kept must not end what it is about
            self.handleError(record)

    def lines(self, after: int | None, limit: int, level: str = "debug") -> tuple[list[LogLine], bool]:
        """Those of at least this level, the oldest first, and whether there are more: the first `limit` after an id, or
        the last `limit` where none is given, or one that no line here has come to yet."""
        with self._guard:
            found = [line for line in self._lines if LEVELS[line.level] >= LEVELS[level]]
            if after is None or after > self._last_id:
                return found[-limit:], len(found) > limit
        later = [line for line in found if line.id > after]
        return later[:limit], len(later) > limit

    def _append(self, line: LogLine) -> None:
        self._lines.append(line)
        self._num_bytes += line.num_bytes
        while len(self._lines) > self._max_lines or (self._num_bytes > self._max_bytes and len(self._lines) > 1):
            self._num_bytes -= self._lines.popleft().num_bytes
            self.num_gone += 1


def level_of(number: int) -> str:
    """The highest of LEVELS that a number of `logging` has come to."""
    return next((name for name, least in reversed(LEVELS.items()) if number >= least), "debug")


def _shown(text: str) -> str:
    """A text without control characters and halves of surrogate pairs, cut to MAX_LINE_BYTES."""
    clean = _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text.replace("\r\n", "\n"))
    data = clean.encode("utf-8", "replace")
    if len(data) <= MAX_LINE_BYTES:
        return data.decode()
    return f"{data[:MAX_LINE_BYTES].decode('utf-8', 'ignore')}… ({say_bytes(len(data) - MAX_LINE_BYTES)} more)"
