"""Who waits for the engine thread, so that they can be told when it cannot tell them any more. Any thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from itertools import count

from engine.errors import EngineError

Ended = Callable[[EngineError], None]


class Readers:
    """Each waits in its own task."""

    def __init__(self) -> None:
        self._open: dict[int, Ended] = {}
        self._numbers = count()

    @contextmanager
    def reading(self, ended: Ended) -> Iterator[None]:
        """While somebody waits. ended: tells them the reason; it never blocks and never raises."""
        number = next(self._numbers)
        self._open[number] = ended
        try:
            yield
        finally:
            del self._open[number]

    def fail(self, error: EngineError) -> None:
        """End all of them with this error."""
        for ended in list(self._open.values()):
            ended(copy(error))  # each has a traceback of its own
