"""Numbers that were worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from engine.measure.bench.stats import numbers, paired_ratio, percentile, spread, t_quantile, unpaired_ratio


def test_mean_median_and_tail() -> None:
    found = numbers([float(n) for n in range(100, 0, -1)])
    assert found and (found.n, found.mean, found.median, found.p95, found.p99) == (100, 50.5, 50.5, 95.0, 99.0)
    assert (found.min, found.max) == (1.0, 100.0)
    assert percentile([1.0, 1.0, 4.0], 95) == 4.0 and percentile([3.0], 99) == 3.0
    assert numbers([]) is None


def test_spread_is_the_deviation_over_the_mean() -> None:
    assert spread([9.0, 11.0]) == pytest.approx(math.sqrt(2) / 10)
    assert spread([5.0]) == spread([]) == 0.0


def test_a_ratio_is_of_pairs() -> None:
    """A machine half as fast for the second question: the pairs still say 2, with no doubt about it."""
    ratio = paired_ratio([2.0, 4.0, 8.0], [1.0, 2.0, 4.0])
    assert ratio and ratio.value == pytest.approx(2) and ratio.pairs == 3
    assert ratio.low == pytest.approx(2) and ratio.high == pytest.approx(2)


def test_the_interval_is_students() -> None:
    """Logarithms 0 and ln 4: mean ln 2, deviation ln 4 / sqrt 2, so the half width is 12.706 x ln 4 / 2."""
    ratio = paired_ratio([1.0, 4.0], [1.0, 1.0])
    assert ratio and ratio.low and ratio.value == pytest.approx(2)
    assert math.log(ratio.value / ratio.low) == pytest.approx(12.706 * math.log(4) / 2, rel=1e-4)
    once = paired_ratio([3.0], [1.0])
    assert once and (once.low, once.high) == (None, None) and str(once) == "3"


def test_pairs_without_a_value_are_left_out() -> None:
    ratio = paired_ratio([2.0, None, 2.0, 0.0], [1.0, 1.0, None, 1.0])
    assert ratio and (ratio.value, ratio.pairs) == (2.0, 1)
    assert paired_ratio([None], [1.0]) is None


def test_runs_that_were_not_paired() -> None:
    """Welch: equal variances and counts of n give 2 n - 2 degrees of freedom."""
    a, b = [math.exp(x) for x in (0.0, 0.2)], [math.exp(x) for x in (1.0, 1.2)]
    ratio = unpaired_ratio(b, a)
    assert ratio and ratio.low and ratio.value == pytest.approx(math.e)
    error = math.sqrt(2 * 0.02 / 2)
    assert math.log(ratio.value / ratio.low) == pytest.approx(t_quantile(2) * error, rel=1e-4)
    assert unpaired_ratio([], [1.0]) is None
    constant = unpaired_ratio([2.0, 2.0], [1.0, 1.0])
    assert constant and constant.low == constant.high == 2.0


@pytest.mark.parametrize("ratio_of", [paired_ratio, unpaired_ratio])
def test_two_noisy_pairs_asked_to_be_very_sure_have_a_wide_interval(ratio_of: Any) -> None:
    ratio = ratio_of([1.0, 40.0], [1.0, 0.1], confidence=1 - 1e-7)
    assert ratio and ratio.low < 1e-50 and ratio.high > 1e50 and math.isfinite(ratio.high)


def test_the_table_of_t() -> None:
    """Against the tables, at several levels: https://www.itl.nist.gov/div898/handbook/eda/section3/eda3672.htm"""
    table = {
        (1, 0.95): 12.706, (2, 0.95): 4.303, (3, 0.95): 3.182, (4, 0.95): 2.776, (5, 0.95): 2.571,
        (8, 0.95): 2.306, (10, 0.95): 2.228, (30, 0.95): 2.042, (100, 0.95): 1.984,
        (1, 0.99): 63.657, (2, 0.99): 9.925, (4, 0.99): 4.604, (8, 0.99): 3.355, (30, 0.99): 2.750,
        (4, 0.998): 7.173, (8, 0.998): 4.501, (20, 0.998): 3.552,
    }  # fmt: skip
    for (freedom, confidence), value in table.items():
        assert t_quantile(freedom, confidence) == pytest.approx(value, abs=0.002)
