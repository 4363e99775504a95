"""Several models on one port: which are there, which answers, loading and unloading by hand, and what a waiting client
is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from engine.api.answering import sse
from engine.api.app import create_app
from engine.api.health import health_of
from engine.api.models.cards import loading_words, state_json
from engine.api.server import announce_models
from engine.config import EngineConfig, ModelSpec, ServerConfig
from engine.core import Engine
from engine.errors import ModelNotFound
from engine.models import loading
from engine.types import ModelState
from tests.conftest import Server
from tests.pictures import picture_url
from tests.waiting import wait_until

KEYS = (("operator", "sk-one"), ("guest", "sk-two"))
OPERATOR, GUEST = ({"Authorization": f"Bearer {key}"} for _, key in KEYS)


@pytest.fixture(scope="module")
def two(tiny_model: Callable[..., Path], serve: Callable[..., Any], engine_pool: Any) -> Iterator[Server]:
    """The demo model, and one that reads, of which only one at a time is in memory."""
    other = ModelSpec(str(tiny_model("llama")), name="reader", aliases=("r",), vision="disabled")
    engine = Engine(EngineConfig(more_models=(other,), max_loaded_models=1))
    engine.start()
    try:
        asyncio.run(engine.ready())
        with serve(create_app(engine, ServerConfig(api_keys=KEYS))) as url:
            yield Server(url, engine)
    finally:
        engine.stop()


def post(server: Server, path: str, body: dict[str, Any], headers: dict[str, str] = OPERATOR) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json=body, headers=headers, timeout=60)


def listed(server: Server) -> dict[str, Any]:
    data = httpx.get(f"{server.url}/v1/models", headers=GUEST, timeout=60).json()["data"]
    return {model["id"]: model for model in data}


def hello(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2, **more}


def test_all_models_are_listed_with_their_state(two: Server) -> None:
    post(two, "/v1/models/load", {"model": "demo"})
    models = listed(two)
    assert list(models) == ["demo", "reader"] and models["demo"]["state"] == "ready"
    assert models["reader"]["state"] == "not_loaded" and models["reader"]["aliases"] == ["r"]
    assert httpx.get(f"{two.url}/v1/models/r", headers=GUEST, timeout=60).json() == models["reader"]
    health = httpx.get(f"{two.url}/health", timeout=60).json()
    assert [(model["id"], model["state"], model["default"]) for model in health["models"]] == [
        ("demo", "ready", True),
        ("reader", "not_loaded", False),
    ]


def test_the_model_that_is_named_answers(two: Server) -> None:
    client = openai.OpenAI(base_url=f"{two.url}/v1", api_key="sk-two", timeout=60)
    for name, answering in (("reader", "reader"), ("r", "reader"), ("demo", "demo"), ("default", "demo")):
        answer = client.chat.completions.create(**hello(name, logprobs=True))
        assert answer.model == answering
        assert listed(two)[answering]["state"] == "ready"
    with pytest.raises(openai.NotFoundError, match="reader"):
        client.chat.completions.create(**hello("nobody"))


PROTOCOLS = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2},
    "/v1/completions": {"prompt": [[5, 6]], "max_tokens": 2, "echo": True, "logprobs": 1},
    "/v1/responses": {"input": "hi", "max_output_tokens": 2},
    "/v1/messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2},
    "/api/chat": {"messages": [{"role": "user", "content": "hi"}], "options": {"num_predict": 2}, "stream": False},
    "/api/generate": {"prompt": "hi", "options": {"num_predict": 2}, "stream": False},
    "/v1/tokenize": {"prompt": "hi", "return_token_strs": True},
    "/v1/detokenize": {"tokens": [5, 6]},
    "/v1/decisions": {"input": "hi", "questions": [{"type": "predicate", "instructions": "Is it so?"}]},
}


@pytest.mark.parametrize("path", PROTOCOLS)
def test_each_protocol_reaches_the_model_it_names(two: Server, path: str) -> None:
    """Each request is for the model that is not in memory."""
    post(two, "/v1/models/load", {"model": "demo"})
    response = post(two, path, {"model": "reader", **PROTOCOLS[path]}, GUEST)
    assert response.status_code == 200, response.text
    assert response.json().get("model", "reader") == "reader"
    assert listed(two)["reader"]["state"] == "ready"
    assert post(two, path, {"model": "nobody", **PROTOCOLS[path]}, GUEST).status_code == 404


def test_ollama_lists_and_shows_them(two: Server) -> None:
    for name in ("reader", "demo"):
        post(two, "/v1/models/load", {"model": name})
    tags = httpx.get(f"{two.url}/api/tags", headers=GUEST, timeout=60).json()["models"]
    assert [tag["name"] for tag in tags] == ["demo", "reader"]
    running = httpx.get(f"{two.url}/api/ps", headers=GUEST, timeout=60).json()["models"]
    assert [one["name"] for one in running] == ["demo"]
    assert post(two, "/api/show", {"model": "reader:latest"}, GUEST).json()["details"]["family"] == "llama"
    assert post(two, "/api/chat", {"model": "reader", "messages": []}, GUEST).json()["done"] is True
    assert listed(two)["reader"]["state"] == "ready", "a chat without messages loads the model"


def test_ollamas_way_to_unload(two: Server) -> None:
    """keep_alive 0 without a question; it loads nothing, and is the operator's as any unloading."""
    post(two, "/v1/models/load", {"model": "demo"})
    for path, empty in (("/api/chat", {"messages": []}), ("/api/generate", {"prompt": ""})):
        for keep_alive in (0, "0s"):
            body = {"model": "reader", "keep_alive": keep_alive, **empty}
            answer = post(two, path, body)
            assert (answer.status_code, answer.json()["done_reason"]) == (200, "unload"), answer.text
            assert listed(two)["demo"]["state"] == "ready", "the other one was loaded in its place"
            assert post(two, path, body, GUEST).status_code == 403
    assert post(two, "/api/generate", {"model": "reader", "keep_alive": "5m"}).json()["done_reason"] == "load"
    assert post(two, "/api/generate", {"model": "reader", "keep_alive": 0}).json()["done_reason"] == "unload"
    assert listed(two)["reader"]["state"] == "not_loaded"


GOING_AWAY = {
    "/v1/detokenize": {"model": "reader", "tokens": [5]},
    "/v1/tokenize": {"model": "reader", "prompt": "a", "return_token_strs": True},
    "/v1/embeddings": {"model": "reader", "input": "a"},
}


@pytest.mark.parametrize("path", GOING_AWAY)
def test_who_goes_away_waits_for_no_model(two: Server, path: str) -> None:
    """A model that cannot come while another is in use is not waited for by nobody."""
    post(two, "/v1/models/load", {"model": "demo"})
    endless = hello("demo", stream=True, max_tokens=10_000, ignore_eos=True)
    url = f"{two.url}/v1/chat/completions"

    def waiting() -> int:
        return sum(state.num_waiting for state in two.engine.models())

    with httpx.Client(headers=OPERATOR, timeout=60) as http, http.stream("POST", url, json=endless) as first:
        talking = first.iter_lines()  # closing it would close the connection
        next(talking)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{two.url}{path}", json=GOING_AWAY[path], headers=OPERATOR, timeout=httpx.Timeout(60, read=2))
        wait_until(lambda: waiting() == 0, "somebody who is gone still waits")


def test_loading_and_unloading_are_the_operators(two: Server) -> None:
    for action in ("load", "unload"):
        path = f"/v1/models/{action}"
        refused = post(two, path, {"model": "reader"}, GUEST)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "operator_only")
        assert post(two, path, {"model": "nobody"}).status_code == 404
        assert post(two, path, {}).status_code == 400
    assert post(two, "/v1/models/load", {"model": "r"}).json()["state"] == "ready"
    assert listed(two)["demo"]["state"] == "not_loaded", "there is room for one"
    assert post(two, "/v1/models/unload", {"model": "reader"}).json()["state"] == "not_loaded"
    assert httpx.get(f"{two.url}/health", timeout=60).status_code == 200
    assert httpx.get(f"{two.url}/health/ready", timeout=60).status_code == 200, "a request would load its model"


def test_what_is_in_use_is_a_409(two: Server) -> None:
    post(two, "/v1/models/load", {"model": "demo"})
    endless = hello("demo", stream=True, max_tokens=10_000, ignore_eos=True)
    with httpx.stream("POST", f"{two.url}/v1/chat/completions", json=endless, headers=OPERATOR, timeout=60) as response:
        lines = response.iter_lines()  # closing it would close the connection
        next(lines)
        in_use = post(two, "/v1/models/unload", {"model": "demo"})
        assert (in_use.status_code, in_use.json()["error"]["code"]) == (409, "model_in_use")
        no_room = post(two, "/v1/models/load", {"model": "reader"})
        assert (no_room.status_code, no_room.json()["error"]["code"]) == (409, "no_room")


def test_media_that_settings_keep_from_a_model_are_a_400(two: Server) -> None:
    content = [{"type": "image_url", "image_url": {"url": picture_url()}}, {"type": "text", "text": "?"}]
    body = {"model": "reader", "messages": [{"role": "user", "content": content}]}
    error = post(two, "/v1/chat/completions", body, GUEST).json()["error"]
    assert error["code"] == "unsupported_media" and "vision_mode: disabled" in error["message"]
    assert error["param"].startswith("messages[0].content[0]")


STREAMS = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2, "logprobs": True},
    "/v1/completions": {"prompt": [5, 6], "max_tokens": 2, "logprobs": 1, "echo": True},
    "/v1/responses": {"input": "hi", "max_output_tokens": 2, "include": ["message.output_text.logprobs"]},
}


@pytest.mark.parametrize("path", STREAMS)
def test_a_stream_is_told_what_it_waits_for(two: Server, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Comments come before the first event as long as another request keeps the model out of memory, also where the
    answer needs the model's vocabulary."""
    monkeypatch.setattr(sse, "LOADING_S", 0.05)
    post(two, "/v1/models/load", {"model": "demo"})
    endless = hello("demo", stream=True, max_tokens=10_000, ignore_eos=True)
    url = f"{two.url}/v1/chat/completions"
    with httpx.Client(headers=OPERATOR, timeout=60) as http, http.stream("POST", url, json=endless) as first:
        talking = first.iter_lines()  # closing it would close the connection
        next(talking)
        asked = {**STREAMS[path], "model": "reader", "stream": True}
        with http.stream("POST", f"{two.url}{path}", json=asked) as second:
            assert second.status_code == 200
            lines = second.iter_lines()
            comments = [next(line for line in lines if line.startswith(":")) for _ in range(3)]
            assert all(comment.startswith(": reader: waiting") for comment in comments)
            first.close()
            rest = [line for line in lines if line.startswith("data: ")]
    assert "logprob" in "".join(rest) and '"model":"reader"' in "".join(rest)


def test_a_failed_load_is_the_last_event_of_a_stream_and_a_503_of_others(
    two: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = next(state.source for state in two.engine.models() if state.name == "reader")

    def fails(*_: Any) -> Any:
        raise ValueError(f"no weights today in {folder}")

    post(two, "/v1/models/load", {"model": "demo"})
    monkeypatch.setattr(loading, "text_model", fails)
    monkeypatch.setattr("engine.models.registry.text_model", fails)
    error = post(two, "/v1/chat/completions", hello("reader"), GUEST).json()["error"]
    assert error["code"] == "model_load_failed" and "no weights today" in error["message"]
    assert folder not in error["message"] and "reader" in error["message"], "where files lie is nobody's business"
    streamed = post(two, "/v1/chat/completions", hello("reader", stream=True), GUEST)
    assert "no weights today" in streamed.text and folder not in streamed.text
    assert listed(two)["reader"]["state"] == "failed" and "no weights today" in listed(two)["reader"]["error"]
    assert post(two, "/v1/chat/completions", hello("demo"), GUEST).status_code == 200
    monkeypatch.undo()
    wait_until(lambda: post(two, "/v1/models/load", {"model": "reader"}).status_code == 200, "it is not tried again")


@pytest.mark.parametrize("source", ["~/secret/big", "/srv/secret/big"])
def test_words_of_a_failure_do_not_say_where_files_lie(source: str) -> None:
    """Neither as the folder was given nor as it is."""
    real = Path(source).expanduser()
    words = f"No model {source!r}: {real}/model.safetensors is cut off."
    state = ModelState("big", source, "failed", error=words)
    public = "No model 'big': big/model.safetensors is cut off."
    assert state_json(state, 0)["error"] == health_of(state)["error"] == public
    hub = ModelState("org/big", "org/big", "failed", error="The hub has no model 'org/big'.")
    assert health_of(hub)["error"] == hub.error


def test_words_for_who_waits() -> None:
    state = ModelState("big", "org/big", "downloading", done_bytes=512 * 1024**2, total_bytes=2 * 1024**3, seconds=8.4)
    assert loading_words(state) == "big: downloading, 512 MiB of 2 GiB, 8 s"
    assert loading_words(ModelState("big", "org/big", "ready")) == ""
    assert loading_words(ModelState("big", "org/big")) == "big: waiting, 0 s"


async def test_the_command_says_which_models_there_are(
    tiny_model: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """And a default one that cannot be loaded ends the server only where it is the only one."""
    other = ModelSpec(str(tiny_model("llama")), name="reader")
    gone = ModelSpec("/no/such/folder", name="gone")
    cases = (
        (ModelSpec(), (other,), ["demo (qwen3_vl, float32) is ready", "Others:        reader"]),
        (gone, (other,), ["gone could not be loaded: No model", "Others:        reader"]),
        (replace(other, preload=False), (), ["Others:        reader, each loaded by the first request"]),
    )
    for model, more, lines in cases:
        engine = Engine(EngineConfig(model=model, more_models=more))
        engine.start()
        try:
            await announce_models(engine)
        finally:
            await asyncio.to_thread(engine.stop)
        said = capsys.readouterr().out
        assert all(line in said for line in lines), said
    engine = Engine(EngineConfig(model=gone))
    engine.start()
    with pytest.raises(ModelNotFound):
        await announce_models(engine)
    await asyncio.to_thread(engine.stop)
