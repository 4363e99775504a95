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
from engine.models.interleave import InterleavedLayer
from engine.runtime import worker
from engine.runtime.scheduler import Scheduler
from tests.engine.drive import ask, chat, settled
from tests.pictures import picture

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
    step, submit = Batch.step, Scheduler.submit

    def logged(name: str) -> Any:
        read = getattr(Adapter, name)

        def chunk(adapter: Any, ids: Any, *rest: Any) -> Any:
            out.events.append(len(ids))
            return read(adapter, ids, *rest)

        return chunk

    def logged_step(batch: Any) -> Any:
        out.events.append("step")
        return step(batch)

    def logged_submit(scheduler: Any, sequence: Any) -> None:
        out.events.append("came")
        submit(scheduler, sequence)

    monkeypatch.setattr(Scheduler, "submit", logged_submit)
    for name in ("prefill", "finish"):
        monkeypatch.setattr(Adapter, name, logged(name))
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


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of prompts that were computed between two steps, gap by gap."""
    gaps = [0]
    prefill, finish, step = Adapter.prefill, Adapter.finish, Batch.step

    def counted_prefill(adapter: Any, ids: Any, span: tuple[int, int], *rest: Any) -> None:
        gaps[-1] += span[1] - span[0]
        prefill(adapter, ids, span, *rest)

    def counted_finish(adapter: Any, ids: Any, start: int, *rest: Any) -> Any:
        gaps[-1] += len(ids) - start
        return finish(adapter, ids, start, *rest)

    def counted_step(batch: Any) -> Any:
        gaps.append(0)
        return step(batch)

    monkeypatch.setattr(Adapter, "prefill", counted_prefill)
    monkeypatch.setattr(Adapter, "finish", counted_finish)
    monkeypatch.setattr(Batch, "step", counted_step)
    return gaps


async def gaps_of_short_prompts(tiny_model: Any, engine_for: Any, sizes: list[int]) -> tuple[list[int], int]:
    """Eight short prompts come while a row decodes: (tokens computed in each gap that had any, tokens of a prompt)."""
    engine = await engine_for(tiny_model("qwen3"), prefill_chunk_tokens=256, cache=CacheConfig(enabled=False))
    running = engine.stream(chat("Go on for ever.", max_tokens=400))
    await anext(running)
    sizes[:] = [0]
    prompts = [chat(f"{i} " + "One more word. " * 8, max_tokens=4) for i in range(8)]
    done = await asyncio.gather(*(ask(engine, prompt) for prompt in prompts))
    await running.aclose()
    await settled(engine)
    return [size for size in sizes if size], done[0].done.usage.prompt_tokens


async def test_short_prompts_share_a_gap_of_one_chunk(tiny_model: Any, engine_for: Any, sizes: list[int]):
    gaps, prompt_tokens = await gaps_of_short_prompts(tiny_model, engine_for, sizes)
    assert max(gaps) <= 256 and max(gaps) >= 2 * prompt_tokens
    assert len(gaps) < 8, "some were read together"


async def test_sabotage_a_gap_without_end(
    tiny_model: Any, engine_for: Any, sizes: list[int], monkeypatch: pytest.MonkeyPatch
):
    def forgetful(self: Any) -> bool:
        self.tokens_since_step = 0
        return False

    monkeypatch.setattr(Scheduler, "step_is_due", forgetful)
    gaps, _ = await gaps_of_short_prompts(tiny_model, engine_for, sizes)
    assert max(gaps) > 256


# -- encoders ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def layers(monkeypatch: pytest.MonkeyPatch, log: Log) -> Log:
    """The log gets a number for each layer of an encoder, too; gaps count in layers, not in seconds."""
    call = InterleavedLayer.__call__

    def logged(layer: Any, *args: Any, **settings: Any) -> Any:
        log.events.append(0)
        return call(layer, *args, **settings)

    monkeypatch.setattr(InterleavedLayer, "__call__", logged)
    monkeypatch.setattr(worker, "_MAX_GAP_S", 0.0)
    monkeypatch.setattr(worker, "_MAX_GAP_STEPS", 0.0)
    return log


async def layers_between_steps(engine: Any, log: Log) -> int:
    """A picture comes while a row decodes: the longest run of encoder layers and chunks without a step."""
    running = engine.stream(chat("Go on for ever.", max_tokens=400))
    await anext(running)
    log.events.clear()
    await drain(engine.stream(chat("What is this?", picture("red", "circle", (256, 256)), max_tokens=1)))
    await running.aclose()
    await settled(engine)
    assert log.events.count(0) >= 2, "the encoder ran"
    return log.chunks_between_steps()


async def picture_engine(tiny_model: Any, engine_for: Any) -> Any:
    return await engine_for(tiny_model("qwen3_vl"), cache=CacheConfig(enabled=False, features=False))


async def test_an_encoder_stops_running_rows_for_one_layer_at_most(tiny_model: Any, engine_for: Any, layers: Log):
    assert await layers_between_steps(await picture_engine(tiny_model, engine_for), layers) == 1


async def test_sabotage_an_encoder_that_does_not_breathe(
    tiny_model: Any, engine_for: Any, layers: Log, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(worker, "_MAX_GAP_S", 1e9)
    assert await layers_between_steps(await picture_engine(tiny_model, engine_for), layers) > 1


@pytest.mark.parametrize("family", ["qwen3_vl", "gemma3", "llava"])
async def test_tokens_are_those_of_each_row_alone(tiny_model: Any, engine_for: Any, layers: Log, family: str):
    """Steps between an encoder's layers change neither the rows that step nor the picture's row."""
    engine = await engine_for(tiny_model(family), cache=CacheConfig(enabled=False, features=False))
    text = chat("Tell me more.", max_tokens=40)
    seen = chat("What is this?", picture("red", "circle", (256, 256)), max_tokens=12)
    alone = [await ask(engine, request) for request in (text, seen)]
    layers.events.clear()
    reading = asyncio.create_task(ask(engine, text))
    while "step" not in layers.events:
        await asyncio.sleep(0.001)
    beside = [await ask(engine, seen), await reading]
    assert [answer.text for answer in beside[::-1]] == [answer.text for answer in alone]


# -- memory ------------------------------------------------------------------------------------------------------------


async def test_without_memory_for_two_rows_they_run_one_after_the_other(
    tiny_model: Any, engine_for: Any, steps: list[int]
):
    engine = await engine_for(tiny_model("qwen3"), memory_utilization=1e-6)
    requests = [chat(f"Count to {n}.", max_tokens=30) for n in range(4)]
    together = await asyncio.gather(*(ask(engine, request) for request in requests))
    assert max(steps) == 1
    assert [a.text for a in together] == [(await ask(engine, request)).text for request in requests]
