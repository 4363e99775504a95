"""Whether expectations may be told: judged by how recent ones held. Pure."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from statistics import median

RIGHT = 1.5
"""An expectation is right when what came is at most this factor above or below it."""

ENOUGH = 6
"""So many comparable ones must have come true before anything is told."""

RECENT = 24
"""Of the comparable ones, so many are looked at, the newest."""

MISSES_PER = 12
"""One in so many may have been wrong. It is stricter than nine in ten, so that what is told is right in nine of ten."""

_NEAR = 3.0
"""Comparable: of the same kind, and expected to take no more than this factor longer or shorter."""

_KEPT = 256
_MOST_BENT = 2.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """kind: what is compared with each other. raw_ms: by the curves. told_ms: what was expected then, told or not.
    came_ms: what it was."""

    kind: str
    raw_ms: float
    told_ms: float
    came_ms: float

    @property
    def is_right(self) -> bool:
        return 1 / RIGHT <= self.came_ms / self.told_ms <= RIGHT


class TrackRecord:
    """The latest outcomes."""

    def __init__(self) -> None:
        self._outcomes: deque[Outcome] = deque(maxlen=_KEPT)

    def add(self, kind: str, raw_ms: float, came_ms: float) -> Outcome:
        """What came of an expectation that did not know it. Milliseconds above 0."""
        outcome = Outcome(kind, raw_ms, self.corrected(kind, raw_ms), came_ms)
        self._outcomes.append(outcome)
        return outcome

    def corrected(self, kind: str, raw_ms: float) -> float:
        """An expectation, moved by what comparable ones were off by in the middle."""
        near = self._comparable(kind, raw_ms)
        if len(near) < ENOUGH:
            return raw_ms
        off = median(math.log(outcome.came_ms / outcome.raw_ms) for outcome in near)
        return raw_ms * min(_MOST_BENT, max(1 / _MOST_BENT, math.exp(off)))

    def trusts(self, kind: str, raw_ms: float) -> bool:
        """Whether such an expectation may be told."""
        near = self._comparable(kind, raw_ms)
        misses = sum(not outcome.is_right for outcome in near)
        return len(near) >= ENOUGH and misses <= len(near) // MISSES_PER

    def _comparable(self, kind: str, raw_ms: float) -> list[Outcome]:
        near = [o for o in self._outcomes if o.kind == kind and 1 / _NEAR <= o.raw_ms / raw_ms <= _NEAR]
        return near[-RECENT:]
