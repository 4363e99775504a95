"""The messages of a chat, as OpenAI's clients write them -> Message. Raises BadRequest and BadMedia.

{"role": "system" | "developer" | "user", "content": "..." | [part, ...]}
{"role": "assistant", "content": ..., "refusal": ..., "tool_calls": [{"id", "function": {"name", "arguments"}}, ...],
 "reasoning_content": ...}
{"role": "tool", "tool_call_id": ..., "content": "..." | [part, ...]}
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from engine.api.bodies.parts import MEDIA_TYPES, read_part
from engine.api.bodies.values import one_of, text_of
from engine.config import MediaLimits
from engine.errors import BadRequest
from engine.types import Json, Message, Part, Role, ToolCall

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
MEDIA_FIELDS = (*MEDIA_TYPES, "images", "videos", "audios", "files", "attachments", "media")
"""Beside a message's content, as in Ollama's API: to drop them would give a fluent answer about nothing."""


def read_messages(raws: Sequence[Json], limits: MediaLimits) -> tuple[Message, ...]:
    """All messages of a chat."""
    messages = tuple(_message(raw, f"messages[{i}]", limits) for i, raw in enumerate(raws))
    if not messages:
        raise BadRequest("messages: it must hold at least one message.", param="messages")
    asked = (part for message in messages if message.role != "assistant" for part in message.parts)
    if not any(part.kind != "text" or part.text.strip() for part in asked):
        raise BadRequest("messages: there is no message of a user or the system with text or media.", param="messages")
    return messages


def joined(one: Message, other: Message) -> Message:
    """Two messages of one speaker as one."""
    return replace(
        one,
        parts=one.parts + other.parts,
        tool_calls=one.tool_calls + other.tool_calls,
        reasoning=one.reasoning + other.reasoning,
    )


def _message(raw: Json, param: str, limits: MediaLimits) -> Message:
    role = _role(raw.get("role"), f"{param}.role")
    _refuse_elsewhere(raw, role, param)
    calls = raw.get("tool_calls") or []
    if not isinstance(calls, list):
        raise BadRequest(f"{param}.tool_calls: it must be an array.", param=f"{param}.tool_calls")
    return Message(
        role,
        tuple(_parts(raw, role, param, limits)),
        tool_calls=tuple(_call(call, f"{param}.tool_calls[{i}]") for i, call in enumerate(calls)),
        tool_call_id=text_of(raw, "tool_call_id", param, ""),
        name=text_of(raw, "name", param, ""),
        reasoning=text_of(raw, "reasoning_content", param, "") or text_of(raw, "reasoning", param, ""),
    )


def _role(role: Any, param: str) -> Role:
    if role == "function":
        raise BadRequest(f"{param}: results of functions are messages of role tool here.", param=param)
    return ROLES[one_of(role, ROLES, param)]


def _refuse_elsewhere(raw: Json, role: Role, param: str) -> None:
    """Raise BadRequest for what is said in a place where it is not read."""
    for name in MEDIA_FIELDS:
        if raw.get(name):
            why = 'media are parts of content, e.g. {"type": "image_url", "image_url": {"url": ...}}'
            raise BadRequest(f"{param}.{name}: not read here; {why}.", param=f"{param}.{name}")
    if raw.get("function_call"):
        where = f"{param}.function_call"
        raise BadRequest(f"{where}: not read here; say tool_calls.", param=where)
    if raw.get("tool_calls") and role != "assistant":
        where = f"{param}.tool_calls"
        raise BadRequest(f"{where}: only messages of role assistant call tools.", param=where)


def _parts(raw: Json, role: Role, param: str, limits: MediaLimits) -> Iterator[Part]:
    """Its content; a refusal is what the assistant said, too."""
    content, where = raw.get("content"), f"{param}.content"
    if isinstance(content, str):
        yield Part("text", text=content, param=where)
    elif isinstance(content, list):
        for i, part in enumerate(content):
            yield _refusal(part, f"{where}[{i}]") or read_part(part, f"{where}[{i}]", limits)
    elif content is not None or role != "assistant":
        raise BadRequest(f"{where}: it must be a string or an array of parts.", param=where)
    if refusal := text_of(raw, "refusal", param, ""):
        yield Part("text", text=refusal, param=f"{param}.refusal")


def _refusal(raw: Any, param: str) -> Part | None:
    if not isinstance(raw, dict) or raw.get("type") != "refusal":
        return None
    return Part("text", text=text_of(raw, "refusal", param, ""), param=f"{param}.refusal")


def _call(raw: Any, param: str) -> ToolCall:
    """arguments: JSON in a string; an object is taken, too."""
    if isinstance(raw, dict) and raw.get("type", "function") != "function":
        raise BadRequest(f"{param}.type: only calls of type function are read.", param=f"{param}.type")
    function = raw.get("function") if isinstance(raw, dict) else None
    if not isinstance(function, dict):
        raise BadRequest(f"{param}.function: it must be an object with name and arguments.", param=f"{param}.function")
    name, arguments = text_of(function, "name", f"{param}.function", ""), function.get("arguments")
    if not name:
        raise BadRequest(f"{param}.function.name: it must not be empty.", param=f"{param}.function.name")
    if isinstance(arguments, dict):
        arguments = json.dumps(arguments, ensure_ascii=False)
    written = text_of({"arguments": arguments}, "arguments", f"{param}.function", "")
    return ToolCall(text_of(raw, "id", param, ""), name, written)
