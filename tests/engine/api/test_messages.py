"""POST /v1/messages with the real Anthropic client: streamed and not, blocks of every kind, errors in its shape."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import anthropic
import httpx
import pytest

from engine.access.visibility import Caller
from engine.api.anthropic.convert import messages_request
from engine.api.anthropic.schemas import MessagesRequest
from engine.api.app import create_app
from engine.assets import asset
from engine.config import MediaLimits, ServerConfig
from engine.types import Grammar, Message, Part, Reasoning, Request, Tool, ToolCall, ToolChoice

CIRCLE = base64.b64encode((asset("samples") / "circle.png").read_bytes()).decode()
PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": CIRCLE}}
GREEDY = {"temperature": 0}
HI = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def claude(demo_server: Any) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=demo_server.url, api_key="unused", max_retries=0, timeout=60) as client:
        yield client


def ask(claude: anthropic.Anthropic, messages: Any = HI, **settings: Any) -> Any:
    return claude.messages.create(
        **{"model": "default", "max_tokens": 64, "messages": messages, "extra_body": GREEDY, **settings}
    )


def test_a_whole_message(claude: anthropic.Anthropic) -> None:
    answer = ask(claude)
    assert answer.id.startswith("msg_") and (answer.type, answer.role) == ("message", "assistant")
    assert answer.stop_reason == "end_turn" and answer.content[0].text and answer.stop_sequence is None
    assert ask(claude, max_tokens=2).stop_reason == "max_tokens"


def test_the_stream_is_the_whole_in_pieces(claude: anthropic.Anthropic) -> None:
    look = [{"role": "user", "content": [PICTURE, {"type": "text", "text": "What is in this image?"}]}]
    whole = ask(claude, look)
    assert "circle" in whole.content[0].text
    with claude.messages.stream(model="default", max_tokens=64, messages=look, extra_body=GREEDY) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop" and "content_block_start" in kinds
    assert final.content[0].text == whole.content[0].text and final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens and final.usage.input_tokens > 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_sequence_is_said(claude: anthropic.Anthropic, stream: bool) -> None:
    word = ask(claude).content[0].text.split()[1]
    settings: Any = {"model": "default", "max_tokens": 64, "messages": HI, "stop_sequences": ["nowhere", word]}
    if stream:
        with claude.messages.stream(**settings, extra_body=GREEDY) as events:
            answer: Any = events.get_final_message()
    else:
        answer = ask(claude, **settings)
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", word)
    assert word not in answer.content[0].text


def test_tokens_are_counted_before(claude: anthropic.Anthropic) -> None:
    messages: Any = [{"role": "user", "content": [PICTURE, {"type": "text", "text": "Well?"}]}]
    counted = claude.messages.count_tokens(model="default", messages=messages, system="Be short.")
    usage = ask(claude, messages, system="Be short.", max_tokens=1).usage
    assert counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens


def test_an_answer_that_was_begun_goes_on(claude: anthropic.Anthropic) -> None:
    text = ask(claude).content[0].text
    begun = [*HI, {"role": "assistant", "content": text[:8]}]
    assert (text[:8] + ask(claude, begun).content[0].text) == text


def test_models_are_listed_in_anthropics_shape_too(claude: anthropic.Anthropic) -> None:
    (model,) = claude.models.list().data
    assert (model.id, model.type, model.display_name) == ("demo", "model", "demo") and model.created_at.year > 2000


def test_errors_are_the_clients_own(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError) as missing:
        ask(claude, model="claude-9")
    assert missing.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]
    with pytest.raises(anthropic.BadRequestError) as wrong:
        ask(claude, max_tokens=0)
    assert wrong.value.body["error"]["param"] == "max_tokens"  # type: ignore[index]


def test_the_key_is_that_of_its_header(demo_engine: Any, serve: Callable[..., Any]) -> None:
    config = ServerConfig(api_keys=(("me", "sk-me"),))
    with serve(create_app(demo_engine, config)) as url:
        for key, status in (("sk-me", 200), ("sk-you", 401)):
            body = {"model": "default", "max_tokens": 1, "messages": HI}
            answer = httpx.post(f"{url}/v1/messages", json=body, headers={"x-api-key": key}, timeout=60)
            assert answer.status_code == status
        assert answer.json()["error"]["type"] == "authentication_error"


# -- what blocks become ------------------------------------------------------------------------------------------------


def read(**body: Any) -> Request:
    asked = MessagesRequest.model_validate({"max_tokens": 8, "messages": HI, **body})
    return messages_request(asked, MediaLimits(), "id", Caller())


def test_blocks_of_every_kind() -> None:
    user = [
        {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
        {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "words"}},
    ]
    said = [
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "text", "text": "b"},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": "é"}},
    ]
    back = [
        {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "r"}, PICTURE]},
        {"type": "text", "text": "c"},
    ]
    turns = [("user", user), ("assistant", said), ("user", back)]
    request = read(
        system=[{"type": "text", "text": "s"}], messages=[{"role": role, "content": blocks} for role, blocks in turns]
    )
    system, asked, answered, result, more = request.messages
    assert system == Message("system", (Part("text", text="s", param="system[0].text"),))
    assert [part.kind for part in asked.parts] == ["text", "image", "document"] and asked.parts[2].document
    assert asked.parts[1].param == "messages[0].content[1].source.url"
    assert answered.reasoning == "hm" and answered.tool_calls == (ToolCall("t1", "f", '{"x": "é"}'),)
    assert (result.role, result.tool_call_id) == ("tool", "t1") and [p.kind for p in result.parts] == ["text", "image"]
    assert (more.role, more.parts[0].text) == ("user", "c")


def test_tools_thinking_and_forms() -> None:
    schema = {"type": "object", "properties": {}}
    request = read(
        tools=[{"name": "f", "description": "d", "input_schema": schema}],
        tool_choice={"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        thinking={"type": "enabled", "budget_tokens": 1024},
        output_config={"format": {"type": "json_schema", "schema": schema}, "effort": "low"},
    )
    assert request.tools == (Tool("f", "d", schema),)
    assert request.tool_choice == ToolChoice("required", ("f",), parallel=False)
    assert request.reasoning == Reasoning(True, "low", 1024)
    assert isinstance(request.grammar, Grammar) and request.grammar.param == "output_config.format"
    assert read(thinking={"type": "disabled"}).reasoning == Reasoning(False)
    any_tool = read(tools=[{"name": "f", "input_schema": schema}], tool_choice={"type": "any"})
    assert any_tool.tool_choice == ToolChoice("required")


def test_turns_of_one_speaker_in_a_row_are_one() -> None:
    request = read(messages=[{"role": "user", "content": "a"}, {"role": "user", "content": "b"}])
    (message,) = request.messages
    assert [part.text for part in message.parts] == ["a", "b"]


def block(**fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [fields]}]}


AT = "messages[0].content[0]"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        (block(type="hologram"), f"{AT}.type"),
        (block(type="tool_use", id="a", name="f", input={}), f"{AT}.type"),
        (block(type="text"), f"{AT}.text"),
        (block(type="text", text="x", colour="red"), f"{AT}.colour"),
        (block(type="image", source={"type": "file", "file_id": "x"}), f"{AT}.source.type"),
        (block(type="image", source={"type": "url", "url": "/etc/passwd"}), f"{AT}.source.url"),
        (block(type="image", source={"type": "base64", "data": 5}), f"{AT}.source.data"),
        (block(type="document", source={"type": "text", "data": "x"}, citations={"enabled": True}), f"{AT}.citations"),
        (block(type="tool_result", content="x"), f"{AT}.tool_use_id"),
        ({"system": [{"type": "image"}]}, "system[0].type"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"tool_choice": {"type": "maybe"}}, "tool_choice.type"),
        ({"thinking": {"type": "sometimes"}}, "thinking.type"),
        ({"thinking": {"type": "enabled", "budget_tokens": -1}}, "thinking.budget_tokens"),
        ({"output_format": {"type": "xml"}}, "output_format"),
        ({"mcp_servers": [{}]}, "mcp_servers"),
        ({"stop": ["x"]}, "stop"),
        ({"stop_sequences": [""]}, "stop_sequences"),
        ({"n": 2}, "n"),
    ],
)
def test_what_is_wrong_is_named(demo_server: Any, body: dict[str, Any], param: str) -> None:
    answer = httpx.post(f"{demo_server.url}/v1/messages", json={"max_tokens": 8, "messages": HI, **body}, timeout=60)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == param and error["message"].startswith(param) and error["type"] == "invalid_request_error"
