"""Anthropic's JSON -> Request. Pure but for looking up paths under --media-root. Raises BadRequest and BadMedia.

Every error names the field by its path in the JSON, e.g. "messages[0].content[1].source.data".
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from engine.access.visibility import Caller
from engine.api.anthropic.schemas import CountRequest, MessagesRequest
from engine.api.bodies.generation import MAX_STOPS, cache_salt, read_texts, shared_fields
from engine.api.bodies.grammars import read_grammar
from engine.api.bodies.parts import refuse_unknown
from engine.api.bodies.references import reference
from engine.api.bodies.tools import possible, read_function, told_apart
from engine.api.bodies.values import one_of, text_of
from engine.api.chat.messages import joined
from engine.config import MediaLimits
from engine.errors import BadRequest
from engine.types import (
    Grammar,
    Json,
    Kind,
    Message,
    PageChoice,
    Part,
    Reasoning,
    Request,
    Role,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
)

ROLES: tuple[Role, ...] = ("user", "assistant", "system")
BLOCKS = ("text", "image", "document", "tool_use", "tool_result", "thinking")
OF_ROLE = {"tool_use": "assistant", "thinking": "assistant", "tool_result": "user"}
CHOICES: dict[str, ToolMode] = {"auto": "auto", "any": "required", "tool": "required", "none": "none"}


def messages_request(body: MessagesRequest, limits: MediaLimits, request_id: str, who: Caller) -> Request:
    """The Request of POST /v1/messages."""
    request = counted_request(body, limits, request_id, who)
    stops = read_texts("stop_sequences", body.stop_sequences, MAX_STOPS)
    own = {"max_tokens": body.max_tokens, "stop": stops, "grammar": read_grammar(body, _grammar(body))}
    return replace(request, **{**shared_fields(body), **own})


def counted_request(body: CountRequest, limits: MediaLimits, request_id: str, who: Caller) -> Request:
    """The Request whose prompt is to be counted: all but how it is answered."""
    tools = _tools(body.tools or [])
    messages = [*_system(body.system), *_conversation(body.messages, limits)]
    return Request(
        messages=tuple(messages),
        tools=tools,
        tool_choice=_tool_choice(body.tool_choice, tools),
        reasoning=_reasoning(body),
        continue_final_message=messages[-1].role == "assistant",
        add_generation_prompt=messages[-1].role != "assistant",
        id=request_id,
        tenant=who.tenant(cache_salt(body)),
    )


def _system(system: str | list[Json] | None) -> Iterator[Message]:
    if isinstance(system, str) and system:
        yield Message("system", (Part("text", text=system, param="system"),))
    elif isinstance(system, list) and system:
        yield Message("system", tuple(_text(block, f"system[{i}]") for i, block in enumerate(system)))


def _conversation(raws: list[Json], limits: MediaLimits) -> list[Message]:
    """All messages; those of one speaker in a row become one, as templates want turns that alternate."""
    messages: list[Message] = []
    for i, raw in enumerate(raws):
        for message in _message(raw, f"messages[{i}]", limits):
            if messages and message.role == messages[-1].role != "tool":
                messages[-1] = joined(messages[-1], message)
            else:
                messages.append(message)
    if not any(message.role in ("user", "tool") for message in messages):
        raise BadRequest("messages: there is no user message in it.", param="messages")
    return messages


def _message(raw: Json, param: str, limits: MediaLimits) -> Iterator[Message]:
    """A message; the results of tools in it are messages of their own."""
    role, content = one_of(raw.get("role"), ROLES, f"{param}.role"), raw.get("content")
    refuse_unknown(raw, ("role", "content"), param, "")
    param = f"{param}.content"
    if isinstance(content, str):
        content = [{"type": "text", "text": content}] if content else []
    if not isinstance(content, list):
        raise BadRequest(f"{param}: it must be a string or an array of blocks.", param=param)
    blocks = [(_checked(block, role, f"{param}[{i}]"), f"{param}[{i}]") for i, block in enumerate(content)]
    yield from (_tool_result(block, at, limits) for block, at in blocks if block["type"] == "tool_result")
    spoken = [(block, at) for block, at in blocks if block["type"] != "tool_result"]
    if spoken or not blocks:
        yield Message(
            role=role,
            parts=tuple(_part(block, at, limits) for block, at in spoken if block["type"] in PARTS),
            tool_calls=tuple(_tool_call(block, at) for block, at in spoken if block["type"] == "tool_use"),
            reasoning="".join(text_of(block, "thinking", at) for block, at in spoken if block["type"] == "thinking"),
        )


def _checked(block: Any, role: str, param: str) -> Json:
    """The block, if it is one that may stand in a message of this role."""
    if not isinstance(block, dict):
        raise BadRequest(f"{param}: it must be an object with a type.", param=param)
    kind = one_of(block.get("type"), BLOCKS, f"{param}.type")
    if kind in OF_ROLE and role != OF_ROLE[kind]:
        why = f"a {kind} block cannot stand in a message of role {role}"
        raise BadRequest(f"{param}.type: {why}.", param=f"{param}.type")
    return block


def _text(block: Any, param: str, *_: Any) -> Part:
    if not isinstance(block, dict) or block.get("type") != "text":
        raise BadRequest(f"{param}.type: it must be text.", param=f"{param}.type")
    refuse_unknown(block, ("type", "text", "citations"), param, "text")
    return Part("text", text=text_of(block, "text", param), param=f"{param}.text")


def _image(block: Json, param: str, limits: MediaLimits) -> Part:
    refuse_unknown(block, ("type", "source"), param, "image")
    return _sourced("image", block, param, limits)


def _document(block: Json, param: str, limits: MediaLimits) -> Part:
    refuse_unknown(block, ("type", "source", "title", "context", "citations"), param, "document")
    if block.get("context"):
        raise BadRequest(f"{param}.context: not read here; say it in a text block.", param=f"{param}.context")
    citations = block.get("citations")
    if isinstance(citations, dict) and citations.get("enabled"):
        raise BadRequest(f"{param}.citations: answers come without citations.", param=f"{param}.citations")
    return replace(_sourced("document", block, param, limits), document=PageChoice(text_of(block, "title", param, "")))


PARTS = {"text": _text, "image": _image, "document": _document}


def _part(block: Json, param: str, limits: MediaLimits) -> Part:
    return PARTS[block["type"]](block, param, limits)


def _sourced(kind: Kind, block: Json, param: str, limits: MediaLimits) -> Part:
    """A medium by its source: base64, a URL, or of a document its text."""
    source: Any = block.get("source")
    param = f"{param}.source"
    forms = ("base64", "url", "text") if kind == "document" else ("base64", "url")
    form = one_of(source.get("type") if isinstance(source, dict) else None, forms, f"{param}.type")
    refuse_unknown(source, ("type", "url") if form == "url" else ("type", "media_type", "data"), param, "")
    if form == "url":
        return reference(kind, text_of(source, "url", param), f"{param}.url", limits)
    data, declared = text_of(source, "data", param), text_of(source, "media_type", param, "")
    if form == "text":
        data, declared = base64.b64encode(data.encode()).decode(), "text/plain;charset=utf-8"
    return Part(kind, url=f"data:{declared};base64,{data}", param=f"{param}.data")


def _tool_call(block: Json, param: str) -> ToolCall:
    refuse_unknown(block, ("type", "id", "name", "input", "caller"), param, "")
    arguments = block.get("input")
    if not isinstance(arguments, dict):
        raise BadRequest(f"{param}.input: it must be an object.", param=f"{param}.input")
    return ToolCall(
        text_of(block, "id", param), text_of(block, "name", param), json.dumps(arguments, ensure_ascii=False)
    )


def _tool_result(block: Json, param: str, limits: MediaLimits) -> Message:
    refuse_unknown(block, ("type", "tool_use_id", "content", "is_error"), param, "")
    call_id, content, param = text_of(block, "tool_use_id", param), block.get("content"), f"{param}.content"
    if content is None or isinstance(content, str):
        return Message("tool", (Part("text", text=content or "", param=param),), tool_call_id=call_id)
    if not isinstance(content, list):
        raise BadRequest(f"{param}: it must be a string or an array of blocks.", param=param)
    parts = []
    for i, inner in enumerate(content):
        at = f"{param}[{i}]"
        one_of(inner.get("type") if isinstance(inner, dict) else None, PARTS, f"{at}.type")
        parts.append(_part(inner, at, limits))
    return Message("tool", tuple(parts), tool_call_id=call_id)


def _tools(raws: list[Json]) -> tuple[Tool, ...]:
    tools = []
    for i, raw in enumerate(raws):
        param = f"tools[{i}]"
        if raw.get("type") not in (None, "custom"):
            why = "this server runs no tools of its own; only those with an input_schema are taken"
            raise BadRequest(f"{param}.type: {why}.", param=f"{param}.type", code="unsupported_parameter")
        if raw.get("input_schema") is None:
            raise BadRequest(f"{param}.input_schema: this field is required.", param=f"{param}.input_schema")
        tools.append(read_function(raw, param, "input_schema"))
    return told_apart(tools, "tools[{}].name")


def _tool_choice(raw: Json | None, tools: tuple[Tool, ...]) -> ToolChoice:
    if raw is None:
        return ToolChoice()
    kind = one_of(raw.get("type"), CHOICES, "tool_choice.type")
    names = (text_of(raw, "name", "tool_choice"),) if kind == "tool" else ()
    choice = ToolChoice(CHOICES[kind], names, parallel=not (names or raw.get("disable_parallel_tool_use")))
    return possible(choice, tools, "tool_choice")


def _reasoning(body: CountRequest) -> Reasoning:
    raw, effort = body.thinking or {}, text_of(body.output_config or {}, "effort", "output_config", "")
    kind, budget = raw.get("type"), raw.get("budget_tokens")
    if kind not in (None, "enabled", "disabled", "adaptive"):
        raise BadRequest("thinking.type: it must be enabled, disabled or adaptive.", param="thinking.type")
    if budget is not None and (not isinstance(budget, int) or isinstance(budget, bool) or budget < 1):
        raise BadRequest("thinking.budget_tokens: it must be at least 1.", param="thinking.budget_tokens")
    enabled = {"enabled": True, "disabled": False}.get(str(kind))
    return Reasoning(enabled, effort or None, budget if enabled else None)


def _grammar(body: MessagesRequest) -> Grammar | None:
    param, form = "output_format", body.output_format
    if form is None and body.output_config and body.output_config.get("format") is not None:
        param, form = "output_config.format", body.output_config["format"]
    if form is None:
        return None
    if not isinstance(form, dict) or form.get("type") != "json_schema" or not isinstance(form.get("schema"), dict):
        raise BadRequest(f"{param}: it must be a json_schema with its schema.", param=param)
    return Grammar("json_schema", json.dumps(form["schema"]), param)
