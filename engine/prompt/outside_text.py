"""What somebody sent in a request, with its control tokens set aside (engine.models.control_tokens). Pure Python."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, groupby
from typing import Any

from engine.models.control_tokens import SetAside
from engine.models.registry import Loaded
from engine.prompt.tool_prompt import read_arguments
from engine.types import Message, Part, Request, Tool, ToolCall


def set_aside(loaded: Loaded, request: Request) -> tuple[Request, tuple[str, ...]]:
    """The request as it may be rendered, and what the private characters in it stand for. Nearly every request is given
    back as it is."""
    if not any(map(loaded.control.are_in, _texts(request))):
        return request, ()
    aside = loaded.control.set_aside()
    safe = replace(
        request,
        messages=tuple(_message(loaded, message, aside) for message in request.messages),
        tools=tuple(_tool(tool, aside) for tool in request.tools),
        template_kwargs=tuple((name, aside.value(value)) for name, value in request.template_kwargs),
    )
    return safe, aside.texts


def _texts(request: Request) -> Iterator[str]:
    """All texts of a request that its template may show."""
    for message in request.messages:
        for is_text, run in groupby(message.parts, key=lambda part: part.kind == "text"):
            if is_text:
                yield "".join(part.text for part in run)
        yield from (message.tool_call_id, message.name, message.reasoning)
        for call in message.tool_calls:
            yield from (call.id, call.name)
            yield from _inside(read_arguments(call.arguments))
    for tool in request.tools:
        yield from (tool.name, tool.description)
        yield from _inside(tool.parameters)
    yield from _inside(dict(request.template_kwargs))


def _inside(value: Any) -> Iterator[str]:
    """The texts in a JSON value, names included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from (name, *_inside(inner))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _inside(inner)


def _message(loaded: Loaded, message: Message, aside: SetAside) -> Message:
    # Templates themselves take an assistant's thoughts out of its text, by these marks.
    keep = (loaded.tokenizer.think_start, loaded.tokenizer.think_end) if message.role == "assistant" else ()

    def part(part: Part) -> Part:
        return replace(part, text=aside.text(part.text, keep)) if part.text else part

    return replace(
        message,
        parts=tuple(part(whole) for whole in _whole(loaded, message.parts)),
        tool_calls=tuple(_call(call, aside) for call in message.tool_calls),
        tool_call_id=aside.text(message.tool_call_id),
        name=aside.text(message.name),
        reasoning=aside.text(message.reasoning),
    )


def _whole(loaded: Loaded, parts: Sequence[Part]) -> Iterator[Part]:
    """The parts; texts that follow each other are one where a control token would come about at their border."""
    for is_text, run in groupby(parts, key=lambda part: part.kind == "text"):
        neighbours = list(run)
        text = "".join(part.text for part in neighbours)
        ends = set(accumulate(len(part.text) for part in neighbours))
        spans = loaded.control.spans(text) if is_text and len(neighbours) > 1 else ()
        if any(start < end_of_part < end for start, end in spans for end_of_part in ends):
            yield replace(neighbours[0], text=text)
        else:
            yield from neighbours


def _tool(tool: Tool, aside: SetAside) -> Tool:
    parameters: Any = aside.value(tool.parameters)
    return replace(tool, name=aside.text(tool.name), description=aside.text(tool.description), parameters=parameters)


def _call(call: ToolCall, aside: SetAside) -> ToolCall:
    arguments = aside.value(read_arguments(call.arguments))  # as they are read: JSON can spell a token in escapes
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return ToolCall(aside.text(call.id), aside.text(call.name), text)
