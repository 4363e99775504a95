"""A run's events as a page shows them: the numbers are those of Result.json(), at the end and on the way."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.measure.bench.events import Finished, Progress, Started
from engine.measure.bench.load import Load
from engine.measure.bench.plan import BenchSettings, Case
from engine.measure.bench.result import UNITS, Point
from engine.measure.bench.run import Run
from tests.engine.measure.bench.builders import RecordingTarget, sample, words_suite
from workbench.bench import live as lives
from workbench.bench.live import SO_FAR, Live, from_json, row_of, so_far

ONE, TWO = Case("text", "one"), Case("text", "two")
SETTINGS = BenchSettings(prompts=3, warmup=1, seed=7)


async def told(*cases: Case) -> tuple[Live, list[Any], Any]:
    """A live run that was told everything, its events, and the Result."""
    run = Run([words_suite(*cases)], [RecordingTarget("a", [], ttfts_s=(0.1, 0.2, 0.4))], SETTINGS)
    live, events = Live("text", "Text", SETTINGS, 0.0), []
    async for event in run.events():
        events.append(event)
        live.add(event, float(len(events)))
    return live, events, run.result()


def without(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("each", "running", "rounds")}


async def test_rows_and_loads_are_those_of_the_result() -> None:
    live, _, result = await told(ONE, TWO)
    whole = json.loads(json.dumps(result.json()))
    shown = live.displayed()
    assert json.loads(json.dumps([without(row) for row in shown.rows])) == [without(row) for row in whole["points"]]
    assert json.loads(json.dumps(shown.loads)) == whole["load"] and live.ended
    assert not any(row["running"] for row in shown.rows)
    again = from_json("it", whole)
    assert json.loads(json.dumps(shown.rows)) == json.loads(json.dumps(again.rows)), "a kept run shows the same"
    each = [answer["ttft_s"] * 1e3 for taken in whole["points"][0]["rounds"] for answer in taken]
    assert again.rows[0]["each"]["ttft"] == each
    other = json.loads(json.dumps(whole))
    other["points"][0]["ttft"]["median"] += 1
    assert from_json("it", other).rows[0] != again.rows[0], "the twin: another number is another row"


async def test_a_case_has_a_row_from_its_first_answer() -> None:
    _, events, _ = await told(ONE, TWO)
    live, grown = Live("text", "Text", SETTINGS, 0.0), []
    for event in events:
        live.add(event, 0.0)
        grown.append([(row["case"], row["answers"], row["running"]) for row in live.displayed().rows])
        if isinstance(event, Progress) and not event.counts:
            assert live.current_case == event.case.name
    assert [("one", 1, True)] in grown and [("one", 2, True)] in grown
    assert [("one", 3, False), ("two", 1, True)] in grown
    assert grown[-1] == [("one", 3, False), ("two", 3, False)]


def test_what_ran_together_is_one_round() -> None:
    case = Case("concurrency", "2 streams", (("streams", 2),))
    five = [sample(started_s=float(i)) for i in range(5)]
    point = so_far("a", case, five)
    assert [len(taken) for taken in point.rounds] == [2, 2], "a round of which one is missing waits for it"
    assert len(so_far("a", case, five[:1]).samples) == 1
    whole = Point(case, "a", tuple((five[i], five[i + 1]) for i in (0, 2)))
    assert point.metric("total_tps") == whole.metric("total_tps")


def test_every_metric_is_there_at_the_end_and_only_itl_waits() -> None:
    point = Point(ONE, "a", ((sample(),),))
    assert set(UNITS) <= set(row_of(point)) and set(UNITS) - set(row_of(point, SO_FAR)) == {"itl"}
    assert lives.EACH == ("ttft", "generation_tps")


def test_time_left_follows_the_last_answers() -> None:
    live = Live("text", "Text", SETTINGS, 0.0)
    assert live.remaining_s(5.0) is None
    live.add(Started(("text",), (ONE, TWO), ("a",), 8, SETTINGS), 0.0)
    for i in range(4):
        live.add(Progress(i + 1, 8, "a", ONE, None, False), float(i + 1))
    assert live.remaining_s(4.0) == pytest.approx(4.0)
    for i in range(4, 6):
        live.add(Progress(i + 1, 8, "a", TWO, None, False), 4.0 + 10 * (i - 3))
    assert live.remaining_s(24.0) > 8, "the later cases take longer, and so will the rest"
    assert live.remaining_s(1000.0) == 0


async def test_an_end_without_a_result_is_an_end() -> None:
    live, events, _ = await told(ONE)
    assert isinstance(events[-1], Finished) and any(isinstance(event, Load) for event in events)
    fresh = Live("text", "Text", SETTINGS, 0.0)
    for event in events[:-1]:
        fresh.add(event, 0.0)
    assert not fresh.ended and fresh.result_json is None and live.result is not None
