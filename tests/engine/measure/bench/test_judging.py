"""engine.measure.bench.judging: equal runs are not told apart, in pairs neither; what differs is found."""

from __future__ import annotations

import math
import random

import pytest

from engine.measure.bench import equal
from engine.measure.bench.judging import ALIKE, RISK, RatioAt, differs, judge_together, paired
from engine.measure.bench.plan import BenchSettings, MeasuredRound
from engine.measure.bench.targets import Status
from tests.engine.measure.bench.builders import sample

CASES, ROUNDS = 30, 5


def comparisons(rng: random.Random, factors: list[float], noise: float = 0.1) -> list[RatioAt]:
    """One for each factor, by which B is slower: pairs of rounds on a machine whose speed wanders by a half."""
    out = []
    for factor in factors:
        wander = [math.exp(rng.gauss(0, 0.5)) for _ in range(ROUNDS)]
        a = [pace * math.exp(rng.gauss(0, noise)) for pace in wander]
        b = [pace * factor * math.exp(rng.gauss(0, noise)) for pace in wander]
        out.append(paired(b, a))
    return out


def found(all_comparisons: list[RatioAt]) -> list[bool]:
    return [ratio is not None and differs(ratio) for ratio in judge_together(all_comparisons)]


def test_equal_pairs_come_out_without_a_difference_in_19_of_20_tries() -> None:
    rng = random.Random(1)
    assert sum(any(found(comparisons(rng, [1.0] * CASES))) for _ in range(200)) <= 10


def test_each_by_itself_would_tell_equal_pairs_apart() -> None:
    """The twin: without the correction, and without a margin for what is alike."""
    rng, wrong = random.Random(1), 0
    for _ in range(50):
        ratios = [ratio_at(1 - RISK) for ratio_at in comparisons(rng, [1.0] * CASES)]
        wrong += any((ratio.low or 0) > 1 or (ratio.high or 2) < 1 for ratio in ratios if ratio)
    assert wrong > 20


def test_pairs_see_through_a_machine_that_wanders() -> None:
    rng = random.Random(2)
    assert found(comparisons(rng, [2.0] + [1.0] * 9, noise=0.03)) == [True] + [False] * 9
    assert found(comparisons(rng, [0.5] + [1.0] * 9, noise=0.03)) == [True] + [False] * 9


def test_holm_finds_what_bonferroni_leaves() -> None:
    """Where many differ, the last of them has to stand against few; and nothing is lost."""
    rng, by_holm, by_bonferroni = random.Random(3), 0, 0
    for _ in range(40):
        several = comparisons(rng, [1.6] * 12)
        holm = found(several)
        bonferroni = [(r := ratio_at(1 - RISK / 12)) is not None and differs(r) for ratio_at in several]
        assert all(h or not b for h, b in zip(holm, bonferroni, strict=True))
        by_holm += sum(holm)
        by_bonferroni += sum(bonferroni)
    assert by_holm > by_bonferroni


def test_what_was_not_measured_or_only_once_shows_nothing() -> None:
    nothing, once = paired([None], [1.0]), paired([9.0], [1.0])
    assert judge_together([]) == []
    ratios = judge_together([nothing, once])
    assert ratios[0] is None and ratios[1] is not None and not differs(ratios[1])


@pytest.mark.parametrize("factor", [1.0, 1.04, 1 / 1.04])
def test_what_is_within_the_margin_is_alike_however_sure_it_is(factor: float) -> None:
    assert factor < ALIKE
    assert found([paired([factor] * 50, [1.0] * 50)]) == [False]


def rounds(rng: random.Random, slower: float, count: int) -> list[MeasuredRound]:
    """Of the suite `equal`, with run B slower by a factor."""
    (group,) = equal.groups(BenchSettings(seed=1))
    out = []
    for _ in range(count):
        pace = math.exp(rng.gauss(0, 0.4))
        samples = []
        for case in group.cases:
            time_s = pace * math.exp(rng.gauss(0, 0.05)) * (slower if case.name.endswith("B") else 1)
            samples.append((case, sample(0.1 * time_s, time_s)))
        out.append(MeasuredRound(tuple(samples), Status(), ()))
    return out


def test_the_suite_counts_its_tries() -> None:
    (group,) = equal.groups(BenchSettings(seed=1))
    rng = random.Random(4)
    (same,) = group.facts(rounds(rng, 1.0, 103))
    assert same.value >= 95 and "of 20" in same.title and same.reached
    (other,) = group.facts(rounds(rng, 3.0, 20))
    assert other.value == 0 and not other.reached, "the twin: what is no equal run is told apart"
    assert group.facts(rounds(rng, 1.0, 4)) == ()


def test_two_rounds_that_hardly_agree_are_judged_too() -> None:
    """At the confidence of a p-value their interval is wider than numbers go."""
    assert found([paired([1.0, 9.0], [1.0, 1.0]), paired([1.0, 1e-9], [1.0, 1.0])]) == [False, False]
