"""The clock of stages, the first token's parts, and who waited for whom."""

from __future__ import annotations

import pytest

from engine.request_log.record import LoggedRequest
from engine.request_log.waits import first_token, waits
from engine.types import Request, StageClock, StageName


def clock(*marks: tuple[StageName, float], accepted_s: float = 100.0, end_s: float | None = None) -> StageClock:
    made = StageClock(accepted_s=accepted_s)
    for step, at_s in marks:
        made.enter(step, accepted_s + at_s)
    if end_s is not None:
        made.end(accepted_s + end_s)
    return made


def logged(name: str, at: StageClock, model: str = "m") -> LoggedRequest:
    return LoggedRequest(name, Request(id=name, model=model), at)


def test_stages_touch_and_sum_to_the_whole() -> None:
    made = clock(("queue", 1), ("prefill", 2), ("turns", 3), ("prefill", 4), ("decode", 5), end_s=9)
    spans = made.spans()
    assert [span.step for span in spans] == ["model", "queue", "prefill", "turns", "prefill", "decode"]
    assert sum(span.ms for span in spans) == pytest.approx(9000)
    assert [span.end_s for span in spans[:-1]] == [span.start_s for span in spans[1:]]


def test_a_gap_between_two_turns_in_which_nobody_else_came_is_no_wait() -> None:
    made = clock(("prefill", 1), ("turns", 2), ("prefill", 2.0001), ("turns", 3), ("prefill", 3.1), end_s=4)
    assert [span.step for span in made.spans()] == ["model", "prefill", "turns", "prefill"]


def test_nothing_is_added_once_it_has_ended() -> None:
    made = clock(("queue", 1), end_s=2)
    made.enter("prefill", 103.0)
    made.end(105.0)
    assert made.step == "queue" and made.elapsed_s == 2


def test_the_parts_of_the_first_token() -> None:
    made = clock(("queue", 1), ("prefill", 2), ("turns", 3), ("prefill", 3.5), ("decode", 4), end_s=9)
    parts = {part.step: part for part in first_token(logged("a", made))}
    assert {step: round(part.ms) for step, part in parts.items()} == {
        "model": 1000, "queue": 1000, "prefill": 1500, "turns": 500,
    }  # fmt: skip
    assert sum(part.share for part in parts.values()) == pytest.approx(1)
    assert first_token(logged("b", clock(("queue", 1)))) == ()


def test_a_wait_names_the_rows_that_ran_meanwhile() -> None:
    waiting = logged("waiting", clock(("queue", 1), ("prefill", 5), end_s=6))
    decoding = logged("decoding", clock(("decode", 0.5), accepted_s=99.0, end_s=4))  # until 103, 2 s of the wait
    also = logged("also", clock(("queue", 0.5), ("prefill", 2), ("decode", 3), end_s=3.5))  # 1.5 s of it
    waits_too = logged("waits too", clock(("queue", 0), end_s=9))
    elsewhere = logged("elsewhere", clock(("decode", 0), end_s=9), model="another")
    (wait,) = waits(waiting, [waiting, also, decoding, waits_too, elsewhere])
    assert (wait.place, wait.span.step) == (1, "queue")
    assert [(row.record.id, row.step, round(row.ms)) for row in wait.rows] == [
        ("decoding", "decode", 2000), ("also", "prefill", 1500),
    ]  # fmt: skip
