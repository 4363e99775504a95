"""Lists of measurements -> numbers. Pure.

Spread is the standard deviation over the mean. Ratios are of pairs measured one after the other, averaged as
logarithms (so 2 x and 1/2 x weigh the same), with the 95 % interval of Student's t. Percentiles: nearest rank.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

NOISY = 0.15
"""A spread above this marks a measurement as noisy."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Summary of a list of values, in their unit; spread is a share of the mean."""

    n: int
    mean: float
    median: float
    p95: float
    p99: float
    min: float
    max: float
    spread: float

    def json(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio with its interval, of 95 % confidence unless more was asked for.

    low and high are None for a single pair, which has no interval.
    """

    value: float
    low: float | None
    high: float | None
    pairs: int

    def json(self) -> dict[str, float | None]:
        return asdict(self)

    def inverse(self) -> Ratio:
        """1 / this."""
        low, high = (None if end is None else 1 / end for end in (self.high, self.low))
        return Ratio(1 / self.value, low, high, self.pairs)

    def __str__(self) -> str:
        return f"{self.value:.3g}" + ("" if self.low is None else f" ({self.low:.3g} to {self.high:.3g})")


def numbers(values: Sequence[float]) -> Numbers | None:
    """The summary of some values. Returns None for an empty list."""
    if not values:
        return None
    ranked = sorted(values)
    return Numbers(
        n=len(ranked),
        mean=statistics.fmean(ranked),
        median=statistics.median(ranked),
        p95=percentile(ranked, 95),
        p99=percentile(ranked, 99),
        min=ranked[0],
        max=ranked[-1],
        spread=spread(ranked),
    )


def percentile(ranked: Sequence[float], percent: int) -> float:
    """Nearest rank of at least one ascending value."""
    return ranked[max(0, -(-len(ranked) * percent // 100) - 1)]


def spread(values: Sequence[float]) -> float:
    """Standard deviation over the mean; 0 for fewer than two values."""
    mean = statistics.fmean(values) if values else 0.0
    return statistics.stdev(values) / abs(mean) if len(values) > 1 and mean else 0.0


_MAX_HALF = 300.0
"""Of a logarithm. Two noisy pairs, asked to be very sure, would give more than a float can hold."""


def paired_ratio(over: Sequence[float | None], under: Sequence[float | None], confidence: float = 0.95) -> Ratio | None:
    """The geometric mean of over[i] / under[i], without pairs that lack a value above 0. Returns None without pairs."""
    logs = [math.log(a / b) for a, b in zip(over, under, strict=False) if a and b and a > 0 and b > 0]
    if not logs:
        return None
    mean = statistics.fmean(logs)
    if len(logs) < 2:
        return Ratio(math.exp(mean), None, None, len(logs))
    half = t_quantile(len(logs) - 1, confidence) * math.sqrt(_variance(logs, mean) / len(logs))
    return _ratio(mean, half, len(logs))


def unpaired_ratio(over: Sequence[float], under: Sequence[float], confidence: float = 0.95) -> Ratio | None:
    """Mean / mean of two runs not measured in turns, with Welch's interval of the logarithms. None for an empty one."""
    a, b = ([math.log(value) for value in values if value > 0] for values in (over, under))
    if not a or not b:
        return None
    means = statistics.fmean(a), statistics.fmean(b)
    mean = means[0] - means[1]
    fewer = min(len(a), len(b))
    if fewer < 2:
        return Ratio(math.exp(mean), None, None, fewer)
    parts = [_variance(logs, its) / len(logs) for logs, its in zip((a, b), means, strict=True)]
    error = math.sqrt(sum(parts))
    # Welch and Satterthwaite's degrees of freedom.
    below = sum(part**2 / (len(logs) - 1) for part, logs in zip(parts, (a, b), strict=True))
    half = t_quantile(int(error**4 / below), confidence) * error if below else 0.0
    return _ratio(mean, half, fewer)


def _variance(values: Sequence[float], mean: float) -> float:
    """Of a sample. That of `statistics` computes with fractions, and takes some ten times as long."""
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def _ratio(mean: float, half: float, num_pairs: int) -> Ratio:
    """From logarithms: their mean and half the width of its interval."""
    half = min(half, _MAX_HALF)
    return Ratio(math.exp(mean), math.exp(mean - half), math.exp(mean + half), num_pairs)


def t_quantile(freedom: int, confidence: float = 0.95) -> float:
    """Student's t for a two-sided interval. G. W. Hill, "Algorithm 396: Student's t-quantiles", CACM 13 (1970)."""
    n, p = max(freedom, 1), 1 - confidence
    if n == 1:
        return 1 / math.tan(p * math.pi / 2)
    if n == 2:
        return math.sqrt(2 / (p * (2 - p)) - 2)
    a = 1 / (n - 0.5)
    b = 48 / a**2
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * n
    y: float = (d * p) ** (2 / n)
    if y <= 0.05 + a:
        y = ((1 / (((n + 6) / (n * y) - 0.089 * d - 0.822) * (n + 2) * 3) + 0.5 / (n + 4)) * y - 1) * (n + 1) / (n + 2)
        return math.sqrt(n * (y + 1 / (d * p) ** (2 / n)))
    x = statistics.NormalDist().inv_cdf(p / 2)
    y = x * x
    c += 0.3 * (n - 4.5) * (x + 0.6) if n < 5 else 0
    c = (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b + c
    y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
    return math.sqrt(n * math.expm1(a * y * y))


def reached(value: float, goal: float | None, at_most: bool) -> bool | None:
    """Whether a number reaches its goal. Returns None without a goal. at_most: the goal is an upper limit."""
    if goal is None:
        return None
    return value <= goal if at_most else value >= goal
