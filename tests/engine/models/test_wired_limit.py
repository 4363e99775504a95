"""The wired limit of Metal: mlx-lm's batcher raises it, and no engine leaves it raised. Metal's part is played here: no
other device has such a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from engine.api.health import health_json
from engine.config import EngineConfig, ModelSpec
from engine.core import Engine
from engine.errors import BadRequest
from engine.models import batch, mlx_memory
from tests.engine.drive import ask, chat

MIB = 1024**2
RECOMMENDED = 4096 * MIB


class Metal:
    """What of Metal this is about, behind MLX's own calls. limit: what is set; asked: all that were, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.limit = 0
        self.asked: list[int] = []
        own = mx.device_info()
        monkeypatch.setattr(mx, "device_info", lambda *_: own | {"max_recommended_working_set_size": RECOMMENDED})
        monkeypatch.setattr(mx, "set_wired_limit", self.set)

    def set(self, limit: int) -> int:
        if limit > RECOMMENDED:
            raise ValueError("[metal::set_wired_limit] Setting a wired limit larger than the maximum working set size")
        before, self.limit = self.limit, limit
        self.asked.append(limit)
        return before


@pytest.fixture
def metal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Metal]:
    mlx_memory.device_bytes.cache_clear()  # it is asked once
    yield Metal(monkeypatch)
    mlx_memory.device_bytes.cache_clear()


async def limits(metal: Metal, folder: Path, **settings: Any) -> tuple[int, Any]:
    """The limit while the batcher lives that has given two answers, and what /health says of it."""
    engine = Engine(EngineConfig(model=ModelSpec(str(folder)), **settings))
    engine.start()
    try:
        await asyncio.gather(*(ask(engine, chat(text, max_tokens=4)) for text in ("One", "Two")))
        assert RECOMMENDED in metal.asked, "the batcher raises nothing any more"
        return metal.limit, health_json(engine.snapshot())["memory"]["wired_limit_bytes"]
    finally:
        await asyncio.to_thread(engine.stop)


@pytest.mark.parametrize("asked_bytes", [None, 512 * MIB])
async def test_it_is_what_was_asked_for_while_the_batcher_lives_and_after_it(
    metal: Metal, tiny_model: Callable[..., Path], asked_bytes: int | None
) -> None:
    during, said = await limits(metal, tiny_model("llama"), wired_limit_bytes=asked_bytes)
    assert during == said == (asked_bytes or 0), "the batcher's limit is left"
    assert metal.limit == (asked_bytes or 0), "the batcher's end has changed it"


async def test_sabotage_a_limit_that_is_left_is_seen(
    metal: Metal, tiny_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "set_wired_limit", lambda *_: None)
    with pytest.raises(AssertionError, match="the batcher's limit is left"):
        await test_it_is_what_was_asked_for_while_the_batcher_lives_and_after_it(metal, tiny_model, None)


async def test_more_than_the_system_allows_is_refused_at_the_start(
    metal: Metal, tiny_model: Callable[..., Path]
) -> None:
    with pytest.raises(BadRequest, match="--wired-limit: the system refuses it"):
        await limits(metal, tiny_model("llama"), wired_limit_bytes=2 * RECOMMENDED)


@pytest.mark.skipif("max_recommended_working_set_size" in mx.device_info(), reason="this machine has such a limit")
async def test_where_there_is_none_it_is_refused_and_said(tiny_model: Callable[..., Path]) -> None:
    engine = Engine(EngineConfig(model=ModelSpec(str(tiny_model("llama")))))
    engine.start()
    try:
        await engine.ready()
        assert health_json(engine.snapshot())["memory"]["wired_limit_bytes"] is None
    finally:
        await asyncio.to_thread(engine.stop)
    refused = Engine(EngineConfig(model=ModelSpec(str(tiny_model("llama"))), wired_limit_bytes=MIB))
    refused.start()
    try:
        with pytest.raises(BadRequest, match="only Metal on macOS"):
            await refused.ready()
    finally:
        await asyncio.to_thread(refused.stop)
