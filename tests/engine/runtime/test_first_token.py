"""The first token comes with the prompt's last chunk: before any step of the batch, and nothing wrong is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.config import CacheConfig
from engine.runtime.scheduler import Scheduler
from engine.runtime.worker import Worker
from engine.types import Request
from tests.conftest import EngineFor
from tests.engine.drive import GREEDY, Tape, ask, chat
from tests.pictures import picture

TinyModel = Callable[..., Path]
PROMPT = tuple(range(20, 60))
REST = tuple(range(70, 76))
WARM, COLD = CacheConfig(block_tokens=8), CacheConfig(enabled=False)
FAMILIES = ["llama", "qwen3_vl", "gemma3", "qwen3_5"]


def raw(*ids: int, max_tokens: int, id: str, **more: Any) -> Request:
    return Request(prompt=ids, sampling=GREEDY, max_tokens=max_tokens, id=id, **more)


@pytest.mark.parametrize("family", FAMILIES)
async def test_an_answer_of_one_token_takes_no_step(
    tiny_model: TinyModel, engine_for: EngineFor, tape: Tape, steps: list[int], family: str
) -> None:
    engine = await engine_for(tiny_model(family), cache=COLD)
    answer = await ask(engine, raw(*PROMPT, max_tokens=6, id="six"))
    assert answer.done.usage.completion_tokens == 6
    assert sum(steps) == 5, "the first came before"
    steps.clear()
    one = await ask(engine, raw(*PROMPT, max_tokens=1, id="one"))
    assert (one.done.finish_reason, one.done.usage.completion_tokens, steps) == ("length", 1, [])
    assert tape.tokens["one"] == tape.tokens["six"][:1]


async def check_stored(engine: Any, cold: Any, tape: Tape, *, most: int) -> None:
    """An answer that ended with its first token, at the limit or at a stop string, then prompts that go on from it:
    they answer as cold ones, and reuse what was computed, which the answer's token was not."""
    first = await ask(cold, raw(*PROMPT, max_tokens=1, id="cold"))
    longer = (*PROMPT, *tape.tokens["cold"], *REST)
    await ask(cold, raw(*longer, max_tokens=10, id="cold-longer"))
    assert first.text, "a stop string must have something to stop at"
    for name, ending in (("length", {"max_tokens": 1}), ("stop", {"max_tokens": 9, "stop": (first.text,)})):
        await engine.cache.clear()
        ended = await ask(engine, raw(*PROMPT, id=name, **ending))
        assert ended.done.finish_reason == name
        assert tape.tokens[name][:1] == tape.tokens["cold"]
        again = await ask(engine, raw(*longer, max_tokens=10, id=f"{name}-longer"))
        assert tape.tokens[f"{name}-longer"] == tape.tokens["cold-longer"], "what was stored is not what was computed"
        if len(tape.tokens[name]) == 1:  # some tokenizers' text is only sure with the next token
            assert again.done.usage.cached_tokens == most


@pytest.mark.parametrize("family", FAMILIES)
async def test_what_one_token_leaves_is_right(
    tiny_model: TinyModel, engine_for: EngineFor, tape: Tape, family: str
) -> None:
    """Blocks hold the prompt; snapshots end before its last token."""
    engine, cold = [await engine_for(tiny_model(family), cache=cache) for cache in (WARM, COLD)]
    await ask(engine, raw(*PROMPT, max_tokens=1, id="kind"))
    most = len(PROMPT) - 1 if engine.snapshot().cache.snapshots else len(PROMPT)
    await check_stored(engine, cold, tape, most=most)


async def test_sabotage_of_what_is_stored_is_seen(
    tiny_model: TinyModel, engine_for: EngineFor, tape: Tape, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twin: the first token is stored with the prompt, though the model has not read it."""
    engine, cold = [await engine_for(tiny_model("llama"), cache=cache) for cache in (WARM, COLD)]
    keep = Worker._store
    monkeypatch.setattr(
        Worker,
        "_store",
        lambda self, s, ids, kv: keep(self, s, [*ids, *(i for c in s.choices for i in c.token_ids)], kv),
    )
    with pytest.raises(AssertionError, match="what was stored is not what was computed"):
        await check_stored(engine, cold, tape, most=len(PROMPT))


async def test_pixels_are_let_go_when_the_prompt_is_read(
    tiny_model: TinyModel, engine_for: EngineFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[bool] = []
    emit = Worker._emit

    def noted(self: Worker, choice: Any, token: Any) -> None:
        held.append("pixel_values" in choice.sequence.prompt.inputs)
        emit(self, choice, token)

    engine = await engine_for(tiny_model("qwen3_vl"), cache=COLD)
    monkeypatch.setattr(Worker, "_emit", noted)
    await ask(engine, chat(picture("red"), "What?", max_tokens=4))
    assert held == [True, False, False, False]


async def order(engine: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whose token came when, of two requests and room for one row."""
    said: list[str] = []
    emit = Worker._emit

    def noted(self: Worker, choice: Any, token: Any) -> None:
        said.append(choice.sequence.id)
        emit(self, choice, token)

    monkeypatch.setattr(Worker, "_emit", noted)
    await asyncio.gather(*(ask(engine, chat(f"Tell {name}.", max_tokens=40, id=name)) for name in "ab"))
    return said


async def test_a_first_token_waits_for_room_in_the_batch(
    tiny_model: TinyModel, engine_for: EngineFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await engine_for(tiny_model("llama"), completion_batch_size=1, cache=COLD)
    said = await order(engine, monkeypatch)
    assert said == sorted(said, key=said.index)
    assert min(said.count("a"), said.count("b")) > 2


async def test_sabotage_of_the_wait_is_seen(
    tiny_model: TinyModel, engine_for: EngineFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await engine_for(tiny_model("llama"), completion_batch_size=1, cache=COLD)
    monkeypatch.setattr(Scheduler, "is_full", lambda self, sequence: False)
    said = await order(engine, monkeypatch)
    assert said != sorted(said, key=said.index)
