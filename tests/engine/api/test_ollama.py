"""Ollama's routes with its own client: streamed and not, pictures, forms, what is loaded, and errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import ollama
import pytest

from engine.access.visibility import Caller
from engine.api.app import create_app
from engine.api.ollama.cards import show_json
from engine.api.ollama.convert import chat_request
from engine.api.ollama.schemas import OllamaChatRequest
from engine.assets import asset
from engine.config import EngineConfig, ServerConfig
from engine.core import Engine
from engine.types import Grammar, Reasoning, Request, Tool, ToolCall

CIRCLE = (asset("samples") / "circle.png").read_bytes()
GREEDY = {"temperature": 0, "num_predict": 64}


@pytest.fixture(scope="module")
def client(demo_server: Any) -> ollama.Client:
    return ollama.Client(demo_server.url)


def test_a_chat_about_a_picture(client: ollama.Client) -> None:
    messages: Any = [{"role": "user", "content": "What is in this image?", "images": [CIRCLE]}]
    whole = client.chat("demo", messages, options=GREEDY)
    assert "circle" in (whole.message.content or "") and whole.done and whole.done_reason == "stop"
    assert whole.prompt_eval_count and whole.eval_count and whole.total_duration
    pieces = list(client.chat("demo:latest", messages, options=GREEDY, stream=True, keep_alive="5m"))
    assert "".join(piece.message.content or "" for piece in pieces) == whole.message.content
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1].eval_count == whole.eval_count


def test_a_text(client: ollama.Client) -> None:
    whole = client.generate("demo", "hi", system="Be short.", options=GREEDY)
    assert whole.response and whole.done_reason == "stop"
    pieces = list(client.generate("demo", "hi", system="Be short.", options=GREEDY, stream=True))
    assert "".join(piece.response for piece in pieces) == whole.response
    raw = client.generate("demo", "The picture shows", raw=True, options={**GREEDY, "num_predict": 4})
    assert raw.prompt_eval_count == 3 and raw.done_reason == "length"


def test_what_is_loaded(client: ollama.Client, demo_engine: Any) -> None:
    card = demo_engine.snapshot().model
    (tag,) = client.list().models
    assert tag.model == "demo" and tag.size == card.num_bytes and tag.modified_at is not None
    (running,) = client.ps().models
    assert running.model == "demo" and running.context_length == card.context_tokens
    shown = client.show("demo")
    assert "vision" in (shown.capabilities or []) and shown.details and shown.details.family == card.model_type
    assert shown.modelinfo and shown.modelinfo[f"{card.model_type}.context_length"] == card.context_tokens
    assert client.chat("demo", []).done_reason == "load" == client.generate("demo").done_reason


def test_a_model_that_thinks_says_so(demo_engine: Any) -> None:
    card = demo_engine.snapshot().model
    for can in (True, False):
        assert ("thinking" in show_json(replace(card, reasons=can))["capabilities"]) == can


def test_a_model_that_loads_is_listed(serve: Callable[..., Any]) -> None:
    engine = Engine(EngineConfig())
    with serve(create_app(engine, ServerConfig())) as url:
        (tag,) = ollama.Client(url).list().models
        assert tag.model == "demo"
    engine.stop()


def test_the_version_is_one_that_clients_compare(demo_server: Any) -> None:
    version = httpx.get(f"{demo_server.url}/api/version").json()["version"]
    assert len([int(number) for number in version.split(".")]) == 3


def test_errors_are_the_clients_own(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="gpt-9") as missing:
        client.chat("gpt-9", [{"role": "user", "content": "hi"}])
    assert missing.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match=r"options\.temperature"):
        client.chat("demo", [{"role": "user", "content": "hi"}], options={"temperature": -1})


def test_options_without_effect_here_are_named(demo_server: Any) -> None:
    body = {"model": "demo", "prompt": "hi", "stream": False, "options": {"num_predict": 1, "num_ctx": 4096}}
    answer = httpx.post(f"{demo_server.url}/api/generate", json=body, timeout=60)
    assert answer.headers["x-ignored-fields"] == "options.num_ctx"


# -- what a message becomes --------------------------------------------------------------------------------------------


def read(**body: Any) -> Request:
    hi = [{"role": "user", "content": "hi"}]
    return chat_request(OllamaChatRequest.model_validate({"model": "demo", "messages": hi, **body}), "id", Caller())


def test_tools_and_their_calls() -> None:
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    called = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]}
    back = {"role": "tool", "content": "r", "tool_name": "f"}
    request = read(tools=[{"type": "function", "function": function}], messages=[called, back])
    assert request.tools == (Tool("f", "d", {"type": "object"}),)
    assert request.messages[0].tool_calls == (ToolCall("call_0_0", "f", '{"x": 1}'),)
    assert request.messages[1].tool_call_id == "call_0_0" and request.messages[1].name == "f"


def test_forms_and_thinking() -> None:
    assert read(format="json").grammar == Grammar("json_object", param="format")
    assert read(format={"type": "object"}).grammar == Grammar("json_schema", '{"type": "object"}', "format")
    assert [read(think=think).reasoning for think in (True, False, "low")] == [
        Reasoning(True),
        Reasoning(False),
        Reasoning(True, "low"),
    ]
    assert read(options={"num_predict": -1}).max_tokens is None


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "x", "images": "AA"}]}, "messages[0].images"),
        ({"messages": [{"role": "user", "content": "x", "videos": ["AA"]}]}, "messages[0].videos"),
        ({"options": {"stop": [""]}}, "options.stop"),
        ({"options": {"mirostat": 2}}, "options.mirostat"),
        ({"options": {"seed": "x"}}, "options.seed"),
        ({"options": {"temperature": 1e30}}, "options.temperature"),
        ({"options": {"repeat_penalty": 1e30}}, "options.repeat_penalty"),
        ({"options": {"repeat_penalty": 1e-30}}, "options.repeat_penalty"),
        ({"options": {"top_p": 1e-30}}, "options.top_p"),
        ({"options": {"tfs_z": 0.5}}, "options.tfs_z"),
        ({"format": "xml"}, "format"),
        ({"think": "hard"}, "think"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"template": "x"}, "template"),
        ({"logprobs": True}, "logprobs"),
    ],
)
def test_what_is_wrong_is_named(demo_server: Any, body: dict[str, Any], param: str) -> None:
    hi = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}
    answer = httpx.post(f"{demo_server.url}/api/chat", json={**hi, **body}, timeout=60)
    assert answer.status_code == 400, answer.text
    assert answer.json()["param"] == param and answer.json()["error"].startswith(param)


@pytest.mark.parametrize("body", [{"suffix": "x"}, {"context": [1, 2]}, {"raw": True, "system": "x"}])
def test_what_is_wrong_in_a_text_is_named(demo_server: Any, body: dict[str, Any]) -> None:
    answer = httpx.post(f"{demo_server.url}/api/generate", json={"model": "demo", "prompt": "x", **body}, timeout=60)
    assert answer.status_code == 400 and answer.json()["param"] == [*body][-1]


@pytest.mark.parametrize(("given", "is_streamed"), [({}, True), ({"stream": None}, True), ({"stream": False}, False)])
def test_a_stream_is_what_nobody_said_no_to(given: dict[str, Any], is_streamed: bool) -> None:
    """While the server starts, what is streamed is told that it waits."""
    assert OllamaChatRequest.model_validate({"model": "demo", **given}).stream is is_streamed
