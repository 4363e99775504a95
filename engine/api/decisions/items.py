"""Items and parts of a decision's input -> Messages. Pure but for looking up paths under --media-root.

    message               of a user, developer, system or assistant
    function_call(_output), custom_tool_call(_output)      a tool's name, what it was given and what it gave

Parts: input_text, input_image, input_json, and those of a chat completion for what these lack, such as clips. Raises
BadRequest and BadMedia, which name the field by its path, e.g. "input[0].content[1].image_url".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from engine.api.parts import PART_TYPES, read_part
from engine.config import MediaLimits
from engine.errors import BadRequest
from engine.types import Json, Message, Part, Role, ToolCall

ROLES: dict[Any, Role] = {"user": "user", "developer": "system", "system": "system", "assistant": "assistant"}
TEXTS = {"input_text": "text", "output_text": "text", "refusal": "refusal"}
CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
OUTPUTS = ("function_call_output", "custom_tool_call_output")
ITEMS = ("message", *CALLS, *OUTPUTS)
INPUT_PARTS = ("input_text", "input_image", "input_json", *PART_TYPES)
HINT = "prompt_cache_breakpoint"
OF_ANY_ITEM = ("type", "id", "status")

MAX_JSON_DEPTH = 32
MAX_JSON_VALUES = 10_000
MAX_JSON_BYTES = 256 * 1024


def read_input(given: str | list[Json], limits: MediaLimits) -> tuple[Message, ...]:
    """What the questions are about."""
    if isinstance(given, str):
        if not given.strip():
            raise BadRequest("input: it must not be empty.", param="input")
        return (Message("user", (Part("text", text=given, param="input"),)),)
    if not given:
        raise BadRequest("input: it must hold at least one item.", param="input")
    reader = _ItemReader(limits)
    return tuple(message for i, item in enumerate(given) for message in reader.read(item, f"input[{i}]"))


def has_breakpoint(given: Any) -> bool:
    """Whether some part of an input marks a place in the prompt up to which it may be reused."""
    if isinstance(given, dict):
        return given.get(HINT) is not None or any(map(has_breakpoint, given.values()))
    return isinstance(given, list) and any(map(has_breakpoint, given))


def read_parts(content: Any, param: str, limits: MediaLimits) -> tuple[Part, ...]:
    """A text, or an array of parts."""
    if isinstance(content, str):
        return (Part("text", text=content, param=param),)
    if not isinstance(content, list):
        raise BadRequest(f"{param}: it must be a string or an array of parts.", param=param)
    return tuple(_part(raw, f"{param}[{i}]", limits) for i, raw in enumerate(content))


class _ItemReader:
    """Reads items one after the other; a tool's output must follow its call."""

    def __init__(self, limits: MediaLimits) -> None:
        self._limits = limits
        self._names: dict[str, str] = {}

    def read(self, item: Json, param: str) -> list[Message]:
        kind = item.get("type") or ("message" if "role" in item else None)
        readers: dict[Any, Callable[[Json, str], list[Message]]] = {"message": self._message}
        readers |= dict.fromkeys(CALLS, self._call) | dict.fromkeys(OUTPUTS, self._output)
        if kind not in readers:
            raise BadRequest(f"{param}.type: it must be one of {', '.join(ITEMS)}.", param=f"{param}.type")
        return readers[kind](item, param)

    def _message(self, item: Json, param: str) -> list[Message]:
        _refuse_unknown(item, (*OF_ANY_ITEM, "role", "content", "phase"), param)
        role = item.get("role")
        if not isinstance(role, str) or role not in ROLES:
            raise BadRequest(f"{param}.role: it must be one of {', '.join(ROLES)}.", param=f"{param}.role")
        return [Message(ROLES[role], read_parts(item.get("content"), f"{param}.content", self._limits))]

    def _call(self, item: Json, param: str) -> list[Message]:
        field = CALLS[item["type"]]
        _refuse_unknown(item, (*OF_ANY_ITEM, "call_id", "name", "namespace", field), param)
        call_id, name, given = (_string(item, key, param) for key in ("call_id", "name", field))
        self._names[call_id] = name
        arguments = given if field == "arguments" else json.dumps({"input": given}, ensure_ascii=False)
        return [Message("assistant", (), tool_calls=(ToolCall(call_id, name, arguments),))]

    def _output(self, item: Json, param: str) -> list[Message]:
        """The text as the tool's, media as the user's: templates show none in a tool's message."""
        _refuse_unknown(item, (*OF_ANY_ITEM, "call_id", "output"), param)
        call_id = _string(item, "call_id", param)
        if call_id not in self._names:
            raise BadRequest(f"{param}.call_id: no call before it has this id.", param=f"{param}.call_id")
        parts = read_parts(item.get("output"), f"{param}.output", self._limits)
        text = tuple(part for part in parts if part.kind == "text")
        media = tuple(part for part in parts if part.kind != "text")
        said = Message("tool", text, tool_call_id=call_id, name=self._names[call_id])
        return [said, Message("user", media)] if media else [said]


def _part(raw: Any, param: str, limits: MediaLimits) -> Part:
    kind = raw.get("type") if isinstance(raw, dict) else None
    if kind in TEXTS:
        name = TEXTS[kind]
        _refuse_unknown(raw, ("type", name, HINT), param)
        return Part("text", text=_string(raw, name, param), param=f"{param}.{name}")
    if kind == "input_json":
        _refuse_unknown(raw, ("type", "data", HINT), param)
        return Part("text", text=_json_text(raw.get("data"), f"{param}.data"), param=f"{param}.data")
    if kind == "input_image":
        if raw.get("file_id") is not None:
            why = "files cannot be named here; send the picture as image_url"
            raise BadRequest(f"{param}.file_id: {why}.", param=f"{param}.file_id", code="unsupported_parameter")
        return read_part({**_without(raw, HINT), "type": "image_url"}, param, limits)
    if kind not in PART_TYPES:
        raise BadRequest(f"{param}.type: it must be one of {', '.join(INPUT_PARTS)}.", param=f"{param}.type")
    return read_part(_without(raw, HINT), param, limits)


def _json_text(data: Any, param: str) -> str:
    """An object, or an array of objects, as compact JSON."""
    if not isinstance(data, dict) and not (isinstance(data, list) and all(isinstance(row, dict) for row in data)):
        raise BadRequest(f"{param}: it must be an object or an array of objects.", param=param)
    num_values, depth, level = 0, 0, [data]
    while level:
        num_values += len(level)
        holders = [value for value in level if isinstance(value, dict | list)]
        depth += bool(holders)
        level = [inner for value in holders for inner in (value.values() if isinstance(value, dict) else value)]
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    for name, found, most in (
        ("levels", depth, MAX_JSON_DEPTH),
        ("values", num_values, MAX_JSON_VALUES),
        ("bytes", len(text.encode()), MAX_JSON_BYTES),
    ):
        if found > most:
            raise BadRequest(f"{param}: it has {found:,} {name}; at most {most:,} are allowed.", param=param)
    return text


def _string(raw: Json, name: str, param: str) -> str:
    value = raw.get(name)
    if not isinstance(value, str):
        raise BadRequest(f"{param}.{name}: it must be a string.", param=f"{param}.{name}")
    return value


def _without(raw: Json, name: str) -> Json:
    return {key: value for key, value in raw.items() if key != name}


def _refuse_unknown(raw: Json, known: Sequence[str], param: str) -> None:
    for name, value in raw.items():
        if name not in known and value is not None:
            where = f"{param}.{name}"
            raise BadRequest(f"{where}: not known here.", param=where, code="unknown_parameter")
