"""Ollama's JSON -> Request. Pure. Raises BadRequest and BadMedia, which name the field by its path in the JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from engine.access.visibility import Caller
from engine.api.bodies.generation import MAX_STOPS, read_texts
from engine.api.bodies.parts import refuse_unknown
from engine.api.bodies.tools import read_function, told_apart
from engine.api.bodies.values import one_of, text_of
from engine.api.ollama.schemas import GenerateRequest, OllamaBody, OllamaChatRequest, Options
from engine.errors import BadRequest
from engine.types import Grammar, Json, Message, Part, Reasoning, Request, Role, Sampling, Tool, ToolCall

ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
FIELDS = ("role", "content", "images", "tool_calls", "thinking", "tool_name", "tool_call_id", "name")
EFFORTS = ("low", "medium", "high")


def chat_request(body: OllamaChatRequest, request_id: str, who: Caller) -> Request:
    """The Request of POST /api/chat."""
    messages = _with_ids([_message(raw, f"messages[{i}]", i) for i, raw in enumerate(body.messages)])
    return _request(body, request_id, who, messages=tuple(messages), tools=_tools(body.tools or []))


def generate_request(body: GenerateRequest, request_id: str, who: Caller) -> Request:
    """The Request of POST /api/generate."""
    if not body.raw:
        messages = [Message("system", (Part("text", text=body.system, param="system"),))] if body.system else []
        parts = (*_images(body.images, "images"), Part("text", text=body.prompt, param="prompt"))
        return _request(body, request_id, who, messages=(*messages, Message("user", parts)))
    for name in ("system", "images"):
        if getattr(body, name):
            raise BadRequest(f"{name}: a raw prompt is sent as it is and takes none.", param=name)
    return _request(body, request_id, who, prompt=body.prompt)


def _request(body: OllamaBody, request_id: str, who: Caller, **what: Any) -> Request:
    options = body.options or Options.model_validate({})
    limit, stop = options.num_predict, options.stop
    return Request(
        sampling=_sampling(options),
        max_tokens=None if limit is None or limit < 0 else max(1, limit),
        stop=read_texts("options.stop", [stop] if isinstance(stop, str) else stop, MAX_STOPS),
        grammar=_grammar(body.format),
        reasoning=_reasoning(body.think),
        id=request_id,
        tenant=who.tenant(),
        **what,
    )


def _sampling(options: Options) -> Sampling:
    return Sampling(
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=None if options.top_k is None else max(options.top_k, 0),
        min_p=options.min_p,
        repetition_penalty=options.repeat_penalty,
        presence_penalty=options.presence_penalty,
        frequency_penalty=options.frequency_penalty,
        seed=options.seed,
    )


def _grammar(form: str | Json | None) -> Grammar | None:
    if form is None or form == "":
        return None
    if isinstance(form, dict):
        return Grammar("json_schema", json.dumps(form), "format")
    if form != "json":
        raise BadRequest('format: it must be "json" or a JSON Schema.', param="format")
    return Grammar("json_object", param="format")


def _reasoning(think: bool | str | None) -> Reasoning:
    if isinstance(think, str):
        if think not in EFFORTS:
            raise BadRequest(f"think: it must be true, false or one of {', '.join(EFFORTS)}.", param="think")
        return Reasoning(True, think)
    return Reasoning(think)


def _message(raw: Json, param: str, index: int) -> Message:
    role = one_of(raw.get("role"), ROLES, f"{param}.role")
    refuse_unknown(raw, FIELDS, param, "")
    content = text_of(raw, "content", param, "")
    text = [Part("text", text=content, param=f"{param}.content")] if content else []
    return Message(
        role=ROLES[role],
        parts=(*_images(raw.get("images"), f"{param}.images"), *text),
        tool_calls=_tool_calls(raw.get("tool_calls"), f"{param}.tool_calls", index),
        tool_call_id=text_of(raw, "tool_call_id", param, ""),
        name=text_of(raw, "tool_name", param, "") or text_of(raw, "name", param, ""),
        reasoning=text_of(raw, "thinking", param, ""),
    )


def _with_ids(messages: list[Message]) -> Iterator[Message]:
    """Results of tools name a call by its tool, or not at all: then they are those of the calls in turn."""
    waiting: list[ToolCall] = []
    for message in messages:
        waiting += message.tool_calls
        if message.role != "tool" or message.tool_call_id:
            yield message
            continue
        call = next((call for call in waiting if message.name in ("", call.name)), None)
        if call is not None:
            waiting.remove(call)
        yield replace(message, tool_call_id=call.id if call else "")


def _images(images: Any, param: str) -> Iterator[Part]:
    """Base64, as Ollama has it; a data: URL is taken, too."""
    if images is not None and not isinstance(images, list):
        raise BadRequest(f"{param}: it must be an array of base64 strings.", param=param)
    for i, data in enumerate(images or []):
        if not isinstance(data, str) or not data:
            raise BadRequest(f"{param}[{i}]: it must be a base64 string.", param=f"{param}[{i}]")
        yield Part("image", url=data if data[:5].lower() == "data:" else f"data:;base64,{data}", param=f"{param}[{i}]")


def _tools(raws: list[Json]) -> tuple[Tool, ...]:
    tools = []
    for i, raw in enumerate(raws):
        param, function = f"tools[{i}].function", raw.get("function")
        if not isinstance(function, dict):
            raise BadRequest(f"{param}: it must be an object with a name.", param=param)
        tools.append(read_function(function, param))
    return told_apart(tools, "tools[{}].function.name")


def _tool_calls(raws: Any, param: str, index: int) -> tuple[ToolCall, ...]:
    """Ollama's calls need no id; each gets one by its place, which is the same whenever the conversation is sent."""
    if raws is not None and not isinstance(raws, list):
        raise BadRequest(f"{param}: it must be an array.", param=param)
    calls = []
    for i, raw in enumerate(raws or []):
        function = raw.get("function") if isinstance(raw, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("arguments", {}), dict):
            why = "it must be an object with a name and an object of arguments"
            raise BadRequest(f"{param}[{i}].function: {why}.", param=f"{param}[{i}].function")
        name, arguments = text_of(function, "name", f"{param}[{i}].function", ""), function.get("arguments", {})
        call_id = raw.get("id") if isinstance(raw.get("id"), str) else f"call_{index}_{i}"
        calls.append(ToolCall(call_id, name, json.dumps(arguments, ensure_ascii=False)))
    return tuple(calls)
