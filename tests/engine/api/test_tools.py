"""tools over the API: OpenAI's client, a trained model that picks the right one, and every wrong field by its name."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from engine.api.answering.envelope import Envelope
from engine.api.bodies.fields import ignored_header
from engine.api.chat.answers import ChatAnswer
from engine.api.chat.convert import chat_request
from engine.api.chat.schemas import ChatRequest
from engine.config import MediaLimits
from engine.types import Delta, ModelCard, Reasoning, ToolCallDelta, ToolChoice
from tests.pictures import data_url, encode, picture


def function(name: str, description: str = "", **properties: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {key: {"type": kind} for key, kind in properties.items()},
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


TOOLS = [
    function("get_weather", "Get the current weather of a city.", city="string"),
    function("send_email", "Send an email to somebody.", to="string", subject="string"),
    function("set_alarm", "Set an alarm clock to ring at a time.", time="string"),
    function("play_music", "Play a song.", song="string"),
    function("translate", "Translate a text into another language.", text="string", language="string"),
]
PLAIN_REQUESTS = {
    "Is it raining in London today?": "get_weather",
    "Email my boss that I am sick.": "send_email",
    "Set an alarm for 6:30.": "set_alarm",
    "Play some music by Mozart.": "play_music",
    "Translate good morning into French.": "translate",
}
NOW = function("now")


def ask(client: openai.OpenAI, question: str, **more: Any) -> Any:
    settings: dict[str, Any] = {"model": "default", "temperature": 0, "max_tokens": 48, "tools": TOOLS}
    return client.chat.completions.create(messages=[{"role": "user", "content": question}], **settings | more)


# -- a model with sense in its words -----------------------------------------------------------------------------------


def test_the_right_tool_for_a_plain_request_of_each(trained: openai.OpenAI) -> None:
    """All but the first at once."""

    def picked(question: str) -> str:
        more: dict[str, Any] = {"tool_choice": "required", "parallel_tool_calls": False, "reasoning_effort": "none"}
        (call,) = ask(trained, question, max_tokens=20, **more).choices[0].message.tool_calls
        return str(call.function.name)

    first, *rest = PLAIN_REQUESTS
    names = [picked(first)]  # and the others reuse its prompt
    with ThreadPoolExecutor(len(rest)) as pool:
        names += pool.map(picked, rest)
    assert dict(zip(PLAIN_REQUESTS, names, strict=True)) == PLAIN_REQUESTS


def test_a_call_its_result_and_the_answer(trained: openai.OpenAI) -> None:
    """The conversation of an agent: the call comes back as the client got it, and the last turn's prompt is reused."""
    question = {"role": "user", "content": "Set an alarm for 6:30."}
    more: dict[str, Any] = {"model": "default", "temperature": 0, "tools": TOOLS, "parallel_tool_calls": False}
    first = trained.chat.completions.create(messages=[question], max_tokens=48, tool_choice="required", **more)
    message = first.choices[0].message
    assert first.choices[0].finish_reason == "tool_calls" and message.content is None
    call = message.tool_calls[0]
    assert call.function.name == "set_alarm" and json.loads(call.function.arguments).keys() == {"time"}
    history = [
        question,
        message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": [{"type": "text", "text": "The alarm is set for 6:30."}]},
    ]
    second = trained.chat.completions.create(messages=history, max_tokens=8, **more)
    assert second.choices[0].message.content
    assert second.usage.prompt_tokens_details.cached_tokens >= first.usage.prompt_tokens // 64 * 64 - 64


def test_calls_stream_as_they_are_written(trained: openai.OpenAI) -> None:
    more: dict[str, Any] = {"tool_choice": {"type": "function", "function": {"name": "translate"}}}
    chunks = list(ask(trained, "Translate good morning into French.", stream=True, **more))
    pieces = [piece for chunk in chunks for piece in chunk.choices[0].delta.tool_calls or ()]
    assert (pieces[0].index, pieces[0].type, pieces[0].function.name) == (0, "function", "translate")
    assert pieces[0].id and all(piece.id is None for piece in pieces[1:])
    assert len(pieces) > 5, "the arguments came at once"
    arguments = "".join(piece.function.arguments for piece in pieces)
    assert json.loads(arguments).keys() == {"text", "language"}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert not any(chunk.choices[0].delta.content for chunk in chunks)


def test_sabotage_a_choice_that_is_not_kept_to_is_seen(trained: openai.OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.runtime.intake import preparation

    monkeypatch.setattr(preparation, "answer_grammar", lambda request: None)
    with pytest.raises(AssertionError, match="it was not called"):
        answer = ask(trained, "Play the song Yesterday.", tool_choice="required", max_tokens=12)
        assert answer.choices[0].message.tool_calls, "it was not called"


def test_the_stream_helper_of_the_client(trained: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "Play some music by Mozart."}]
    strict: Any = [{**tool, "function": {**tool["function"], "strict": True}} for tool in TOOLS]
    with trained.chat.completions.stream(
        model="default", messages=messages, tools=strict, tool_choice="required", temperature=0, max_tokens=48
    ) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
    assert done and done[0].name == "play_music" and done[0].parsed_arguments is not None


# -- what is not a question of the model -------------------------------------------------------------------------------


def test_a_result_with_a_picture_is_seen(client: openai.OpenAI) -> None:
    shot = {"type": "image_url", "image_url": {"url": data_url(encode(picture("red")))}}
    call = {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    answer = client.chat.completions.create(
        model="default",
        max_tokens=8,
        temperature=0,
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": "Look."},
            {"role": "assistant", "tool_calls": [call]},  # type: ignore[list-item]
            {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "It:"}, shot]},  # type: ignore[list-item]
        ],
    )
    assert [medium["tokens"] > 0 for medium in answer.usage.model_extra["media"]] == [True]


HELLO = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tools": {}}, "tools"),
        ({"tools": [NOW] * 129}, "tools"),
        ({"tools": ["now"]}, "tools[0]"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tools": [NOW, NOW]}, "tools[1].function.name"),
        ({"tools": [function("x" * 257)]}, "tools[0].function.name"),
        ({"tools": [{"function": {"name": "x", "description": 3}}]}, "tools[0].function.description"),
        ({"tools": [{"function": {"name": "x", "parameters": [1]}}]}, "tools[0].function.parameters"),
        ({"tools": [{"function": {"name": "x", "parameters": {"type": "array"}}}]}, "tools[0].function.parameters"),
        ({"tools": [NOW], "tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [NOW], "tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"tools": [NOW], "tool_choice": {"type": "function"}}, "tool_choice.function.name"),
        ({"tools": [NOW], "tool_choice": {"type": "custom", "custom": {"name": "x"}}}, "tool_choice.type"),
        ({"tools": [NOW], "tool_choice": {"type": "allowed_tools"}}, "tool_choice.allowed_tools"),
        ({"tools": [NOW], "parallel_tool_calls": "no"}, "parallel_tool_calls"),
        ({"functions": [{"name": "x"}]}, "functions"),
        ({"reasoning_effort": "enormous"}, "reasoning_effort"),
        ({"thinking_token_budget": -2}, "thinking_token_budget"),
        ({"thinking_token_budget": 3, "thinking_budget": 4}, "thinking_budget"),
        ({"continue_final_message": True, "add_generation_prompt": True}, "continue_final_message"),
        ({"messages": [*HELLO, {"role": "user", "content": "x", "tool_calls": [1]}]}, "messages[1].tool_calls"),
        ({"messages": [*HELLO, {"role": "assistant", "tool_calls": {"a": 1}}]}, "messages[1].tool_calls"),
        (
            {"messages": [*HELLO, {"role": "assistant", "tool_calls": [{"type": "custom"}]}]},
            "messages[1].tool_calls[0].type",
        ),
        (
            {"messages": [*HELLO, {"role": "assistant", "tool_calls": [{"function": {"name": ""}}]}]},
            "messages[1].tool_calls[0].function.name",
        ),
        (
            {"messages": [*HELLO, {"role": "assistant", "tool_calls": [{"function": {"name": "x", "arguments": 1}}]}]},
            "messages[1].tool_calls[0].function.arguments",
        ),
        ({"messages": [*HELLO, {"role": "assistant", "function_call": {"name": "x"}}]}, "messages[1].function_call"),
        ({"messages": [*HELLO, {"role": "tool", "tool_call_id": "x"}]}, "messages[1].content"),
        ({"messages": [*HELLO, {"role": "tool", "tool_call_id": 1, "content": "x"}]}, "messages[1].tool_call_id"),
        ({"messages": [*HELLO, {"role": "assistant", "refusal": 1}]}, "messages[1].refusal"),
    ],
)  # fmt: skip
def test_wrong_fields_are_named(http: httpx.Client, body: dict[str, Any], param: str) -> None:
    answer = http.post("/v1/chat/completions", json={"messages": HELLO, "max_tokens": 1, **body})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param, answer.text


def test_messages_of_every_kind_are_read(http: httpx.Client) -> None:
    """Refusals, thoughts, several parts for the system and the assistant, a system message alone."""
    parts = [{"type": "text", "text": "One. "}, {"type": "text", "text": "Two."}]
    conversations: list[list[dict[str, Any]]] = [
        [{"role": "system", "content": "Tell me a story."}],
        [{"role": "developer", "content": parts}, *HELLO],
        [*HELLO, {"role": "assistant", "content": parts, "reasoning_content": "Hm."}, *HELLO],
        [*HELLO, {"role": "assistant", "content": None, "refusal": "I will not."}, *HELLO],
        [*HELLO, {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}], "refusal": None}, *HELLO],
        [*HELLO, {"role": "assistant", "content": "<|im_end|><|image_pad|>"}, {**HELLO[0], "name": "Anna"}],
    ]
    for messages in conversations:
        answer = http.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 2})
        assert answer.status_code == 200 and "x-ignored-fields" not in answer.headers, answer.text


def test_the_fields_become_the_request() -> None:
    def read(**more: Any) -> Any:
        return chat_request(ChatRequest.model_validate({"messages": HELLO, **more}), MediaLimits(), "id")

    plain = read()
    assert (plain.tools, plain.tool_choice, plain.reasoning) == ((), ToolChoice(), Reasoning())
    assert plain.add_generation_prompt and not plain.continue_final_message
    two = [NOW, function("add", a="integer")]
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [two[1]]}}
    asked = read(tools=two, tool_choice=allowed, parallel_tool_calls=False)
    assert asked.tool_choice == ToolChoice("required", ("add",), parallel=False)
    assert [tool.name for tool in asked.offered_tools] == ["add"]
    assert read(tools=two, tool_choice="none").offered_tools == ()
    assert read(reasoning_effort="none").reasoning == Reasoning(False, "none")
    assert read(reasoning_effort="low", thinking_budget=5).reasoning == Reasoning(True, "low", 5)
    assert read(enable_thinking=False, thinking_token_budget=-1).reasoning == Reasoning(False)
    assert read(continue_final_message=True).continue_final_message


def test_what_has_no_effect_on_this_model_is_named() -> None:
    body = ChatRequest.model_validate(
        {
            "messages": HELLO,
            "tools": [{"function": {"name": "x", "strict": True, "odd": 1}}],
            "reasoning_effort": "high",
            "thinking_token_budget": 3,
            "chat_template_kwargs": {"mood": 1, "tools_in_user_message": 1},
        }
    )
    card = ModelCard("m", "/m", "llama", "float32", 1, 4, 4096, template_variables=("messages", "mood"))
    assert ignored_header(body, card)["x-ignored-fields"].split(", ") == [
        "tools[0].function.odd",
        "thinking_token_budget",
        "reasoning_effort",
        "chat_template_kwargs.tools_in_user_message",
    ]
    thinks = ModelCard(
        "m", "/m", "qwen3", "float32", 1, 4, 4096, reasons=True, template_variables=("enable_thinking", "mood")
    )
    body = ChatRequest.model_validate({"messages": HELLO, "reasoning_effort": "high", "thinking_token_budget": 3})
    assert ignored_header(body, thinks) == {}


def test_the_first_piece_of_a_call_has_its_name() -> None:
    answer = ChatAnswer(Envelope("id", 0, "m", "f"))
    first = Delta("", "tool", tool_call=ToolCallDelta(1, "a", "add", ""))
    later = Delta("", "tool", tool_call=ToolCallDelta(1, arguments='{"a'), finish_reason="tool_calls")
    (chunk,) = answer.pieces(first)
    expected = {"index": 1, "id": "a", "type": "function", "function": {"name": "add", "arguments": ""}}
    assert chunk["choices"][0]["delta"]["tool_calls"] == [expected]
    chunk, last = answer.pieces(later)
    assert chunk["choices"][0]["delta"]["tool_calls"] == [{"index": 1, "function": {"arguments": '{"a'}}]
    assert last["choices"][0]["finish_reason"] == "tool_calls"
