"""Models that are added while the engine runs: found by their names, once each, and loaded by the first request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.access.visibility import Caller, manages_models
from engine.config import EngineConfig, ModelSpec, ServerConfig
from engine.core import Engine
from engine.errors import Conflict, ModelNotFound
from engine.types import Message, Part, Request


@pytest.fixture
def engine() -> Iterator[Engine]:
    """Not started: what is tested here needs no model."""
    made = Engine(EngineConfig())
    yield made
    made.stop()


def test_an_added_model_can_be_asked_for(engine: Engine) -> None:
    with pytest.raises(ModelNotFound):
        engine.config.find("org/other")
    state = engine.add_model(ModelSpec("org/other"))
    assert (state.name, state.stage, state.is_default) == ("org/other", "known", False)
    assert [one.name for one in engine.models()] == ["demo", "org/other"]
    assert engine.config.find("org/other").source == "org/other"
    assert engine.config.find(None).source == "demo"


def test_the_same_source_is_added_once(engine: Engine) -> None:
    engine.add_model(ModelSpec("org/other"))
    assert engine.add_model(ModelSpec("org/other", name="again")).name == "org/other"
    assert len(engine.models()) == 2


def test_a_name_that_is_taken(engine: Engine) -> None:
    with pytest.raises(Conflict, match="has the name 'demo' already"):
        engine.add_model(ModelSpec("org/other", name="demo"))
    assert len(engine.models()) == 1


async def test_an_added_model_answers(tiny_model: Any, tmp_path: Path) -> None:
    engine = Engine(EngineConfig())
    engine.start()
    try:
        await engine.ready()
        engine.add_model(ModelSpec(str(tiny_model("qwen2")), name="tiny"))
        request = Request((Message("user", (Part("text", "Hi"),)),), max_tokens=2, model="tiny")
        assert (await engine.complete(request)).done.usage.completion_tokens > 0
        assert {card.id for card in engine.snapshot().models} == {"demo", "tiny"}
        assert len(engine.snapshot().caches) == 2 and engine.snapshot().device_bytes > 0
    finally:
        engine.stop()


@pytest.mark.parametrize(
    ("config", "operator", "may"),
    [
        (ServerConfig(), True, True),
        (ServerConfig(), False, False),
        (ServerConfig(open_access=True), True, False),
        (ServerConfig(public_link=True, api_keys=(("a", "1"),)), True, False),
        (ServerConfig(public_link=True, api_keys=(("a", "1"), ("b", "2"))), True, True),
        (ServerConfig(host="0.0.0.0", api_keys=(("a", "1"),)), True, True),
    ],
)
def test_who_manages_models(config: ServerConfig, operator: bool, may: bool) -> None:
    assert manages_models(config, Caller("x", operator=operator)) is may
