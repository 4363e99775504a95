"""Vision by proxy over HTTP: what another model said about the media stands in the usage of every protocol."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from engine.api.answering import sse
from engine.api.app import create_app
from engine.api.http.described.openai import DescriptionSchema
from engine.api.models.cards import describing_words
from engine.config import EngineConfig, ModelSpec, ServerConfig, VisionProxy
from engine.core import Engine
from engine.runtime.worker import Worker
from engine.types import DescriptionProgress
from tests.conftest import Server
from tests.pictures import picture_url
from tests.waiting import wait_until

KEYS = (("operator", "sk-one"), ("guest", "sk-two"))
OPERATOR, GUEST = ({"Authorization": f"Bearer {key}"} for _, key in KEYS)
ASKED = "What color is the circle?"


@pytest.fixture(scope="module")
def proxied(tiny_model: Callable[..., Path], serve: Callable[..., Any], engine_pool: Any) -> Iterator[Server]:
    """The demo model, and one that reads and has it for its eyes."""
    proxy = VisionProxy("demo", "{question}")
    reader = ModelSpec(str(tiny_model("llama")), name="reader", vision="proxy", vision_proxy=proxy)
    engine = Engine(EngineConfig(more_models=(reader,)))
    engine.start()
    try:
        asyncio.run(engine.ready())
        with serve(create_app(engine, ServerConfig(api_keys=KEYS))) as url:
            yield Server(url, engine)
    finally:
        engine.stop()


def content(colour: str, asked: str = ASKED) -> list[dict[str, Any]]:
    return [{"type": "image_url", "image_url": {"url": picture_url(colour)}}, {"type": "text", "text": asked}]


def body(colour: str, **more: Any) -> dict[str, Any]:
    return {"model": "reader", "messages": [{"role": "user", "content": content(colour)}], "max_tokens": 3, **more}


def post(server: Server, path: str, json: dict[str, Any], headers: dict[str, str] = OPERATOR) -> httpx.Response:
    return httpx.post(f"{server.url}{path}", json=json, headers=headers, timeout=60)


def test_usage_tells_what_was_said_streamed_and_whole(proxied: Server) -> None:
    client = openai.OpenAI(base_url=f"{proxied.url}/v1", api_key="sk-one", timeout=60)
    whole: Any = client.chat.completions.create(**body("red"))
    chunks = list(client.chat.completions.create(**body("red"), stream=True, stream_options={"include_usage": True}))
    streamed: Any = chunks[-1]
    (said,), (again,) = whole.usage.descriptions, streamed.usage.descriptions
    DescriptionSchema.model_validate(said, extra="forbid")
    assert "red" in said["text"] and said["model"] == "demo" and said["kind"] == "image"
    assert said["param"] == "messages[0].content[0].image_url.url"
    assert said["prompt_tokens"] > 1 and said["completion_tokens"] > 1 and said["seconds"] > 0 and not said["kept"]
    assert again == {**said, "kept": True}
    assert whole.usage.completion_tokens == 3 and whole.usage.media == []
    assert whole.usage.prompt_tokens == streamed.usage.prompt_tokens


def test_other_protocols_tell_it_too(proxied: Server) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": picture_url("blue").partition(",")[2]}
    blocks = [{"type": "image", "source": source}, {"type": "text", "text": ASKED}]
    messages = {"model": "reader", "messages": [{"role": "user", "content": blocks}], "max_tokens": 2}
    items = [{"type": "input_image", "image_url": picture_url("blue")}, {"type": "input_text", "text": ASKED}]
    responses = {"model": "reader", "input": [{"role": "user", "content": items}], "max_output_tokens": 2}
    for path, asked in (("/v1/messages", messages), ("/v1/responses", responses)):
        (said,) = post(proxied, path, asked).json()["usage"]["descriptions"]
        assert "blue" in said["text"], path


def test_two_keys_do_not_share_what_was_said(proxied: Server) -> None:
    kept = []
    for key in (OPERATOR, GUEST, OPERATOR, GUEST):
        (said,) = post(proxied, "/v1/chat/completions", body("green"), key).json()["usage"]["descriptions"]
        kept.append(said["kept"])
    assert kept == [False, False, True, True]


def test_a_stream_is_told_that_its_media_are_described(proxied: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The vision model is held for as long as the client has not read that it is asked."""
    monkeypatch.setattr(sse, "LOADING_S", 0.05)
    may_go_on, turn = threading.Event(), Worker.turn
    monkeypatch.setattr(Worker, "turn", lambda self: turn(self) if may_go_on.is_set() else False)
    url = f"{proxied.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body("purple", stream=True), headers=OPERATOR, timeout=60) as response:
        assert response.status_code == 200
        lines = response.iter_lines()
        comments = [next(line for line in lines if line.startswith(":")) for _ in range(2)]
        assert comments == [": demo: describing media, 0 of 1 done"] * 2
        may_go_on.set()
        rest = [line for line in lines if line.startswith("data: ")]
    assert rest[-1] == "data: [DONE]" and json.loads(rest[0][6:])["model"] == "reader"
    assert describing_words(DescriptionProgress("eyes", 3, 2)) == "eyes: describing media, 2 of 3 done"


def test_a_client_that_leaves_cancels_the_descriptions(proxied: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "LOADING_S", 0.05)
    may_go_on, turn = threading.Event(), Worker.turn
    monkeypatch.setattr(Worker, "turn", lambda self: turn(self) if may_go_on.is_set() else False)
    url = f"{proxied.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body("orange", stream=True), headers=OPERATOR, timeout=60) as response:
        next(line for line in response.iter_lines() if line.startswith(":"))
    may_go_on.set()
    wait_until(lambda: proxied.engine.num_open == 0 and not proxied.engine.snapshot().running, "it goes on")
    (said,) = post(proxied, "/v1/chat/completions", body("orange")).json()["usage"]["descriptions"]
    assert not said["kept"], "nobody has described it yet"


def test_errors_name_the_medium(proxied: Server) -> None:
    broken = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}, {"type": "text", "text": "?"}]
    asked = {"model": "reader", "messages": [{"role": "user", "content": broken}]}
    error = post(proxied, "/v1/chat/completions", asked).json()["error"]
    assert error["code"] == "invalid_media" and error["param"].startswith("messages[0].content[0]")
    counted = post(proxied, "/v1/messages/count_tokens", asked | {"messages": body("red")["messages"]})
    assert counted.status_code == 400
