"""Tools in the protocols beside chat completions, with their own clients: a forced call, streamed and not, and its
result sent back. And with made-up events, what no model can be made to do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from typing import Any

import anthropic
import openai
import pytest

from engine.api.answering.envelope import Envelope
from engine.api.anthropic.answers import MessageStream
from engine.api.ollama.answers import OllamaStream
from engine.api.responses.answers import ResponseStream
from engine.types import Delta, Done, Timing, ToolCallDelta, Usage
from tests.engine.api.protocols import events

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo", "Rome"]}, "days": {"enum": [1, 2]}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
QUESTION = "How will the weather be?"


def is_call(name: str, arguments: Any) -> bool:
    return name == "forecast" and arguments["city"] in ("Oslo", "Rome") and arguments["days"] in (1, 2)


def test_responses_call_and_go_on(client: openai.OpenAI) -> None:
    tool: Any = {"type": "function", "name": "forecast", "parameters": PARAMETERS, "strict": True}
    asked: dict[str, Any] = {"model": "default", "input": QUESTION, "tools": [tool], "temperature": 0}
    answer = client.responses.create(**asked, tool_choice="required", parallel_tool_calls=False)
    call: Any = next(item for item in answer.output if item.type == "function_call")
    assert is_call(call.name, json.loads(call.arguments)) and answer.status == "completed"
    with client.responses.stream(**asked, tool_choice={"type": "function", "name": "forecast"}) as stream:
        sent = list(stream)
    pieces = "".join(event.delta for event in sent if event.type == "response.function_call_arguments.delta")
    (done,) = [event for event in sent if event.type == "response.function_call_arguments.done"]
    assert done.arguments == pieces and is_call("forecast", json.loads(pieces))
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "Sun."}
    more = client.responses.create(
        model="default", previous_response_id=answer.id, input=[result], temperature=0, max_output_tokens=8
    )
    assert more.usage and answer.usage and more.usage.input_tokens > 0 and more.output


def test_messages_call_and_go_on(demo_server: Any) -> None:
    tool: Any = {"name": "forecast", "input_schema": PARAMETERS}
    user: Any = {"role": "user", "content": QUESTION}
    asked: dict[str, Any] = {"model": "default", "max_tokens": 128, "tools": [tool], "extra_body": {"temperature": 0}}
    with anthropic.Anthropic(base_url=demo_server.url, api_key="unused", max_retries=0) as claude:
        answer = claude.messages.create(
            **asked, messages=[user], tool_choice={"type": "any", "disable_parallel_tool_use": True}
        )
        call: Any = next(block for block in answer.content if block.type == "tool_use")
        assert answer.stop_reason == "tool_use" and is_call(call.name, call.input)
        with claude.messages.stream(
            **asked, messages=[user], tool_choice={"type": "tool", "name": "forecast"}
        ) as stream:
            final = stream.get_final_message()
        assert is_call(final.content[-1].name, final.content[-1].input) and final.stop_reason == "tool_use"  # type: ignore[union-attr]
        said: Any = {"role": "assistant", "content": [block.model_dump() for block in answer.content]}
        result: Any = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "Sun."}]}
        more = claude.messages.create(**{**asked, "max_tokens": 8}, messages=[user, said, result])
        assert more.usage.output_tokens


ENVELOPE = Envelope("resp_1", 1700000000, "demo", "fp")
DONE = Done("tool_calls", Usage(10, 9, 4), Timing())
TWO_CALLS = [
    Delta("Let me see.", "reasoning"),
    Delta("Well: "),
    Delta("", "tool", tool_call=ToolCallDelta(0, "a", "f", '{"x"')),
    Delta("", "tool", tool_call=ToolCallDelta(0, arguments=": 1}")),
    Delta("", "tool", tool_call=ToolCallDelta(1, "b", "g", "{}"), finish_reason="tool_calls"),
]


def written(form: Any, deltas: Sequence[Delta] = TWO_CALLS) -> list[dict[str, Any]]:
    """What a client reads. Each piece is written before the next one is made, as a server does."""
    pieces = chain(form.opening(), chain.from_iterable(map(form.pieces, deltas)), form.ending(DONE))
    return events("".join(form.wire.write(*piece) for piece in pieces))


def test_thought_text_and_two_calls_as_items() -> None:
    answer = ResponseStream({"id": "resp_1"})
    sent = written(answer)
    assert sent[-1]["type"] == "response.completed" and sent[-1]["response"] == answer.whole()
    reasoning, message, one, two = answer.whole()["output"]
    assert reasoning["content"][0] == {"type": "reasoning_text", "text": "Let me see."} and reasoning["summary"] == []
    assert message["content"][0]["text"] == "Well: "
    assert [(call["call_id"], call["name"], call["arguments"]) for call in (one, two)] == [
        ("a", "f", '{"x": 1}'),
        ("b", "g", "{}"),
    ]
    added = [event for event in sent if event["type"] == "response.output_item.added"]
    ended = [event for event in sent if event["type"] == "response.output_item.done"]
    assert [event["output_index"] for event in added] == [0, 1, 2, 3] == [event["output_index"] for event in ended]
    assert len({item["id"] for item in answer.whole()["output"]}) == 4


def test_thought_text_and_two_calls_as_blocks() -> None:
    answer = MessageStream(ENVELOPE)
    sent = written(answer)
    thinking, text, one, two = answer.whole()["content"]
    assert thinking == {"type": "thinking", "thinking": "Let me see.", "signature": ""} and text["text"] == "Well: "
    assert (one["input"], two["input"]) == ({"x": 1}, {}) and answer.whole()["stop_reason"] == "tool_use"
    starts = [event["index"] for event in sent if event["type"] == "content_block_start"]
    assert starts == [0, 1, 2, 3] == [event["index"] for event in sent if event["type"] == "content_block_stop"]


def test_thought_text_and_two_calls_as_lines() -> None:
    answer = OllamaStream(ENVELOPE, "chat")
    sent = written(answer)
    message = answer.whole()["message"]
    assert message["thinking"] == "Let me see." and message["content"] == "Well: "
    calls = [call["function"] for call in message["tool_calls"]]
    assert [(call["name"], call["arguments"]) for call in calls] == [("f", {"x": 1}), ("g", {})]
    lines = [line["message"]["tool_calls"] for line in sent if "tool_calls" in line["message"]]
    assert [call["function"]["name"] for line in lines for call in line] == ["f", "g"], "each once it is whole"
    assert sent[-1]["done"] and sent[-1]["done_reason"] == "stop"


@pytest.mark.parametrize("arguments", ["{", "[]", ""])
def test_arguments_that_are_no_object_end_nothing(arguments: str) -> None:
    call = Delta("", "tool", tool_call=ToolCallDelta(0, "a", "f", arguments))
    message, line, response = MessageStream(ENVELOPE), OllamaStream(ENVELOPE, "chat"), ResponseStream({"id": "resp_1"})
    ends = [written(form, [call])[-1] for form in (message, line, response)]
    assert (ends[0]["type"], ends[1]["done"], ends[2]["type"]) == ("message_stop", True, "response.completed")
    assert message.whole()["content"][-1]["input"] == {}, "this protocol takes nothing but an object"
    assert line.whole()["message"]["tool_calls"][0]["function"]["arguments"] == {}, "nor does this one"
    assert response.whole()["output"][-1]["arguments"] == arguments, "and here it is what the model wrote"
