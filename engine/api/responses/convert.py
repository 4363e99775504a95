"""POST /v1/responses -> Request. Raises BadRequest and BadMedia, which name the field by its path in the JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from engine.access.visibility import Caller
from engine.api.convert import cache_salt, shared_fields
from engine.api.grammars import read_grammar
from engine.api.reasoning import EFFORTS
from engine.api.responses.items import read_input
from engine.api.responses.schemas import INCLUDABLE, CountedResponse, ResponsesRequest
from engine.api.tools import possible, read_function, told_apart
from engine.config import MediaLimits
from engine.errors import BadRequest
from engine.types import Grammar, Json, Message, Part, Reasoning, Request, Tool, ToolChoice

MODES = ("auto", "none", "required")


def response_request(
    body: ResponsesRequest, limits: MediaLimits, earlier: Sequence[Message], request_id: str, who: Caller
) -> Request:
    """The Request of a response. earlier: the conversation that previous_response_id stands for."""
    request = counted_request(body, limits, earlier, request_id, who)
    return replace(
        request,
        **shared_fields(body),
        max_tokens=body.max_output_tokens,
        grammar=read_grammar(body, _grammar(body.text or {})),
        logprobs=_logprobs(body),
    )


def counted_request(
    body: CountedResponse, limits: MediaLimits, earlier: Sequence[Message], request_id: str, who: Caller
) -> Request:
    """The Request whose prompt is to be counted: all but how it is answered."""
    if body.input is None and not earlier:
        raise BadRequest("input: this field is required.", param="input", code="missing_required_parameter")
    said = [] if body.input is None else read_input(body.input, limits)
    if not any(message.role in ("user", "tool") for message in (*earlier, *said)):
        raise BadRequest("input: there is no message of the user in it.", param="input")
    tools = told_apart([_tool(raw, f"tools[{i}]") for i, raw in enumerate(body.tools or [])], "tools[{}].name")
    instructions = body.instructions or ""
    system = [Message("system", (Part("text", text=instructions, param="instructions"),))] if instructions else []
    return Request(
        messages=(*system, *earlier, *said),
        tools=tools,
        tool_choice=possible(_tool_choice(body), tools, "tool_choice"),
        reasoning=_reasoning(body.reasoning or {}),
        id=request_id,
        tenant=who.tenant(cache_salt(body)),
    )


def _tool(raw: Json, param: str) -> Tool:
    if raw.get("type") != "function":
        why = "this server runs no tools of its own; only tools of type function are taken"
        raise BadRequest(f"{param}.type: {why}.", param=f"{param}.type", code="unsupported_parameter")
    return read_function(raw, param)


def _tool_choice(body: CountedResponse) -> ToolChoice:
    raw, parallel = body.tool_choice, body.parallel_tool_calls is not False
    if raw is None or raw in MODES:
        return ToolChoice(raw or "auto", parallel=parallel)  # type: ignore[arg-type]
    kind = raw.get("type") if isinstance(raw, dict) else None
    if isinstance(raw, dict) and kind == "function":
        return ToolChoice("required", (_name(raw, "tool_choice"),), parallel=False)
    if isinstance(raw, dict) and kind == "allowed_tools" and raw.get("mode") in ("auto", "required"):
        tools = raw.get("tools")
        if not isinstance(tools, list) or not tools:
            raise BadRequest("tool_choice.tools: it must be an array of tools.", param="tool_choice.tools")
        return ToolChoice(
            raw["mode"], tuple(_name(t, f"tool_choice.tools[{i}]") for i, t in enumerate(tools)), parallel
        )
    why = f"it must be one of {', '.join(MODES)}, a function or allowed_tools"
    raise BadRequest(f"tool_choice: {why}.", param="tool_choice")


def _name(raw: Any, param: str) -> str:
    name = raw.get("name") if isinstance(raw, dict) else None
    if not isinstance(name, str):
        raise BadRequest(f"{param}.name: it must be a string.", param=f"{param}.name")
    return name


def _reasoning(raw: Json) -> Reasoning:
    effort = raw.get("effort")
    if effort is None:
        return Reasoning()
    if effort not in EFFORTS:
        raise BadRequest(f"reasoning.effort: it must be one of {', '.join(EFFORTS)}.", param="reasoning.effort")
    return Reasoning(effort != "none", effort)


def _grammar(text: Json) -> Grammar | None:
    form, param = text.get("format"), "text.format"
    kind = form.get("type") if isinstance(form, dict) else "" if form else "text"
    if kind == "text":
        return None
    if kind == "json_object":
        return Grammar("json_object", param=param)
    if isinstance(form, dict) and kind == "json_schema":
        if not isinstance(form.get("schema"), dict):
            raise BadRequest(f"{param}.schema: it must be a JSON Schema.", param=f"{param}.schema")
        return Grammar("json_schema", json.dumps(form["schema"]), param)
    raise BadRequest(f"{param}.type: it must be text, json_object or json_schema.", param=f"{param}.type")


def _logprobs(body: ResponsesRequest) -> int | None:
    for i, name in enumerate(body.include or []):
        if name not in INCLUDABLE:
            raise BadRequest(f"include[{i}]: it must be one of {', '.join(INCLUDABLE)}.", param=f"include[{i}]")
    return body.top_logprobs or 0 if INCLUDABLE[0] in (body.include or []) else body.top_logprobs
