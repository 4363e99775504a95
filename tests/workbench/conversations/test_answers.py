"""Answers being written: read at the engine's speed, saved once a second, owned by nobody's page. The engine here is a
script: no MLX is involved."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from engine.errors import BadMedia, EngineError, Internal
from engine.types import (
    Delta,
    DescriptionProgress,
    DeviceInfo,
    Done,
    GeneratedToken,
    Request,
    Running,
    Snapshot,
    Timing,
    Usage,
)
from tests.waiting import until
from workbench.conversations import answers as module
from workbench.conversations.answers import AnswerRun, Answers
from workbench.conversations.types import Turn

DEVICE = DeviceInfo("Linux", "CPU", "CPU", 2**30, 2, "reference", "0")
DONE = Done("stop", Usage(5, 3), Timing(ttft_ms=10, decode_ms=20, completion_tokens=3, prompt_tokens=5))
TOKEN = Delta("x", tokens=(GeneratedToken(1),))
ANSWER = Turn("a", "assistant", "q", state="writing")


class Script:
    """Stands where an Engine stands: plays events with pauses, and remembers whether it was closed."""

    def __init__(self, *events, pause_s=0.0, error=None):
        self._events, self._pause_s, self._error = events, pause_s, error
        self.closed = False
        self.running = ()
        self.progress = None

    async def ready(self, model=None):
        return None

    def describing(self, request_id):
        return self.progress

    def snapshot(self):
        return Snapshot("ready", DEVICE, running=self.running)

    async def stream(self, request):
        try:
            for event in self._events:
                await asyncio.sleep(self._pause_s)
                yield event
            if self._error:
                raise self._error
        finally:
            self.closed = True


class Saved(list):
    async def __call__(self, turn):
        self.append(turn)


class Clock:
    """Stands where the module `time` stands in the answers' file: it goes on when a test says so, and counts looks."""

    def __init__(self):
        self.now_s, self.num_looks = 1000.0, 0

    def monotonic(self):
        self.num_looks += 1
        return self.now_s

    async def pass_by(self, seconds):
        """Time goes by, and whoever looks at the clock has looked at it since."""
        self.now_s += seconds
        looks = self.num_looks
        await until(lambda: self.num_looks >= looks + 4)


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    monkeypatch.setattr(module, "CHECK_S", 0.01)
    return made


def run_of(script: Script, saved: Saved | None = None) -> AnswerRun:
    return AnswerRun(script, Request(id="r"), ANSWER, saved if saved is not None else Saved())


async def test_the_whole_answer_is_saved_at_its_end():
    saved = Saved()
    turn = await run_of(Script(Delta("hm", channel="reasoning"), Delta("A "), Delta("cat."), DONE), saved).stopped()
    assert (turn.reasoning, turn.text, turn.state, turn.done) == ("hm", "A cat.", "done", DONE)
    assert turn.reasoning_s is not None
    assert saved[-1] == turn


@pytest.mark.parametrize("error", [None, Internal("No."), ValueError("no")])
async def test_until_its_end_is_saved_it_is_being_written(error):
    """A page that drew the end beside turns from the file would lay a receipt under no question."""
    seen: list[tuple[str, str, object]] = []

    async def save(turn):
        await asyncio.sleep(0)
        seen.append((turn.state, run.turn.state, run.turn.done))

    run = run_of(Script(Delta("A cat."), *([] if error else [DONE]), error=error), save)
    turn = await run.stopped()
    assert seen[-1] == ("failed" if error else "done", "writing", None) and turn.state == seen[-1][0]


async def test_what_is_written_is_saved_meanwhile(monkeypatch):
    monkeypatch.setattr(module, "SAVE_S", 0.05)
    saved, began_s = Saved(), time.monotonic()
    run = run_of(Script(*[TOKEN] * 100_000, DONE, pause_s=0.01), saved)
    await until(lambda: len(saved) >= 2)
    assert len(saved) <= 1 + (time.monotonic() - began_s) / 0.05, "it is not saved more often than that"
    assert all(turn.state == "writing" and turn.text for turn in saved)
    assert saved[-1].text in run.turn.text
    run.stop()
    await run.stopped()


async def test_stop_closes_the_stream_and_keeps_what_was_read():
    script, saved = Script(*[TOKEN] * 1000, DONE, pause_s=0.005), Saved()
    run = run_of(script, saved)
    await until(lambda: run.num_tokens >= 5)
    run.stop()
    turn = await run.stopped()
    assert script.closed
    assert (turn.state, turn.done, turn.text) == ("stopped", None, "x" * turn.num_tokens)
    assert saved[-1] == turn


async def test_a_failure_keeps_what_was_read():
    turn = await run_of(Script(Delta("A"), error=BadMedia("cat.png is no picture"))).stopped()
    assert (turn.text, turn.state, turn.error) == ("A", "failed", "cat.png is no picture")


async def test_a_fault_of_ours_says_so_without_its_insides():
    turn = await run_of(Script(error=RuntimeError("secret /path"))).stopped()
    assert turn.state == "failed" and turn.error and "secret" not in turn.error


async def test_an_answer_that_cannot_be_saved_goes_on():
    async def fail(turn):
        raise OSError("no disk")

    run = AnswerRun(Script(Delta("A"), DONE), Request(), ANSWER, fail)
    assert (await run.stopped()).text == "A"


async def test_waiting_says_how_far_the_prompt_is(clock):
    script = Script(Delta("A"), DONE, pause_s=0.2)
    run = run_of(script)
    script.running = (Running("r", "prefill", 2000, 512, 0, 0.0, "chat"),)
    assert run.waiting() == "Reading the prompt · 512 of 2,000 tokens"
    script.progress = DescriptionProgress("eyes", 3, 1)
    assert run.waiting() == "eyes looks at the media · 1 of 3"
    script.progress = None
    script.running = (Running("r", "restoring", 2000, 0, 0, 0.0, "chat"),)
    assert run.waiting() == "Reading the prompt from disk"
    clock.now_s += 2
    assert run.waiting() == "Reading the prompt from disk · 2 s"
    await run.stopped()


async def test_an_answer_that_nobody_looks_at_is_stopped_and_one_that_is_looked_at_is_not(clock):
    answers, ended = Answers(unwatched_s=60), []
    runs = {name: run_of(Script(*[TOKEN] * 100_000, DONE, pause_s=0.01)) for name in ("seen", "unseen")}
    for name, run in runs.items():
        answers.add(name, run, lambda run, name=name: ended.append((name, run.turn.state)))
    await clock.pass_by(0)  # they have begun
    with answers.watching("seen"):
        await clock.pass_by(59)
        assert ended == []
        clock.now_s += 2
        await until(lambda: ended)
        await clock.pass_by(100)
        assert ended == [("unseen", "stopped")]
        assert answers.conversations == {"seen"}
        await answers.stop("seen")
    await until(lambda: len(ended) == 2)
    assert ended[-1] == ("seen", "stopped") and answers.get("seen") is None


async def test_a_page_that_comes_back_in_time_saves_the_answer(clock):
    answers, ended = Answers(unwatched_s=60), []
    run = run_of(Script(*[TOKEN] * 100_000, DONE, pause_s=0.01))
    answers.add("c", run, ended.append)
    await clock.pass_by(0)  # it has begun
    for _ in range(4):
        await clock.pass_by(40)
        with answers.watching("c"):
            await clock.pass_by(40)
    assert not ended and answers.get("c") is run
    await answers.stop("c")


async def test_long_answers_are_sampled_less_often():
    run = run_of(Script(Delta("x" * 100_000), DONE, pause_s=0.01))
    assert run.period_s() == pytest.approx(1 / module.SAMPLE_HZ)
    await run.stopped()
    assert run.period_s() == 1.0


async def test_an_error_that_is_no_answer_is_not_a_state_of_its_own():
    """Twin of the failures above: an answer without one is done."""
    turn = await run_of(Script(Delta("A"), replace(DONE, finish_reason="length"))).stopped()
    assert turn.state == "done" and turn.error == "" and issubclass(BadMedia, EngineError)


async def test_an_answer_that_is_continued_has_its_beginning():
    begun = replace(ANSWER, text="One two", reasoning="Hm.", reasoning_s=1.5)
    run = AnswerRun(Script(Delta(" three"), DONE), Request(id="r"), begun, Saved())
    assert run.turn.text == "One two"
    turn = await run.stopped()
    assert (turn.text, turn.reasoning, turn.reasoning_s, turn.done) == ("One two three", "Hm.", 1.5, DONE)
