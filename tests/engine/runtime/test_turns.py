"""turns: who has something to do gets the same time, however long its turns are. The clock is the test's."""

from __future__ import annotations

from collections import Counter

import pytest

from engine.runtime.turns import Turns


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Busy:
    """Takes turns of so many seconds. waits: it can do nothing now."""

    def __init__(self, clock: Clock, turn_s: float, *, waits: bool = False) -> None:
        self.spent_s, self.was_idle, self.is_idle = 0.0, True, False
        self.num_turns = 0
        self._clock, self._turn_s, self.waits = clock, turn_s, waits

    def turn(self) -> bool:
        self.num_turns += 1
        if self.waits:
            return False
        self._clock.now_s += self._turn_s
        return True

    def recover(self) -> None:
        """Nothing is lost."""


def test_long_and_short_turns_get_the_same_time() -> None:
    clock = Clock()
    short, long = Busy(clock, 0.01), Busy(clock, 0.5)
    turns = Turns(clock)
    order = []
    for _ in range(520):
        before = long.num_turns
        assert turns.take([long, short])
        order.append("long" if long.num_turns > before else "short")
    assert short.spent_s == pytest.approx(long.spent_s, abs=0.5)
    gaps = Counter(" ".join(order).split("long")[1].split())
    assert gaps["short"] >= 49, "between two long turns the short ones catch up"


def test_who_comes_back_has_saved_nothing_up() -> None:
    clock = Clock()
    steady, late = Busy(clock, 0.1), Busy(clock, 0.1)
    turns = Turns(clock)
    late.is_idle = True
    for _ in range(100):
        turns.take([steady, late])
    late.is_idle = False
    for _ in range(10):
        turns.take([steady, late])
    assert 4 <= late.num_turns <= 6, "neither all turns until it is level, nor none"


def test_who_waits_for_a_disk_holds_up_nobody() -> None:
    clock = Clock()
    waiting, other = Busy(clock, 0.1, waits=True), Busy(clock, 0.1)
    turns = Turns(clock)
    for _ in range(10):
        assert turns.take([waiting, other])
    assert other.num_turns == 10
    other.is_idle = True
    assert not turns.take([waiting, other])
    assert not turns.take([])


def test_who_failed_is_known_and_nobody_else() -> None:
    clock = Clock()
    fine, failing = Busy(clock, 0.1), Busy(clock, 0.1)

    def fails() -> bool:
        raise RuntimeError("no")

    turns = Turns(clock)
    turns.take([fine])
    assert turns.failed is None
    failing.turn = fails  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        turns.take([failing])
    assert turns.failed is failing
    turns.take([fine])
    assert turns.failed is None
