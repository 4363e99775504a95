"""The order of work: a long prompt neither stops running rows nor keeps a short prompt waiting. Counted in chunks, not
in seconds."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from engine.config import CacheConfig
from engine.models.adapter import Adapter
from engine.models.batch import Batch
from engine.scheduler import Scheduler
from tests.engine.drive import chat, settled

CHUNK = 32
LONG = "One more word. " * 300


@dataclass
class Log:
    """What the engine thread did, in order: "came" for a request, a prompt's length for a chunk of it, "step" for a
    decode step."""

    events: list[str | int] = field(default_factory=list)

    def chunks_between_steps(self) -> int:
        longest = run = 0
        for event in self.events:
            run = run + 1 if isinstance(event, int) else 0
            longest = max(longest, run)
        return longest


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    out = Log()
    prefill, step, submit = Adapter.prefill, Batch.step, Scheduler.submit

    def logged_prefill(adapter: Any, ids: Any, *rest: Any) -> None:
        out.events.append(len(ids))
        prefill(adapter, ids, *rest)

    def logged_step(batch: Any) -> Any:
        out.events.append("step")
        return step(batch)

    def logged_submit(scheduler: Any, sequence: Any) -> None:
        out.events.append("came")
        submit(scheduler, sequence)

    monkeypatch.setattr(Scheduler, "submit", logged_submit)
    monkeypatch.setattr(Adapter, "prefill", logged_prefill)
    monkeypatch.setattr(Batch, "step", logged_step)
    return out


async def drain(stream: Any) -> None:
    async for _ in stream:
        pass


async def long_engine(tiny_model: Any, engine_for: Any) -> Any:
    return await engine_for(tiny_model("qwen3"), prefill_chunk_tokens=CHUNK, cache=CacheConfig(enabled=False))


async def test_a_long_prompt_stops_running_rows_for_one_chunk_at_most(tiny_model: Any, engine_for: Any, log: Log):
    engine = await long_engine(tiny_model, engine_for)
    running = engine.stream(chat("Go on for ever.", max_tokens=400))
    await anext(running)
    log.events.clear()
    await drain(engine.stream(chat(LONG, max_tokens=1)))
    await running.aclose()
    await settled(engine)
    assert sum(isinstance(event, int) for event in log.events) > 10, "the long prompt took many chunks"
    assert log.chunks_between_steps() == 1


async def long_chunks_before_the_short_one(engine: Any, log: Log) -> int:
    """A short prompt comes while a long one is being read: chunks of the long one from then to its first."""
    long = asyncio.create_task(drain(engine.stream(chat(LONG, max_tokens=1))))
    while not any(isinstance(event, int) for event in log.events):
        await asyncio.sleep(0.001)
    await asyncio.gather(long, drain(engine.stream(chat("Hello there", max_tokens=1))))
    events = log.events[len(log.events) - log.events[::-1].index("came") :]
    longest = max(event for event in log.events if isinstance(event, int))
    first_short = next(i for i, event in enumerate(events) if isinstance(event, int) and event != longest)
    return events[:first_short].count(longest)


async def test_a_short_prompt_behind_a_long_one_starts_within_two_chunks(tiny_model: Any, engine_for: Any, log: Log):
    assert await long_chunks_before_the_short_one(await long_engine(tiny_model, engine_for), log) <= 2


async def test_sabotage_without_turns_the_long_prompt_goes_first(
    tiny_model: Any, engine_for: Any, log: Log, monkeypatch: pytest.MonkeyPatch
):
    def in_order(scheduler: Scheduler) -> Any:
        return (scheduler.prefilling[0], scheduler.chunk_tokens) if scheduler.prefilling else None

    monkeypatch.setattr(Scheduler, "next_prefill", in_order)
    assert await long_chunks_before_the_short_one(await long_engine(tiny_model, engine_for), log) > 2
