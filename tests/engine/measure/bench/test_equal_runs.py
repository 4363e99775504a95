"""engine.measure.bench.compare: two equal runs are not told apart, and a real difference is."""

from __future__ import annotations

import math
import random
from dataclasses import asdict
from typing import Any

from engine.measure.bench import compare
from engine.measure.bench.samples import Sample
from engine.measure.bench.stats import unpaired_ratio

CASES, ROUNDS = 10, 5


def run(rng: random.Random, slower: float = 1.0) -> dict[str, Any]:
    """Ten cases in five rounds on a machine that others use: each answer is off by 10 %, the whole run by 2 %."""
    drift = math.exp(rng.gauss(0, 0.02))
    points = []
    for case in range(CASES):
        rounds = []
        for _ in range(ROUNDS):
            time_s = slower * drift * (1 + case) * 0.1 * math.exp(rng.gauss(0, 0.1))
            sample = Sample("engine", 0.0, time_s, 2 * time_s, (), 9, 9, "")
            rounds.append([asdict(sample)])
        points.append({"suite": "image", "case": f"case {case}", "rounds": rounds})
    return {"points": points}


def verdicts(a: dict[str, Any], b: dict[str, Any]) -> set[str]:
    return {compare.verdict(metric, ratio) for _, metric, ratio in compare.ratios(a, b)}


def test_two_equal_runs_come_out_without_a_difference_in_19_of_20_tries():
    rng = random.Random(1)
    told_apart = sum(verdicts(run(rng), run(rng)) != {"even"} for _ in range(60))
    assert told_apart <= 3, f"{told_apart} of 60 pairs of equal runs were told apart"


def test_each_comparison_by_itself_would_tell_equal_runs_apart():
    """The twin: with intervals of 95 % each, some of ten cases nearly always differ."""
    rng = random.Random(1)
    told_apart = 0
    for _ in range(30):
        a, b = run(rng), run(rng)
        rows = [
            unpaired_ratio(compare._values(after, "ttft"), compare._values(before, "ttft"))
            for before, after in zip(a["points"], b["points"], strict=True)
        ]
        told_apart += any(not row.low <= 1 <= row.high for row in rows)
    assert told_apart > 6


def test_a_run_that_is_half_as_fast_is_told_apart():
    rng = random.Random(2)
    assert verdicts(run(rng), run(rng, slower=2.0)) >= {"worse"}
    assert verdicts(run(rng, slower=2.0), run(rng)) >= {"better"}
    assert "better" not in verdicts(run(rng), run(rng, slower=2.0))
