"""Items and parts of a decision's input -> Messages. Pure but for looking up paths under --media-root.

    message               of a user, developer, system or assistant
    function_call(_output), custom_tool_call(_output)      a tool's name, what it was given and what it gave

Parts: input_text, input_image, input_json, and those of a chat completion for what these lack, such as clips. Raises
BadRequest and BadMedia, which name the field by its path, e.g. "input[0].content[1].image_url".
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from engine.api.bodies.items import HINT, OF_ANY_ITEM, PartReader, item_type, read_content, read_role
from engine.api.bodies.parts import refuse_unknown
from engine.api.bodies.values import one_of, text_of
from engine.config import MediaLimits
from engine.errors import BadRequest
from engine.types import Json, Message, Part, ToolCall

CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
OUTPUTS = ("function_call_output", "custom_tool_call_output")

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
    return tuple(read_content(content, param, limits, OWN_PARTS))


class _ItemReader:
    """Reads items one after the other; a tool's output must follow its call."""

    def __init__(self, limits: MediaLimits) -> None:
        self._limits = limits
        self._names: dict[str, str] = {}

    def read(self, item: Json, param: str) -> list[Message]:
        readers: dict[str, Callable[[Json, str], list[Message]]] = {"message": self._message}
        readers |= dict.fromkeys(CALLS, self._call) | dict.fromkeys(OUTPUTS, self._output)
        return readers[one_of(item_type(item), readers, f"{param}.type")](item, param)

    def _message(self, item: Json, param: str) -> list[Message]:
        refuse_unknown(item, (*OF_ANY_ITEM, "role", "content", "phase"), param, "")
        return [Message(read_role(item, param), read_parts(item.get("content"), f"{param}.content", self._limits))]

    def _call(self, item: Json, param: str) -> list[Message]:
        field = CALLS[item["type"]]
        refuse_unknown(item, (*OF_ANY_ITEM, "call_id", "name", "namespace", field), param, "")
        call_id, name, given = (text_of(item, key, param) for key in ("call_id", "name", field))
        self._names[call_id] = name
        arguments = given if field == "arguments" else json.dumps({"input": given}, ensure_ascii=False)
        return [Message("assistant", (), tool_calls=(ToolCall(call_id, name, arguments),))]

    def _output(self, item: Json, param: str) -> list[Message]:
        """The text as the tool's, media as the user's: templates show none in a tool's message."""
        refuse_unknown(item, (*OF_ANY_ITEM, "call_id", "output"), param, "")
        call_id = text_of(item, "call_id", param)
        if call_id not in self._names:
            raise BadRequest(f"{param}.call_id: no call before it has this id.", param=f"{param}.call_id")
        parts = read_parts(item.get("output"), f"{param}.output", self._limits)
        text = tuple(part for part in parts if part.kind == "text")
        media = tuple(part for part in parts if part.kind != "text")
        said = Message("tool", text, tool_call_id=call_id, name=self._names[call_id])
        return [said, Message("user", media)] if media else [said]


def _json_part(raw: Json, param: str, limits: MediaLimits) -> Part:
    refuse_unknown(raw, ("type", "data", HINT), param, "")
    return Part("text", text=_json_text(raw.get("data"), f"{param}.data"), param=f"{param}.data")


OWN_PARTS: dict[str, PartReader] = {"input_json": _json_part}


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
