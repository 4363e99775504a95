"""Items of a response's input -> Messages. Pure but for looking up paths under --media-root.

Raises BadRequest and BadMedia, which name the field by its path, e.g. "input[0].content[1].image_url".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from engine.api.parts import PART_TYPES, read_part, refuse_unknown
from engine.config import MediaLimits
from engine.errors import BadRequest
from engine.types import Json, Message, Part, Role, ToolCall

ROLES: dict[Any, Role] = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
TEXTS = {"input_text": "text", "output_text": "text", "refusal": "refusal", "text": "text"}
ITEMS = ("message", "function_call", "function_call_output", "reasoning")
OF_ANY_ITEM = ("type", "id", "status")


def read_input(given: str | list[Json], limits: MediaLimits) -> list[Message]:
    """A text, or items. What the assistant thought, said and called in a row becomes one message."""
    if isinstance(given, str):
        return [Message("user", (Part("text", text=given, param="input"),))]
    messages: list[Message] = []
    for i, item in enumerate(given):
        message = _item(item, f"input[{i}]", limits)
        last = messages[-1] if messages else None
        if last and last.role == message.role == "assistant" and not (last.parts and message.parts):
            messages[-1] = _joined(last, message)
        else:
            messages.append(message)
    return messages


def _joined(one: Message, other: Message) -> Message:
    return replace(
        one,
        parts=one.parts + other.parts,
        tool_calls=one.tool_calls + other.tool_calls,
        reasoning=one.reasoning + other.reasoning,
    )


def _item(item: Json, param: str, limits: MediaLimits) -> Message:
    kind = item.get("type") or ("message" if "role" in item else None)
    if kind not in READERS:
        why = f"it must be one of {', '.join(ITEMS)}"
        raise BadRequest(f"{param}.type: {why}.", param=f"{param}.type", code="unsupported_parameter")
    return READERS[kind](item, param, limits)


def _message(item: Json, param: str, limits: MediaLimits) -> Message:
    role, content = item.get("role"), item.get("content")
    if not isinstance(role, str) or role not in ROLES:
        raise BadRequest(f"{param}.role: it must be one of {', '.join(ROLES)}.", param=f"{param}.role")
    refuse_unknown(item, (*OF_ANY_ITEM, "role", "content", "phase"), param, "")
    return Message(ROLES[role], tuple(_parts(content, f"{param}.content", limits)))


def _parts(content: Any, param: str, limits: MediaLimits) -> Iterator[Part]:
    if isinstance(content, str):
        yield Part("text", text=content, param=param)
    elif isinstance(content, list):
        for i, raw in enumerate(content):
            yield _part(raw, f"{param}[{i}]", limits)
    else:
        raise BadRequest(f"{param}: it must be a string or an array of parts.", param=param)


def _part(raw: Any, param: str, limits: MediaLimits) -> Part:
    """OpenAI's input_* parts; and the parts of a chat completion, for what those do not have, such as clips."""
    kind = raw.get("type") if isinstance(raw, dict) else None
    if kind in TEXTS:
        name = TEXTS[kind]
        refuse_unknown(raw, ("type", name, "annotations", "logprobs", "prompt_cache_breakpoint"), param, "")
        return Part("text", text=_string(raw, name, param), param=f"{param}.{name}")
    if kind == "input_image":
        return _image(raw, param, limits)
    if kind == "input_file":
        return _file(raw, param, limits)
    if kind not in PART_TYPES:
        forms = ("input_text", "input_image", "input_file", *PART_TYPES)
        raise BadRequest(f"{param}.type: it must be one of {', '.join(forms)}.", param=f"{param}.type")
    return read_part(raw, param, limits)


def _image(raw: Json, param: str, limits: MediaLimits) -> Part:
    if raw.get("file_id") is not None:
        raise _no_uploads(f"{param}.file_id", "image_url")
    return read_part(_as("image_url", raw, "prompt_cache_breakpoint"), param, limits)


def _file(raw: Json, param: str, limits: MediaLimits) -> Part:
    """The same fields as a file part's object has."""
    if raw.get("file_id") is not None:
        raise _no_uploads(f"{param}.file_id", "file_data")
    refuse_unknown(raw, ("type", *FILE_FIELDS, "detail", "prompt_cache_breakpoint"), param, "file")
    inner = {name: raw[name] for name in FILE_FIELDS if raw.get(name) is not None}
    try:
        part = read_part({"type": "file", "file": inner}, param, limits)
    except BadRequest as error:
        raise type(error)(
            error.message.replace(f"{param}.file.", f"{param}."),
            param=(error.param or "").replace(f"{param}.file.", f"{param}."),
            code=error.code,
        ) from error
    return replace(part, param=part.param.replace(f"{param}.file.", f"{param}."))


FILE_FIELDS = ("file_data", "file_url", "filename", "pages", "text", "max_pixels")


def _as(kind: str, raw: Json, *without: str) -> Json:
    return {**{name: value for name, value in raw.items() if name not in without}, "type": kind}


def _no_uploads(param: str, instead: str) -> BadRequest:
    why = f"files cannot be uploaded to this server; send the file itself as {instead}"
    return BadRequest(f"{param}: {why}.", param=param, code="unsupported_parameter")


def _call(item: Json, param: str, limits: MediaLimits) -> Message:
    refuse_unknown(item, (*OF_ANY_ITEM, "call_id", "name", "arguments", "namespace", "caller"), param, "")
    texts = [_string(item, name, param) for name in ("call_id", "name", "arguments")]
    return Message("assistant", (), tool_calls=(ToolCall(*texts),))


def _result(item: Json, param: str, limits: MediaLimits) -> Message:
    refuse_unknown(item, (*OF_ANY_ITEM, "call_id", "output", "name", "namespace", "caller"), param, "")
    parts = tuple(_parts(item.get("output"), f"{param}.output", limits))
    return Message("tool", parts, tool_call_id=_string(item, "call_id", param))


def _reasoning(item: Json, param: str, limits: MediaLimits) -> Message:
    """What was thought in a turn; a summary stands for it where that is all there is."""
    refuse_unknown(item, (*OF_ANY_ITEM, "summary", "content", "encrypted_content"), param, "")
    name = "content" if item.get("content") else "summary"
    texts = item.get(name) or []
    if not isinstance(texts, list) or not all(isinstance(text, dict) for text in texts):
        raise BadRequest(f"{param}.{name}: it must be an array of texts.", param=f"{param}.{name}")
    reasoning = "".join(_string(text, "text", f"{param}.{name}[{i}]") for i, text in enumerate(texts))
    return Message("assistant", (), reasoning=reasoning)


READERS: dict[Any, Callable[[Json, str, MediaLimits], Message]] = {
    "message": _message,
    "function_call": _call,
    "function_call_output": _result,
    "reasoning": _reasoning,
}


def _string(raw: Json, name: str, param: str) -> str:
    value = raw.get(name)
    if not isinstance(value, str):
        raise BadRequest(f"{param}.{name}: it must be a string.", param=f"{param}.{name}")
    return value
