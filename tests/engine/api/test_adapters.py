"""Adapters on the port: listed as vLLM lists them, asked for by their names, and what is wrong with one told without
its place."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from engine.api.app import create_app
from engine.config import EngineConfig, ModelSpec, ServerConfig
from engine.core import Engine
from tests import adapters
from tests.conftest import Server

TinyModel = Callable[..., Path]


@pytest.fixture(scope="module")
def adapted(tiny_model: TinyModel, models_dir: Path, serve: Callable[..., Any]) -> Iterator[Server]:
    """A model with an adapter, and with one that is no adapter."""
    folder = tiny_model("llama")
    base = ModelSpec(str(folder), name="reader")
    good = adapters.write(folder, models_dir / "of-reader", vision=False)
    (models_dir / "nothing").mkdir()
    more = (base.with_adapter("x", str(good), short=True), base.with_adapter("bad", str(models_dir / "nothing")))
    engine = Engine(EngineConfig(model=base, more_models=more))
    engine.start()
    try:
        asyncio.run(engine.ready())
        with serve(create_app(engine, ServerConfig())) as url:
            yield Server(url, engine)
    finally:
        engine.stop()


def test_adapters_are_listed_with_their_parent_and_answer(adapted: Server) -> None:
    client = openai.OpenAI(base_url=f"{adapted.url}/v1", api_key="none")
    said = {}
    for name in ("reader", "x", "reader:x"):
        answer = client.chat.completions.create(
            model=name, messages=[{"role": "user", "content": "Hello there"}], max_tokens=8, temperature=0
        )
        said[name] = answer.choices[0].message.content
    assert said["x"] == said["reader:x"] != said["reader"]
    listed = {model.id: model.to_dict() for model in client.models.list()}
    assert list(listed) == ["reader", "reader:x", "reader:bad"]
    lines = {name: (model["root"], model["parent"], model["state"]) for name, model in listed.items()}
    assert lines["reader"] == ("reader", None, "ready")
    assert lines["reader:x"] == ("reader", "reader", "ready") and listed["reader:x"]["aliases"] == ["x"]
    memory = httpx.get(f"{adapted.url}/health").json()["memory"]["parts"]
    base, adapter = (adapted.engine.snapshot().card_of(name) for name in ("reader", "reader:x"))
    assert memory["weights_bytes"] == base.num_bytes + adapter.adapter_bytes < base.num_bytes + adapter.num_bytes


def test_what_is_wrong_with_an_adapter_is_told_without_its_place(adapted: Server, models_dir: Path) -> None:
    body = {"model": "reader:bad", "messages": [{"role": "user", "content": "hi"}]}
    answer = httpx.post(f"{adapted.url}/v1/chat/completions", json=body, timeout=60)
    assert answer.status_code == 503, answer.text
    why = "The adapter of reader:bad cannot be used: adapter_config.json is missing."
    assert answer.json()["error"]["message"] == why
    models = httpx.get(f"{adapted.url}/v1/models").json()
    (bad,) = [model for model in models["data"] if model["id"] == "reader:bad"]
    assert (bad["state"], bad["error"]) == ("failed", why)
    health = httpx.get(f"{adapted.url}/health").json()
    assert str(models_dir) not in json.dumps([models, health])
    assert httpx.post(f"{adapted.url}/v1/chat/completions", json=body | {"model": "reader:y"}).status_code == 404
