"""Many comparisons at once, and which of them show a difference: Holm's step-down, so that all of them together find
one where there is none in RISK of all cases at most. Pure.

S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from engine.measure.bench.stats import Ratio, paired_ratio

RISK = 0.05
"""Of a difference where there is none, in any of all the comparisons of two runs."""

ALIKE = 1.05
"""Two runs of the same program differ by up to this factor: the machine is not the same from one minute to the next."""

RatioAt = Callable[[float], Ratio | None]
"""Confidence of the interval -> the ratio with it; None where nothing was measured."""

_HALVINGS = 40
_LEAST = 1e-12


def differs(ratio: Ratio) -> bool:
    """Whether the whole interval lies beyond what is alike. Without an interval nothing is shown."""
    return ratio.low is not None and ratio.high is not None and (ratio.low > ALIKE or ratio.high < 1 / ALIKE)


def judge_together(comparisons: Sequence[RatioAt]) -> list[Ratio | None]:
    """The ratios, each with the interval of its step: the one that shows most must stand against all, the next against
    all but one, and so on to the first that does not; none after it shows a difference then (`differs`)."""
    risks = {place: _risk(ratio_at) for place, ratio_at in enumerate(comparisons) if ratio_at(0.5) is not None}
    ratios: list[Ratio | None] = [None] * len(comparisons)
    allowed = RISK
    stopped = False
    for rank, place in enumerate(sorted(risks, key=risks.__getitem__)):
        if not stopped:
            allowed = RISK / (len(risks) - rank)
            stopped = risks[place] > allowed
        ratios[place] = comparisons[place](1 - allowed)
    return ratios


def paired(over: Sequence[float | None], under: Sequence[float | None]) -> RatioAt:
    """Of rounds that were measured in turns."""
    return partial(paired_ratio, over, under)


def _risk(ratio_at: RatioAt) -> float:
    """The smallest risk at which it would show a difference by itself: its p-value against "alike". 1 where none."""
    low, high = _LEAST, 1.0  # as risks: at `high` it shows one, at `low` it does not

    def shows(risk: float) -> bool:
        ratio = ratio_at(1 - risk)
        return ratio is not None and differs(ratio)

    if shows(low):
        return low
    if not shows(1 - _LEAST):
        return 1.0
    for _ in range(_HALVINGS):
        middle = (low * high) ** 0.5
        low, high = (low, middle) if shows(middle) else (middle, high)
    return high
