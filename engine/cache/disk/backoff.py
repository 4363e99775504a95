"""When to try again what has just failed: after a pause, which grows from failure to failure. Pure Python."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """Pauses of first_s seconds, then twice as long each time, up to max_s; a success ends them."""

    first_s: float = 30.0
    max_s: float = 900.0
    clock: Callable[[], float] = time.monotonic
    pause_s: float = 0.0
    """The pause that the last failure began; 0 when the last attempt was a success."""
    _until_s: float = 0.0

    @property
    def is_failing(self) -> bool:
        """Whether the last attempt failed."""
        return self.pause_s > 0

    @property
    def may_try(self) -> bool:
        """Whether there is no pause now."""
        return not self.is_failing or self.clock() >= self._until_s

    def failed(self) -> bool:
        """Begin a pause. Returns False when one was on already: what was under way when it began does not grow it."""
        if not self.may_try:
            return False
        self.pause_s = min(2 * self.pause_s or self.first_s, self.max_s)
        self._until_s = self.clock() + self.pause_s
        return True

    def succeeded(self) -> None:
        """Whatever was wrong is over."""
        self.pause_s = 0.0
