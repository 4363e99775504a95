"""Whether expectations may be told: judged by how recent ones held. Pure."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from statistics import median

RIGHT = 1.5
"""An expectation is right when what came is at most this factor above or below it."""

ENOUGH = 8
"""So many comparable ones must have come true before anything is told."""

RECENT = 48
"""Of the comparable ones, so many are looked at, the newest."""

MISSES_PER = 10
"""One in so many may have been wrong."""

CLOSE_SHARE = 0.55
"""So many must have been closer than half of that factor (as a logarithm). A few lucky ones are then not enough: where
errors are so wide that two in ten are wrong, half of all are closer; where one in twenty is, two in three."""

_NEAR = 3.0
"""Comparable: of the same kind, and expected to take no more than this factor longer or shorter."""

_KEPT = 256
_MOST_BENT = 2.0


@dataclass(frozen=True, slots=True)
class PastExpectation:
    """kind: what is compared with each other. raw_ms: by the curves. told_ms: what was expected then, told or not.
    came_ms: what it was."""

    kind: str
    raw_ms: float
    told_ms: float
    came_ms: float

    @property
    def off(self) -> float:
        """As a share of the factor that is still right: 1 at its limit, whether too long or too short."""
        return abs(math.log(self.came_ms / self.told_ms)) / math.log(RIGHT)


class TrackRecord:
    """The latest outcomes."""

    def __init__(self) -> None:
        self._outcomes: deque[PastExpectation] = deque(maxlen=_KEPT)

    def add(self, kind: str, raw_ms: float, came_ms: float) -> PastExpectation:
        """What came of an expectation that did not know it. Milliseconds above 0."""
        outcome = PastExpectation(kind, raw_ms, self.corrected(kind, raw_ms), came_ms)
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
        if sum(outcome.off > 1 for outcome in near[-ENOUGH:]) > 1:
            return False  # whatever was before: the machine is another now
        misses = sum(outcome.off > 1 for outcome in near)
        close = sum(outcome.off < 0.5 for outcome in near)
        return len(near) >= ENOUGH and misses <= len(near) // MISSES_PER and close >= CLOSE_SHARE * len(near)

    def _comparable(self, kind: str, raw_ms: float) -> list[PastExpectation]:
        near = [o for o in self._outcomes if o.kind == kind and 1 / _NEAR <= o.raw_ms / raw_ms <= _NEAR]
        return near[-RECENT:]
