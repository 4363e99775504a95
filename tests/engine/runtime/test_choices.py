"""Several answers from one prompt: it is computed once, and each answer is as it would be alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.cache import tensors
from engine.config import CacheConfig
from engine.errors import BadRequest
from engine.models.adapter import Adapter
from engine.types import Sampling
from tests.conftest import EngineFor
from tests.engine.drive import ask, chat, settled
from tests.pictures import picture

TinyModel = Callable[..., Path]
COLD = CacheConfig(enabled=False)
SEEDED = Sampling(temperature=1.0, seed=11)


async def check_choices(engine: Any, *pieces: Any) -> None:
    """Choice i draws with seed + i, so it must be the answer that a request alone with that seed gets."""
    request = chat(*pieces, max_tokens=24, sampling=SEEDED)
    alone = [
        (await ask(engine, replace(request, sampling=replace(SEEDED, seed=11 + i)))).completion.choices[0]
        for i in range(3)
    ]
    beside = chat("A row beside them.", max_tokens=30)
    expected = (await ask(engine, beside)).text
    many, other = await asyncio.gather(ask(engine, replace(request, n=3)), ask(engine, beside))
    assert [choice.token_ids for choice in many.completion.choices] == [choice.token_ids for choice in alone], (
        "an answer differs from the one alone"
    )
    assert [choice.finish_reason for choice in many.completion.choices] == [c.finish_reason for c in alone]
    assert many.done.usage.completion_tokens == sum(len(choice.tokens) for choice in alone)
    assert other.text == expected
    assert not (await settled(engine)).running


@pytest.mark.parametrize("family", ["llama", "qwen3_vl", "gemma3", "qwen3_5"])
async def test_each_answer_is_the_one_alone(tiny_model: TinyModel, engine_for: EngineFor, family: str) -> None:
    engine = await engine_for(tiny_model(family), cache=COLD)
    pieces = ("Tell me.",) if family == "llama" else (picture("red"), "What is it?")
    await check_choices(engine, *pieces)


async def test_sabotage_answers_that_write_into_one_kv_are_seen(
    tiny_model: TinyModel, engine_for: EngineFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twin: all answers are drawn with the first one's random numbers, as where a fork shares what it must not."""
    from engine.models import sampling

    make = sampling.make_sampler
    monkeypatch.setattr(sampling, "make_sampler", lambda settings, forced=(), index=0: make(settings, forced))
    engine = await engine_for(tiny_model("llama"), cache=COLD)
    with pytest.raises(AssertionError, match="differs from the one alone"):
        await check_choices(engine, "Tell me.")


async def test_the_prompt_is_computed_once(
    tiny_model: TinyModel, engine_for: EngineFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await engine_for(tiny_model("llama"), cache=COLD)
    finishes: list[int] = []
    finish = Adapter.finish

    def counted(self: Adapter, ids: Any, *rest: Any) -> Any:
        finishes.append(len(ids))
        return finish(self, ids, *rest)

    monkeypatch.setattr(Adapter, "finish", counted)
    answer = await ask(engine, chat("Tell me.", max_tokens=5, sampling=SEEDED, n=4))
    assert len(finishes) == 1 and answer.done.usage.prompt_tokens == finishes[0]
    assert [choice.finish_reason for choice in answer.completion.choices] == ["length"] * 4


async def test_answers_of_one_prompt_are_stored_and_reused(tiny_model: TinyModel, engine_for: EngineFor) -> None:
    engine = await engine_for(tiny_model("llama"))
    first = await ask(engine, chat("word " * 100, max_tokens=70, sampling=SEEDED, n=2))
    again = await ask(engine, chat("word " * 100, max_tokens=70, sampling=SEEDED, n=2))
    assert again.done.usage.cached_tokens > 64
    assert [c.token_ids for c in again.completion.choices] == [c.token_ids for c in first.completion.choices]
    assert (await settled(engine)).cache.blocks_in_use == 0


async def test_a_cancelled_request_leaves_none_of_its_rows(tiny_model: TinyModel, engine_for: EngineFor) -> None:
    engine = await engine_for(tiny_model("llama"), cache=COLD)
    alone = (await ask(engine, chat("I stay.", max_tokens=20))).text
    stream = engine.stream(chat("I go.", max_tokens=2000, n=3, sampling=SEEDED))
    await anext(stream)
    staying = asyncio.create_task(ask(engine, chat("I stay.", max_tokens=20)))
    await asyncio.sleep(0.02)
    await stream.aclose()
    assert (await staying).text == alone
    assert not (await settled(engine)).running


async def test_more_answers_than_rows_are_refused(tiny_model: TinyModel, engine_for: EngineFor) -> None:
    engine = await engine_for(tiny_model("llama"), completion_batch_size=2, cache=COLD)
    with pytest.raises(BadRequest, match="n must be between 1 and 2"):
        await ask(engine, chat("Many.", n=3))
    with pytest.raises(BadRequest, match="n must be at least 1, not 0"):
        await ask(engine, chat("None.", n=0))


def test_a_fork_is_its_own() -> None:
    import mlx.core as mx
    from mlx_lm.models.cache import KVCache

    layer = KVCache()
    layer.update_and_fetch(mx.ones((1, 2, 3, 4)), mx.ones((1, 2, 3, 4)))
    (other,) = tensors.fork([layer])
    layer.update_and_fetch(mx.zeros((1, 2, 1, 4)), mx.zeros((1, 2, 1, 4)))
    other.update_and_fetch(2 * mx.ones((1, 2, 1, 4)), 2 * mx.ones((1, 2, 1, 4)))
    assert (layer.offset, other.offset) == (4, 4)
    assert layer.state[0][0, 0, :4, 0].tolist() == [1, 1, 1, 0]
    assert other.state[0][0, 0, :4, 0].tolist() == [1, 1, 1, 2]
