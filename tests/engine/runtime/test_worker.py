"""worker: a cancelled request is as if it had never been; seeds hold in any batch; the snapshot tells the truth.

Each check has a sabotage twin that breaks one thing and must see the same check go red.
"""

from __future__ import annotations

import asyncio
import gc
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from engine.config import CacheConfig, EngineConfig, ModelSpec
from engine.core import Engine
from engine.errors import EngineError
from engine.models.batch import Batch
from engine.runtime.endings import Endings
from engine.runtime.stats import EngineStats
from engine.runtime.worker import Worker
from engine.types import Delta, Request, Running, Sampling
from tests import waiting
from tests.conftest import EngineFor
from tests.engine.drive import Answer, Tape, ask, chat, settled
from tests.pictures import picture

TinyModel = Callable[..., Path]
NO_CACHE = CacheConfig(enabled=False)
LONG = "word " * 800
SEEDED = Sampling(temperature=0.9, top_p=0.95, seed=17)


async def until(engine: Any, request_id: str, stage: str, prefilled: int = 0) -> Running:
    """Wait until the snapshot shows a request at a stage."""
    async with asyncio.timeout(30):
        while True:
            for running in engine.snapshot().running:
                if (running.id, running.stage) == (request_id, stage) and running.prefilled_tokens >= prefilled:
                    return running
            await asyncio.sleep(0.002)


async def leave(engine: Any, request: Request, stage: str) -> None:
    """Start a request and close its stream when it has reached a stage."""
    stream: AsyncIterator[Any] = engine.stream(request)
    if stage == "decode":
        async with asyncio.timeout(30):
            assert isinstance(await anext(stream), Delta), "it ended before it could be left"
        await stream.aclose()  # type: ignore[attr-defined]
        return
    reading = asyncio.ensure_future(anext(stream))
    await until(engine, request.id, stage, prefilled=16 if stage == "prefill" else 0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await stream.aclose()  # type: ignore[attr-defined]


async def counted(engine: Any, cancelled: int) -> None:
    """Wait until as many requests were cancelled and nothing runs; a stream that is closed does not wait for it."""
    async with asyncio.timeout(30):
        while engine.snapshot().totals.cancelled < cancelled or engine.snapshot().running:
            await asyncio.sleep(0.01)
    assert engine.snapshot().totals.cancelled == cancelled


# -- cancelling --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """What an engine holds when nothing runs: rows in its batch and in its tables, and MLX's active memory."""

    batch: int
    by_row: int
    kv_bytes: int
    active_bytes: int

    @classmethod
    def of(cls, engine: Any) -> Rows:
        gc.collect()
        (held,) = [w for w in gc.get_objects() if isinstance(w, Worker) and w._stats is stats_of(engine)]
        rows = held._rows
        # Not the snapshot's: it may be older than the collection of what another engine left.
        return cls(len(rows), len(rows._choices), rows._batch.kv_bytes(), mx.get_active_memory())


def stats_of(engine: Any) -> Any:
    """The statistics that publish to this engine."""
    (stats,) = [s for s in gc.get_objects() if isinstance(s, EngineStats) and s._publish == engine._publish]
    return stats


async def check_cancelled(engine: Any, stage: str) -> None:
    """Two others answer as alone, the cancelled one leaves no row, no KV and no memory."""
    # Decoding must outlive the wait for a snapshot, which comes ten times a second; who waits is seen in a second one.
    num_tokens = 600 if stage == "waiting" else 150
    others = [chat(f"Other {i}.", max_tokens=num_tokens, id=f"other-{i}-{stage}") for i in range(2)]
    alone = [(await ask(engine, request)).text for request in others]
    gone = chat(picture(), LONG if stage == "prefill" else "I leave.", max_tokens=1000, id=f"gone-{stage}")
    cancelled = (await settled(engine)).totals.cancelled + 1
    await leave(engine, chat(picture(), "I leave.", max_tokens=1000, id=f"warm-{stage}"), "decode")
    await counted(engine, cancelled)
    before = Rows.of(engine)
    for attempt in range(2):
        answering = [asyncio.create_task(ask(engine, replace(r, id=f"{r.id}-{attempt}"))) for r in others]
        try:
            if stage == "waiting":
                await until(engine, f"{others[0].id}-{attempt}", "decode")
            await leave(engine, replace(gone, id=f"{gone.id}-{attempt}"), stage)
            assert [(await answer).text for answer in answering] == alone, "the others do not answer as alone"
        finally:
            for answer in answering:
                answer.cancel()
            await asyncio.gather(*answering, return_exceptions=True)
    await counted(engine, cancelled + 2)
    after = Rows.of(engine)
    assert (after.batch, after.by_row) == (0, 0), "a cancelled row stays in the batch"
    assert after.kv_bytes == before.kv_bytes
    # One prompt of the long kind holds some 2 MB of KV; the allocator's lag is far below. The step that was submitted
    # ahead of the last ending may hold its rows for a moment.
    await waiting.until(lambda: Rows.of(engine).active_bytes - before.active_bytes < 300_000, "memory stays behind", 5)


@pytest.mark.parametrize("stage", ["waiting", "prefill", "decode"])
async def test_cancelled_is_as_if_never_started(engine_for: EngineFor, tiny_model: TinyModel, stage: str) -> None:
    rows = 2 if stage == "waiting" else 8
    engine = await engine_for(tiny_model("qwen3_vl"), prefill_chunk_tokens=16, max_num_seqs=rows, cache=NO_CACHE)
    await check_cancelled(engine, stage)


async def test_sabotage_a_row_that_stays_is_seen(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twin, on an engine of its own: the batch does not let go of a cancelled row."""
    spec = ModelSpec(str(tiny_model("qwen3_vl")))
    engine = Engine(EngineConfig(model=spec, prefill_chunk_tokens=16, cache=NO_CACHE))
    engine.start()
    monkeypatch.setattr(Batch, "remove", lambda self, row: [])
    try:
        with pytest.raises(AssertionError, match="a cancelled row stays in the batch"):
            await check_cancelled(engine, "decode")
    finally:
        engine.stop()


async def test_sabotage_memory_that_stays_is_seen(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twin: somebody keeps the KV of a request that was cancelled in prefill."""
    spec = ModelSpec(str(tiny_model("qwen3_vl")))
    engine = Engine(EngineConfig(model=spec, prefill_chunk_tokens=16, cache=NO_CACHE))
    engine.start()
    kept, forget = [], Endings.forget

    def keep(self: Endings, sequence: Any) -> None:
        kept.append((sequence.cache, sequence.embeddings, sequence.prompt))
        forget(self, sequence)

    monkeypatch.setattr(Endings, "forget", keep)
    try:
        with pytest.raises(AssertionError, match="memory stays behind"):
            await check_cancelled(engine, "prefill")
    finally:
        engine.stop()


async def test_closing_a_stream_that_is_over_cancels_nothing(engine_for: EngineFor, tiny_model: TinyModel) -> None:
    engine = await engine_for(tiny_model("llama"))
    cancelled = (await settled(engine)).totals.cancelled
    stream = engine.stream(chat("Hello", max_tokens=3))
    events = [event async for event in stream]
    await stream.aclose()
    await ask(engine, chat("Hello", max_tokens=3))
    assert events
    assert (await settled(engine)).totals.cancelled == cancelled


# -- seeds -------------------------------------------------------------------------------------------------------------


async def crowd(engine: Any, requests: list[Request]) -> list[Answer]:
    return await asyncio.gather(*(ask(engine, request) for request in requests))


async def check_seeds(engine: Any, tape: Tape) -> None:
    """Same seed, same tokens: alone, and in a batch of greedy and differently seeded rows, whatever its order."""
    prompts = ("One.", "Another prompt.")
    requests = [
        chat(text, max_tokens=20, sampling=replace(SEEDED, seed=seed), id=f"{text}{seed}")
        for text in prompts
        for seed in (1, 2)
    ]
    for request in requests:
        await ask(engine, replace(request, id=f"alone {request.id}"))
    greedy = [chat(f"Greedy {i}", max_tokens=25) for i in range(2)]
    await crowd(engine, [greedy[0], *requests, greedy[1]])
    for request in requests:
        assert tape.tokens[request.id] == tape.tokens[f"alone {request.id}"], "a seed is not its row's own"
    reverse = [replace(request, id=f"reverse {request.id}") for request in reversed(requests)]
    await crowd(engine, reverse)
    for request in requests:
        assert tape.tokens[f"reverse {request.id}"] == tape.tokens[request.id]
    assert len({tuple(tape.tokens[request.id]) for request in requests}) == len(requests), "seeds make no difference"


@pytest.mark.parametrize("family", ["llama", "qwen3_vl"])
async def test_a_seed_gives_the_same_tokens_in_any_batch(
    engine_for: EngineFor, tiny_model: TinyModel, tape: Tape, family: str
) -> None:
    await check_seeds(await engine_for(tiny_model(family), cache=NO_CACHE), tape)


async def test_sabotage_a_shared_sampler_is_seen(
    engine_for: EngineFor, tiny_model: TinyModel, tape: Tape, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twin: the first request's sampler rules the whole batch, as in stock servers."""
    from engine.models import sampling

    shared = sampling.make_sampler(SEEDED)
    monkeypatch.setattr(sampling, "make_sampler", lambda *_: shared)
    engine = await engine_for(tiny_model("llama"), cache=NO_CACHE)
    with pytest.raises(AssertionError, match="a seed is not its row's own"):
        await check_seeds(engine, tape)


async def test_without_a_seed_answers_differ(engine_for: EngineFor, tiny_model: TinyModel) -> None:
    engine = await engine_for(tiny_model("llama"), cache=NO_CACHE)
    hot = chat("Same prompt", max_tokens=20, sampling=Sampling(temperature=1.0))
    assert len({answer.text for answer in await crowd(engine, [hot] * 3)}) == 3


async def test_penalties_and_bias_hold_in_a_batch(engine_for: EngineFor, tiny_model: TinyModel, tape: Tape) -> None:
    """A row's logits processors are its own: the row beside it answers as alone."""
    engine = await engine_for(tiny_model("llama"), cache=NO_CACHE)
    plain = chat("Plain.", max_tokens=16, id="plain")
    banned = Sampling(temperature=0.0, logit_bias=((65, 1000.0),))
    biased = chat("Biased.", max_tokens=16, sampling=banned, id="biased")
    await ask(engine, replace(plain, id="alone"))
    await crowd(engine, [plain, biased])
    assert tape.tokens["plain"] == tape.tokens["alone"]
    assert tape.tokens["biased"] == [65] * 16


# -- the snapshot ------------------------------------------------------------------------------------------------------


async def test_the_snapshot_counts_what_happened(tiny_model: TinyModel) -> None:
    engine = Engine(EngineConfig(model=ModelSpec(str(tiny_model("llama"))), cache=NO_CACHE, max_model_len=4096))
    engine.start()
    try:
        answers = [await ask(engine, chat(f"Request {i}", max_tokens=5)) for i in range(3)]
        # Long enough not to end by itself, however late a busy machine brings the news that it was left.
        await leave(engine, chat("I leave", max_tokens=4000, id="gone"), "decode")
        await counted(engine, 1)
        with pytest.raises(EngineError):
            await ask(engine, chat("word " * 5000))
        totals = (await settled(engine)).totals
    finally:
        engine.stop()
    assert (totals.requests, totals.finished, totals.cancelled, totals.failed) == (5, 3, 1, 1)
    assert totals.prompt_tokens == sum(answer.done.usage.prompt_tokens for answer in answers)
    assert totals.completion_tokens == 15


async def test_the_snapshot_shows_who_runs(engine_for: EngineFor, tiny_model: TinyModel) -> None:
    engine = await engine_for(tiny_model("llama"), prefill_chunk_tokens=16, max_num_seqs=2, cache=NO_CACHE)
    request = chat("Run long", max_tokens=2000, id="runner", source="chat", session="tab-1")
    stream = engine.stream(request)
    await anext(stream)
    row = await until(engine, "runner", "decode")
    snapshot = engine.snapshot()
    assert (row.source, row.session, row.prefilled_tokens > 0) == ("chat", "tab-1", True)
    assert snapshot.state == "ready"
    assert snapshot.model is not None
    assert snapshot.model.model_type == "llama"
    assert snapshot.active_bytes > 0
    assert snapshot.process_bytes > 10_000_000
    await stream.aclose()
    assert not (await settled(engine)).running


async def test_a_short_prompt_does_not_wait_for_a_long_one(engine_for: EngineFor, tiny_model: TinyModel) -> None:
    """Prompts take turns chunk by chunk; and rows that decode go on between the chunks."""
    engine = await engine_for(tiny_model("llama"), prefill_chunk_tokens=16, max_num_seqs=8, cache=NO_CACHE)
    ended: list[str] = []

    async def run(name: str, request: Request) -> None:
        await ask(engine, request)
        ended.append(name)

    await asyncio.gather(
        run("long", chat(LONG, max_tokens=2)),
        run("short", chat("Short.", max_tokens=10)),
        run("late", chat("Late.", max_tokens=10)),
    )
    assert ended[-1] == "long"


async def test_an_answer_may_be_kept_from_ending(demo_engine: Any) -> None:
    """The demo model says a short sentence and stops; with min_tokens it goes on, beside a row that does not."""
    held, free = await asyncio.gather(
        ask(demo_engine, chat("Who are you?", max_tokens=60, min_tokens=60)),
        ask(demo_engine, chat("Who are you?", max_tokens=60)),
    )
    assert held.done.usage.completion_tokens == 60 and held.done.finish_reason == "length"
    assert free.done.usage.completion_tokens < 60 and free.done.finish_reason == "stop"
    assert held.text.startswith(free.text)


async def test_tokens_come_with_their_logprobs(demo_engine: Any) -> None:
    """Each its own and the likeliest at its place, where they were asked for; another picture has others."""
    red, blue, own, silent = [
        await ask(demo_engine, chat(picture(colour), "What color is it?", logprobs=count))
        for colour, count in (("red", 20), ("blue", 20), ("red", 0), ("red", None))
    ]
    assert [len(token.top) for token in red.tokens] == [20] * len(red.tokens)
    for token in red.tokens:
        probabilities = [math.exp(logprob) for _, logprob in token.top]
        assert probabilities == sorted(probabilities, reverse=True) and sum(probabilities) <= 1 + 1e-3
        assert (token.id, token.logprob) == token.top[0], "greedy: the likeliest is what is said"
    assert [(token.id, token.top) for token in own.tokens] == [(token.id, ()) for token in red.tokens]
    assert [t.logprob for t in own.tokens] == pytest.approx([t.logprob for t in red.tokens], abs=1e-4)
    assert all(token.logprob is None and token.top == () for token in silent.tokens)
    assert red.tokens[0].top != blue.tokens[0].top
