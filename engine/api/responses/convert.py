"""POST /v1/responses -> Request. Raises BadRequest and BadMedia, which name the field by its path in the JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from engine.access.visibility import Caller
from engine.api.bodies.generation import cache_salt, shared_fields
from engine.api.bodies.grammars import read_grammar
from engine.api.bodies.reasoning import EFFORTS
from engine.api.bodies.tools import read_choice, read_tools
from engine.api.responses.items import read_input
from engine.api.responses.schemas import INCLUDABLE, CountedResponse, ResponsesRequest
from engine.config import MediaLimits
from engine.errors import BadRequest
from engine.types import Grammar, Json, Message, Part, Reasoning, Request


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
    tools = read_tools(body, is_flat=True)
    instructions = body.instructions or ""
    system = [Message("system", (Part("text", text=instructions, param="instructions"),))] if instructions else []
    return Request(
        messages=(*system, *earlier, *said),
        tools=tools,
        tool_choice=read_choice(body, tools, is_flat=True),
        reasoning=_reasoning(body.reasoning or {}),
        id=request_id,
        tenant=who.tenant(cache_salt(body)),
    )


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
