"""Whose turn it is on the engine thread: those that have something to do get the same time, none of them waits long.

A turn is not divided, so the next one is of whoever has had the least time so far. Who comes back from idleness begins
level with the others: time that was not wanted is not saved up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Protocol


class Turner(Protocol):
    """Somebody that takes turns. spent_s: the seconds of all its turns; was_idle: it had nothing to do at the last."""

    spent_s: float
    was_idle: bool

    @property
    def is_idle(self) -> bool:
        """Whether it has nothing to do."""

    def turn(self) -> bool:
        """Do a piece of it. False when nothing could be done now, since it waits for a disk."""

    def recover(self) -> None:
        """After a turn that failed in an unforeseen place."""


class Turns:
    """Engine thread only. clock: seconds. failed: whose turn raised last; nobody after a turn that did not."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.failed: Turner | None = None

    def take(self, turners: Iterable[Turner]) -> bool:
        """One turn of one of them. False when nobody could do anything. Raises what the turn raises."""
        busy = self._busy(list(turners))
        for turner in sorted(busy, key=lambda one: one.spent_s):
            began_s, self.failed = self._clock(), turner
            try:
                is_done = turner.turn()
            finally:
                turner.spent_s += self._clock() - began_s
            self.failed = None
            if is_done:
                return True
        return False

    @staticmethod
    def _busy(turners: list[Turner]) -> list[Turner]:
        busy = [turner for turner in turners if not turner.is_idle]
        least_s = min((turner.spent_s for turner in busy if not turner.was_idle), default=0.0)
        for turner in busy:
            if turner.was_idle:
                turner.spent_s = max(turner.spent_s, least_s)
        for turner in turners:
            turner.was_idle = turner.is_idle
        return busy
