"""workbench.chat.session: reading one stream into a buffer. The engine here is a script: no MLX is involved."""

from __future__ import annotations

import asyncio

from engine.errors import BadMedia
from engine.types import Delta, DeviceInfo, Done, GeneratedToken, Request, Running, Snapshot, Timing, Usage
from workbench.chat.session import SAMPLE_HZ, LiveAnswer, Session

DEVICE = DeviceInfo("Linux", "CPU", "CPU", 2**30, 2, "reference", "0")
DONE = Done("stop", Usage(5, 3), Timing(ttft_ms=10, decode_ms=20, completion_tokens=3, prompt_tokens=5))


class Script:
    """Stands where an Engine stands: plays events with pauses, and remembers whether it was closed."""

    def __init__(self, *events, pause_s=0.0, error=None):
        self._events, self._pause_s, self._error = events, pause_s, error
        self.closed = False
        self.running = ()

    async def ready(self):
        return None

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


async def samples(answer):
    return [sample async for sample in answer.samples()]


async def test_the_last_sample_is_the_whole_answer_and_its_note():
    got = await samples(LiveAnswer(Script(Delta("A "), Delta("cat"), Delta("."), DONE), Request()))
    assert [entry.text for entry in got[-1]] == ["A cat.", "5 tokens in · 3 out · first token 10 ms · 100 tokens/s"]


async def test_reasoning_is_its_own_entry():
    script = Script(Delta("hm", channel="reasoning"), Delta("Yes"), DONE)
    got = await samples(LiveAnswer(script, Request()))
    assert [(entry.kind, entry.text) for entry in got[-1][:2]] == [("reasoning", "hm"), ("text", "Yes")]


async def test_the_page_does_not_slow_the_engine_down():
    """400 tokens and a page that needs 50 ms for each update: the stream is read at its own speed."""
    answer = LiveAnswer(Script(*[Delta("x", tokens=(GeneratedToken(1),))] * 400, DONE), Request())
    num_samples, read_early = 0, False
    async for _ in answer.samples():
        num_samples += 1
        await asyncio.sleep(0.05)
        read_early = read_early or answer.done is not None
    assert read_early
    assert num_samples < 10
    assert answer.num_tokens == 400


async def test_samples_come_at_most_at_their_rate():
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    got = await samples(
        LiveAnswer(Script(*[Delta("x", tokens=(GeneratedToken(1),))] * 60, DONE, pause_s=0.01), Request())
    )
    assert len(got) <= (loop.time() - start_s) * SAMPLE_HZ + 2
    assert len(got) >= 4  # it streams: not one lump at the end


async def test_stop_closes_the_stream_and_keeps_what_was_read():
    script = Script(*[Delta("x", tokens=(GeneratedToken(1),))] * 1000, DONE, pause_s=0.005)
    answer = LiveAnswer(script, Request())
    async for _ in answer.samples():
        if answer.num_tokens >= 5:
            break
    answer.stop()
    last = (await samples(answer))[-1]
    assert script.closed
    assert answer.done is None
    assert last[0].text == "x" * answer.num_tokens
    assert last[1].text == f"{answer.num_tokens} out · stopped"


async def test_a_failure_is_an_entry_after_what_was_read():
    got = await samples(LiveAnswer(Script(Delta("A"), error=BadMedia("cat.png is no picture")), Request()))
    assert [(entry.kind, entry.text) for entry in got[-1]] == [("text", "A"), ("error", "cat.png is no picture")]


async def test_a_fault_of_ours_says_so_without_its_insides():
    got = await samples(LiveAnswer(Script(error=RuntimeError("secret /path")), Request()))
    assert got[-1][-1].kind == "error"
    assert "secret" not in got[-1][-1].text


async def test_waiting_says_how_far_the_prompt_is():
    script = Script(Delta("A"), DONE, pause_s=0.2)
    answer = LiveAnswer(script, Request())
    script.running = (Running(answer.request.id, "prefill", 2000, 512, 0, 0.0, "chat"),)
    got = await samples(answer)
    assert got[0][0].kind == "busy"
    assert got[0][0].text == "Reading the prompt · 512 of 2,000 tokens"


async def test_waiting_says_that_a_prompt_comes_from_disk():
    script = Script(Delta("A"), DONE, pause_s=0.2)
    answer = LiveAnswer(script, Request())
    script.running = (Running(answer.request.id, "restoring", 2000, 0, 0, 0.0, "chat"),)
    assert (await samples(answer))[0][0].text == "Reading the prompt from disk"


async def test_clearing_a_session_stops_its_answer():
    session = Session()
    script = Script(*[Delta("x", tokens=(GeneratedToken(1),))] * 1000, DONE, pause_s=0.005)
    session.answer = answer = LiveAnswer(script, Request())
    await asyncio.sleep(0.05)
    session.clear()
    await samples(answer)
    assert script.closed
    assert (session.entries, session.answer) == ((), None)
