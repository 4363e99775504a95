"""The runner: turns are fair, what happens is told, and what was measured is kept whatever ends it."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing, nullcontext
from dataclasses import replace
from typing import Any

import pytest

from engine.errors import BadRequest
from engine.measure.bench.events import Finished, Noise, Progress, Started
from engine.measure.bench.load import Load
from engine.measure.bench.plan import BenchSettings, Case, Group, ScheduledQuestion, Suite
from engine.measure.bench.points import noise_of
from engine.measure.bench.questions import Question
from engine.measure.bench.report import table
from engine.measure.bench.result import Point
from engine.measure.bench.run import Run
from tests.engine.measure.bench.builders import RecordingTarget, sample, words_suite
from tests.waiting import TIMEOUT_S

SETTINGS = BenchSettings(prompts=3, warmup=1, seed=7)
ONE, TWO = Case("text", "one"), Case("text", "two")


async def events_of(run: Run) -> list[Any]:
    return [event async for event in run.events()]


async def test_everyone_gets_every_question_and_turns_change() -> None:
    asked: list[tuple[str, str]] = []
    run = Run([words_suite(ONE)], [RecordingTarget("a", asked), RecordingTarget("b", asked)], SETTINGS)
    events = await events_of(run)
    assert Counter(name for name, _ in asked) == {"a": 4, "b": 4}
    warm, counted = asked[:2], asked[2:]
    turns = [("a", "one 0"), ("b", "one 0"), ("b", "one 1"), ("a", "one 1"), ("a", "one 2"), ("b", "one 2")]
    assert counted == turns and {text for _, text in warm}.isdisjoint({text for _, text in counted})
    assert [len(point.samples) for point in run.result().points] == [3, 3]
    assert [event.counts for event in events if isinstance(event, Progress)] == [False] * 2 + [True] * 6


async def test_the_stream_of_events() -> None:
    run = Run([words_suite(ONE, TWO)], [RecordingTarget("a", [])], SETTINGS)
    events = await events_of(run)
    kinds = [type(event) for event in events if not isinstance(event, Load | Noise)]
    assert kinds == [Started, *[Progress] * 4, Point, *[Progress] * 4, Point, Finished]
    assert events[-1].result == run.result() and not run.result().stopped
    started = next(event for event in events if isinstance(event, Started))
    assert started.num_answers == 8 and started.cases == (ONE, TWO) and started.targets == ("a",)
    progress = [event for event in events if isinstance(event, Progress)]
    assert [event.done for event in progress] == list(range(1, 9)) and {event.total for event in progress} == {8}
    loads = [event for event in events if isinstance(event, Load)]
    assert loads and loads[0].process_bytes == 2**20 and run.result().loads == tuple(loads)


@pytest.mark.parametrize("how", ["stop", "close", "cancel"])
async def test_what_was_measured_is_kept(how: str) -> None:
    """Ended in the second case's second round: the first case is whole, the second has what it had."""
    target = RecordingTarget("a", [])
    target.hangs = "two 1"
    run = Run([words_suite(ONE, TWO)], [target], SETTINGS)
    reached = asyncio.Event()

    async def read() -> None:
        async with aclosing(run.events()) as events:
            async for event in events:
                if isinstance(event, Progress) and event.done == 6:
                    await asyncio.sleep(0.01)
                    reached.set()
                    if how == "close":
                        return
                    if how == "stop":
                        run.stop()

    reading = asyncio.create_task(read())
    async with asyncio.timeout(TIMEOUT_S):
        await reached.wait()
    if how == "cancel":
        reading.cancel()
    with pytest.raises(asyncio.CancelledError) if how == "cancel" else nullcontext():
        await reading
    assert {point.case.name: len(point.samples) for point in run.result().points} == {"one": 3, "two": 1}
    assert run.result().stopped


async def test_a_target_that_fails_is_said_and_the_others_go_on() -> None:
    asked: list[tuple[str, str]] = []
    good, bad = RecordingTarget("a", asked), RecordingTarget("b", asked)
    bad.fails = "two"
    run = Run([words_suite(ONE, TWO)], [good, bad], SETTINGS)
    events = await events_of(run)
    errors = {(point.target, point.case.name): point.errors for point in run.result().points}
    assert errors == {("a", "one"): (), ("b", "one"): (), ("a", "two"): (), ("b", "two"): ("b cannot.",)}
    assert [event.done for event in events if isinstance(event, Progress)][-1] == 16


async def test_nothing_measured_is_an_error() -> None:
    bad = RecordingTarget("a", [])
    bad.fails = "one"
    with pytest.raises(BadRequest, match="a cannot"):
        await events_of(Run([words_suite(ONE)], [bad], SETTINGS))
    with pytest.raises(BadRequest, match="There are: one"):
        Run([words_suite(ONE)], [bad], BenchSettings(only=("three",)))


async def test_noise_is_marked() -> None:
    """TTFT of 0.1 and 0.2 s in turns spreads by more than 15 %; equal ones do not."""
    noisy = Run([words_suite(ONE)], [RecordingTarget("a", [], (0.1, 0.2))], SETTINGS)
    events = await events_of(noisy)
    assert "noisy: ttft" in noisy.result().points[0].noise[0]
    assert [event.kind for event in events if isinstance(event, Noise) if event.kind == "spread"] == ["spread"]
    steady = Run([words_suite(ONE)], [RecordingTarget("a", [])], SETTINGS)
    await events_of(steady)
    assert steady.result().points[0].noise == ()


def test_answers_that_came_at_once_are_marked() -> None:
    """A server that sends its whole answer late: the pieces come within microseconds."""
    at_once = Point(ONE, "a", ((sample(0.1, 0.0001),),))
    assert "came at once" in noise_of(at_once)[0]
    assert noise_of(Point(ONE, "a", ((sample(0.1, 0.1),),))) == ()


async def test_what_others_asked_meanwhile_is_marked() -> None:
    target = RecordingTarget("a", [])
    ask = target.ask

    async def ask_beside_the_chat(*arguments: Any) -> Any:
        target.others += 1
        return await ask(*arguments)

    target.ask = ask_beside_the_chat  # type: ignore[method-assign]
    run = Run([words_suite(ONE)], [target], SETTINGS)
    events = await events_of(run)
    assert "others asked meanwhile (3)" in run.result().points[0].noise
    assert any(isinstance(event, Noise) and event.kind == "traffic" for event in events)


async def test_targets_are_held_against_the_first() -> None:
    """b takes twice as long for each of the same questions."""
    run = Run([words_suite(ONE)], [RecordingTarget("a", [], (0.1,)), RecordingTarget("b", [], (0.2,))], SETTINGS)
    await events_of(run)
    (ttft,) = [one for one in run.result().compared if one.metric == "ttft"]
    assert ttft.title == "a / b" and ttft.ratio.value == pytest.approx(0.5) and ttft.ratio.pairs == 3
    assert ttft.good.value == pytest.approx(2)


async def test_servers_are_held_against_servers_and_libraries_against_the_engine() -> None:
    """A goal for each kind, turned so that more is better; only servers are asked what only a server can do."""
    one, two = Case("peers", "one"), Case("peers", "two")
    alone = Group(
        (two,), lambda n: ((ScheduledQuestion(Question(f"two {n}", 4), two),),), servers=True, parity=("ttft",)
    )
    all_of_us = Group(
        (one,), lambda n: ((ScheduledQuestion(Question(f"one {n}", 4), one),),), parity=("generation_tps", "ttft")
    )
    suite = Suite("peers", "Peers", "text", lambda settings: [all_of_us, alone], servers=True)
    ours, theirs = (
        RecordingTarget(name, [], (ttft,), in_process=False) for name, ttft in (("ours", 0.2), ("theirs", 0.1))
    )
    engine, library = (RecordingTarget(name, [], (ttft,)) for name, ttft in (("engine", 0.102), ("library", 0.1)))
    run = Run([suite], [ours, engine, theirs, library], SETTINGS)
    await events_of(run)
    result = run.result()
    told = {(one.title, one.case, one.metric): one for one in result.compared}
    assert {(title, case) for title, case, _ in told} == {
        ("ours / theirs", "one"),
        ("engine / library", "one"),
        ("ours / theirs", "two"),
    }
    assert {metric for _, case, metric in told if case == "two"} == {"ttft"}
    slower = told["ours / theirs", "one", "ttft"]
    assert slower.reached is False and slower.good.value == pytest.approx(0.5)
    assert told["engine / library", "one", "ttft"].reached  # 2 % slower: hardly worse than a library
    assert told["ours / theirs", "one", "generation_tps"].reached  # a tie
    said = table(result)
    (row,) = [line for line in said.splitlines() if line.startswith("one") and "TTFT" in line and "!" in line]
    assert row.split() == ["one", "TTFT", "0.5", "(0.5", "to", "0.5)", "!", "0.98", "(0.98", "to", "0.98)"]
    (row,) = [line for line in said.splitlines() if line.startswith("two") and "!" in line]
    assert row.split()[-1] == "-"


def test_memory_is_the_most_of_a_round() -> None:
    """At the end of many streams the first has given its own back; without a process there is none."""
    rounds = tuple(tuple(sample(process_bytes=held * 2**20) for held in taken) for taken in ((3, 5, 4), (6, 1, 1)))
    assert Point(ONE, "a", rounds).by_round("memory") == [5, 6]
    assert Point(ONE, "a", ((sample(),),)).by_round("memory") == [None]


async def test_a_group_beside_a_target_of_its_own() -> None:
    """Only its group is asked of it, in turns with the first; the limit of the ratio is told."""
    beside = Group(
        (TWO,),
        lambda n: ((ScheduledQuestion(Question(f"two {n}", 4), TWO),),),
        only_target="off",
        limits=(("ttft", 1.03),),
    )
    suite = replace(words_suite(), groups=lambda settings: [*words_suite(ONE).groups(settings), beside])
    run = Run([suite], [RecordingTarget("a", [], (0.2,)), RecordingTarget("off", [], (0.1,))], SETTINGS)
    await events_of(run)
    asked = {(point.target, point.case.name) for point in run.result().points}
    assert asked == {("a", "one"), ("a", "two"), ("off", "two")}
    (ttft,) = [one for one in run.result().compared if one.metric == "ttft"]
    assert ttft.ratio.value == pytest.approx(2) and ttft.reached is False and ttft.case == "two"
    without = Run([suite], [RecordingTarget("a", [])], SETTINGS)
    await events_of(without)
    assert "not measured, because it needs a target 'off': two" in without.result().notes
    assert len(without.result().points) == 1


async def test_each_run_draws_questions_of_its_own() -> None:
    """A server that still runs must not know them from the run before."""
    first, second = (Run([words_suite(ONE)], [RecordingTarget("a", [])], BenchSettings()) for _ in range(2))
    assert first.settings.seed != second.settings.seed
    assert Run([words_suite(ONE)], [RecordingTarget("a", [])], BenchSettings(seed=5)).settings.seed == 5
