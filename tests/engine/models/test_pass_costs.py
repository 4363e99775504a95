"""pass_costs: what a wide pass costs rows, and how wide one is worth it."""

from __future__ import annotations

import pytest

from engine.models.pass_costs import PassCosts, num_worth_it


def measured(further: float, num_rows: int, plain_s: float = 0.1) -> PassCosts:
    costs = PassCosts()
    costs.plain(plain_s, num_rows)
    costs.wide(plain_s * (1 + 4 * further), 5, num_rows)
    return costs


def test_what_is_measured_is_of_so_many_rows() -> None:
    costs = measured(0.1, 1)
    assert costs.further(1) == pytest.approx(0.1)
    assert costs.is_known(1) and not costs.is_known(4)
    assert costs.further(4) == pytest.approx(0.1), "as long as no pass over four was made"
    costs.plain(0.2, 4)
    costs.wide(0.2 + 0.1 * 4, 5, 4)
    assert costs.further(4) == pytest.approx(0.5) and costs.further(1) == pytest.approx(0.1)
    assert costs.further(3) == pytest.approx(0.1), "what more rows cost says nothing of it"


def test_a_cost_is_in_passes_as_they_are_now() -> None:
    """Behind a longer context both take longer; those over one token go on while no other is made."""
    costs = measured(1.0, 2)
    for _ in range(30):
        costs.plain(0.4, 2)
    assert costs.further(2) == pytest.approx(0.0625)


def test_what_was_too_dear_is_measured_again_in_time() -> None:
    costs = measured(0.1, 1)
    costs.plain(0.1, 4)
    costs.wide(9.0, 5, 4)
    for _ in range(31):
        costs.was_too_dear(4)
        assert costs.further(4) > 10
    costs.was_too_dear(4)
    assert costs.further(4) == pytest.approx(0.1)


def test_what_was_too_dear_of_fewer_rows_is_measured_again_too() -> None:
    costs = measured(0.9, 1)
    for _ in range(32):
        assert costs.further(4) == pytest.approx(0.9)
        costs.was_too_dear(4)
    assert costs.further(4) == 0.0


@pytest.mark.parametrize(
    ("proposed", "cost", "worth"),
    [
        ([(8, 1.0)], 0.1, 8),
        ([(8, 0.5)], 0.1, 3),
        ([(8, 0.5)], 0.6, 0),
        ([], 0.0, 0),
        ([(8, 0.9)] * 8, 8 * 0.5, 6),
        ([(8, 0.9)], 8 * 0.2, 0),
        ([(2, 1.0), (2, 1.0), (8, 0.9)], 1.5, 2),
        ([(8, 1.0), (2, 1.0)], 0.9, 8),
    ],
    ids=["sure", "unsure", "too dear", "none", "all of eight", "one of eight", "two need each other", "one alone"],
)
def test_how_wide_a_pass_is(proposed: list[tuple[int, float]], cost: float, worth: int) -> None:
    assert num_worth_it(proposed, cost, 100) == worth


def test_a_pass_has_no_more_places_than_there_is_room_for() -> None:
    assert num_worth_it([(8, 1.0)] * 4, 0.0, 100) == 8
    assert num_worth_it([(8, 1.0)] * 4, 0.0, 15) == 3
    assert num_worth_it([(8, 1.0)] * 4, 0.0, 3) == 0
