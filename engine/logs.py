"""The log of the commands: one line each, and the same line not a thousand times."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence

from engine.log_ring import LogRing

BURST = 5
"""So many warnings or errors of one kind go through in WINDOW_S; the rest is counted."""

WINDOW_S = 10.0
MAX_KINDS = 1000
_VARIES = re.compile(r"0x[0-9a-f]+|\d+")


def configure(level: str) -> LogRing:
    """Send the log to stderr, and to the ring that is returned. level: a name of `logging`, in lower case."""
    ring, stderr = LogRing(level), logging.StreamHandler()
    stderr.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    both = HandedOn((stderr, ring))
    both.addFilter(RepeatFilter())
    logging.basicConfig(level=level.upper(), handlers=[both])
    return ring


class HandedOn(logging.Handler):
    """Hands what its filters let through to several handlers: a filter that counts must see each line once."""

    def __init__(self, handlers: Sequence[logging.Handler]) -> None:
        super().__init__()
        self._handlers = handlers

    def emit(self, record: logging.LogRecord) -> None:
        for handler in self._handlers:
            handler.handle(record)


class RepeatFilter(logging.Filter):
    """Lets the first few warnings and errors of a kind through and says later how many were left out.

    A kind is a logger, a place in the code and a message without its numbers. What is below a warning is never left
    out: who asks for it wants each line.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._kinds: dict[tuple[str, int, str], _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        key = (record.name, record.lineno, _VARIES.sub("#", str(record.msg)))
        if key not in self._kinds and len(self._kinds) >= MAX_KINDS:
            self._kinds.clear()
        kind = self._kinds.setdefault(key, _Kind())
        now_s = self._clock()
        if now_s - kind.since_s >= WINDOW_S:
            if kind.num_left_out:
                record.msg = f"{record.msg} ({kind.num_left_out} more like this were left out)"
            kind.since_s, kind.num, kind.num_left_out = now_s, 0, 0
        kind.num += 1
        kind.num_left_out += kind.num > BURST
        return kind.num <= BURST


class _Kind:
    """How often lines of one kind came since a moment of the clock."""

    def __init__(self) -> None:
        self.since_s = float("-inf")
        self.num = 0
        self.num_left_out = 0
