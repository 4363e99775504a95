"""Tools in a prompt: as JSON for templates that show them, and as plain messages for those that do not. Pure Python.

The plain form is the one of Hermes and of Qwen2.5: the tools in the system message, calls as JSON between <tool_call>
marks in the assistant's text, results between <tool_response> marks in a message of the user.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

from engine.models.chat_format import PLAIN_TOOLS
from engine.types import Json, Message, Part, Request, Tool, ToolCall

_NO_PARAMETERS: Json = {"type": "object", "properties": {}}
_INTRODUCTION = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within {start}{end} XML tags:
{start}
{{"name": <function-name>, "arguments": <args-json-object>}}
{end}"""


def tool_json(tool: Tool) -> Json:
    """As templates and mlx-lm's parsers read it."""
    parameters = _NO_PARAMETERS if tool.parameters is None else tool.parameters
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": function}


def call_json(call: ToolCall, *, arguments_as_text: bool = False) -> Json:
    """As templates read a call in a history: most want the arguments as an object, a few as text."""
    arguments: Any = call.arguments if arguments_as_text else read_arguments(call.arguments)
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def read_arguments(arguments: str) -> Any:
    """The object that is written there; the text itself where a model wrote something else."""
    try:
        read = json.loads(arguments or "{}")
    except ValueError:
        return arguments
    return read if isinstance(read, dict) else arguments


def with_plain_tools(request: Request, role: Literal["system", "user"] = "system") -> Request:
    """The request with tools, calls and results in plain messages. role: of the message that introduces the tools."""
    messages = tuple(_plain_messages(request.messages))
    if tools := request.offered_tools:
        messages = _introduced(messages, _introduction(tools), role)
    return replace(request, messages=messages, tools=())


def has_tools(request: Request) -> bool:
    """Whether there is anything about tools in it."""
    in_history = any(message.tool_calls or message.role == "tool" for message in request.messages)
    return in_history or bool(request.offered_tools)


def _introduction(tools: Sequence[Tool]) -> str:
    lines = "\n".join(_dump(tool_json(tool)) for tool in tools)
    return _INTRODUCTION.format(tools=lines, start=PLAIN_TOOLS.start, end=PLAIN_TOOLS.end)


def _introduced(messages: tuple[Message, ...], words: str, role: str) -> tuple[Message, ...]:
    at = next((i for i, message in enumerate(messages) if message.role == role), None)
    if at is None or (role == "system" and at > 0):
        return (Message("system" if role == "system" else "user", (_text(words),)), *messages)
    first = messages[at]
    parts = (*first.parts, _text(f"\n\n{words}")) if role == "system" else (_text(f"{words}\n\n"), *first.parts)
    return (*messages[:at], replace(first, parts=parts), *messages[at + 1 :])


def _plain_messages(messages: Sequence[Message]) -> Iterator[Message]:
    """Results that follow each other go into one message of the user, since many templates want roles to alternate."""
    results: list[Part] = []
    for message in messages:
        if message.role == "tool":
            results += [_text("\n")] if results else []
            results += [_text("<tool_response>\n"), *message.parts, _text("\n</tool_response>")]
            continue
        if results:
            yield Message("user", tuple(results))
            results = []
        yield _with_calls(message)
    if results:
        yield Message("user", tuple(results))


def _with_calls(message: Message) -> Message:
    if not message.tool_calls:
        return message
    has_text = any(part.text for part in message.parts)
    calls = "\n".join(_written(call) for call in message.tool_calls)
    return replace(message, parts=(*message.parts, _text(f"\n{calls}" if has_text else calls)), tool_calls=())


def _written(call: ToolCall) -> str:
    body = _dump({"name": call.name, "arguments": read_arguments(call.arguments)})
    return f"{PLAIN_TOOLS.start}\n{body}\n{PLAIN_TOOLS.end}"


def _text(text: str) -> Part:
    return Part("text", text=text)


def _dump(value: Json) -> str:
    return json.dumps(value, ensure_ascii=False)
