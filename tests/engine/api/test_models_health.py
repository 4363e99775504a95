"""GET /v1/models and /health: what is loaded, on what machine, in which state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from engine.api.app import create_app
from engine.config import EngineConfig, ModelSpec, ServerConfig
from engine.core import Engine
from engine.errors import ModelNotFound
from tests.waiting import wait_until

NAMED = EngineConfig(model=ModelSpec("org/model", name="served", aliases=("nick",)))


def test_the_list_and_the_one(client: openai.OpenAI, demo_engine: Any) -> None:
    client.chat.completions.create(model="default", messages=[{"role": "user", "content": "hi"}], max_tokens=1)
    (model,) = client.models.list()
    card = demo_engine.snapshot().model
    assert model.id == "demo" and model.object == "model" and model.created == card.created and model.owned_by
    extra = model.model_extra or {}
    assert extra["max_model_len"] == card.context_tokens
    assert extra["capabilities"]["vision"] is True and extra["capabilities"]["audio"] is False
    assert client.models.retrieve("demo") == model == client.models.retrieve("default")


@pytest.mark.parametrize("name", [None, "default", "served", "org/model", "nick"])
def test_names_under_which_a_model_is_known(name: str | None) -> None:
    assert NAMED.find(name) is NAMED.model


@pytest.mark.parametrize("name", ["", "model", "Served", "org/other", "/models/x"])
def test_other_names_are_not(name: str) -> None:
    with pytest.raises(ModelNotFound):
        NAMED.find(name)


def test_a_name_with_slashes(serve: Callable[..., Any], engine_pool: Any) -> None:
    engine = engine_pool.start(EngineConfig(model=ModelSpec(name="org/my-model")))
    with serve(create_app(engine, ServerConfig())) as url:
        assert httpx.get(f"{url}/v1/models/org/my-model", timeout=60).json()["id"] == "org/my-model"
        assert httpx.get(f"{url}/v1/models").json()["data"][0]["id"] == "org/my-model"
        assert httpx.get(f"{url}/v1/models/org/other").status_code == 404


def test_health_when_ready(http: httpx.Client, demo_engine: Any) -> None:
    http.get("/v1/models/demo")
    health = http.get("/health").json()
    device = demo_engine.snapshot().device
    assert health["status"] == "ok" and health["error"] is None and health["model"]["id"] == "demo"
    assert health["running"] == 0 and health["waiting"] == 0
    assert health["device"]["chip"] == device.chip and health["device"]["blas"] == device.blas
    assert health["device"]["mlx_device"] and health["device"]["mlx_version"]
    assert health["memory"]["total_bytes"] == device.memory_bytes and health["memory"]["mlx_active_bytes"] > 0
    assert str(Path.home()) not in str(health), "no path of this machine"


def test_health_from_start_to_stop(serve: Callable[..., Any]) -> None:
    engine = Engine(EngineConfig())
    with serve(create_app(engine, ServerConfig())) as url:
        response = httpx.get(f"{url}/health")
        assert response.status_code == 200 and response.json()["status"] == "loading"
        (listed,) = httpx.get(f"{url}/v1/models").json()["data"]
        assert (listed["id"], listed["state"], listed["object"]) == ("demo", "loading", "model")
        assert httpx.get(f"{url}/v1/models/demo").json() == listed == httpx.get(f"{url}/v1/models/default").json()
        engine.start()
        wait_until(lambda: httpx.get(f"{url}/health").json()["status"] == "ok", "it never became ready")
        assert httpx.get(f"{url}/v1/models").json()["data"][0]["state"] == "ready"
        engine.stop()
        response = httpx.get(f"{url}/health")
        assert response.status_code == 503 and response.json()["status"] == "stopped"
        assert httpx.get(f"{url}/v1/models").json()["data"] == []


def test_a_model_that_cannot_be_loaded(serve: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    engine = Engine(EngineConfig(model=ModelSpec(str(tmp_path))))
    engine.start()
    try:
        with serve(create_app(engine, ServerConfig())) as url:
            wait_until(lambda: httpx.get(f"{url}/health").status_code == 503, "it does not say that it failed", 60)
            health = httpx.get(f"{url}/health").json()
            assert health["status"] == "failed" and health["error"]
            body = {"messages": [{"role": "user", "content": "hi"}]}
            response = httpx.post(f"{url}/v1/chat/completions", json=body)
            assert response.status_code in (400, 404, 503) and response.json()["error"]["message"]
    finally:
        engine.stop()
