"""TrackRecord: nothing is told until expectations have come true, and nothing any more when they do not."""

from __future__ import annotations

import math
import random

import pytest

from engine.runtime.estimates.track_record import ENOUGH, MISSES_PER, RECENT, RIGHT, TrackRecord

KIND = "alone"


def record(*ratios: float, raw_ms: float = 100.0) -> TrackRecord:
    """One in which what came was so many times what was expected."""
    out = TrackRecord()
    for ratio in ratios:
        out.add(KIND, raw_ms, raw_ms * ratio)
    return out


def test_it_trusts_what_has_come_true_often_enough() -> None:
    assert not record(*[1.0] * (ENOUGH - 1)).trusts(KIND, 100)
    assert record(*[1.0] * ENOUGH).trusts(KIND, 100)


def test_one_miss_is_one_too_many_among_few_and_is_forgiven_among_many() -> None:
    assert not record(*[1.0] * ENOUGH, 3.0).trusts(KIND, 100)
    assert record(*[1.0] * (MISSES_PER - 1), 3.0).trusts(KIND, 100)


def test_misses_are_forgotten_when_they_are_old() -> None:
    assert record(*[9.0] * 4, *[1.0] * (RECENT + 4)).trusts(KIND, 100)
    assert not record(*[1.0] * RECENT, *[9.0] * 4).trusts(KIND, 100), "the twin: the same, but of late"


def test_other_sizes_and_kinds_prove_nothing() -> None:
    found = record(*[1.0] * RECENT)
    assert not found.trusts(KIND, 1000)
    assert not found.trusts(KIND, 10)
    assert not found.trusts("beside others", 100)


def test_what_is_off_in_one_direction_is_corrected() -> None:
    found = record(*[1.8] * 12)
    assert found.corrected(KIND, 100) == pytest.approx(180)
    assert found.corrected(KIND, 5000) == 5000
    assert record(*[9.0] * 12).corrected(KIND, 100) == pytest.approx(200), "a curve that is wrong by far is not mended"


@pytest.mark.parametrize("noise", [0.1, 0.2, 0.3, 0.5])
def test_what_is_told_is_right_in_nine_of_ten_whatever_the_noise(noise: float) -> None:
    """On a calm machine it speaks and what it says holds; on a restless one it is silent."""
    told, right = run(noise, speaks_always=False)
    if noise <= 0.2:
        assert told > 1000 and right / told >= 0.9
    else:
        assert told < 60


def test_who_always_speaks_is_wrong_too_often() -> None:
    """The twin."""
    told, right = run(0.5, speaks_always=True)
    assert told == 2000 and right / told < 0.8


def run(noise: float, *, speaks_always: bool) -> tuple[int, int]:
    """(told, right) of 2,000 expectations whose logarithm is off by so much."""
    rng, found = random.Random(1), TrackRecord()
    told = right = 0
    for _ in range(2000):
        raw_ms = math.exp(rng.uniform(math.log(60), math.log(600)))
        came_ms = raw_ms * math.exp(rng.gauss(0, noise))
        if speaks_always or found.trusts(KIND, raw_ms):
            told += 1
            right += 1 / RIGHT <= came_ms / found.corrected(KIND, raw_ms) <= RIGHT
        found.add(KIND, raw_ms, came_ms)
    return told, right
