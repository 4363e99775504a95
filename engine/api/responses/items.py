"""Items of a response's input -> Messages. Pure but for looking up paths under --media-root.

Raises BadRequest and BadMedia, which name the field by its path, e.g. "input[0].content[1].image_url".
"""

from __future__ import annotations

from collections.abc import Callable

from engine.api.bodies.items import HINT, OF_ANY_ITEM, PartReader, item_type, read_content, read_role
from engine.api.bodies.parts import read_file, refuse_unknown
from engine.api.bodies.values import one_of, text_of
from engine.api.chat.messages import joined
from engine.config import MediaLimits
from engine.errors import BadRequest
from engine.types import Json, Message, Part, ToolCall


def read_input(given: str | list[Json], limits: MediaLimits) -> list[Message]:
    """A text, or items. What the assistant thought, said and called in a row becomes one message."""
    if isinstance(given, str):
        return [Message("user", (Part("text", text=given, param="input"),))]
    messages: list[Message] = []
    for i, item in enumerate(given):
        message = _item(item, f"input[{i}]", limits)
        last = messages[-1] if messages else None
        if last and last.role == message.role == "assistant" and not (last.parts and message.parts):
            messages[-1] = joined(last, message)
        else:
            messages.append(message)
    return messages


def _item(item: Json, param: str, limits: MediaLimits) -> Message:
    kind = one_of(item_type(item), READERS, f"{param}.type", "unsupported_parameter")
    return READERS[kind](item, param, limits)


def _message(item: Json, param: str, limits: MediaLimits) -> Message:
    role = read_role(item, param)
    refuse_unknown(item, (*OF_ANY_ITEM, "role", "content", "phase"), param, "")
    return Message(role, tuple(read_content(item.get("content"), f"{param}.content", limits, OWN_PARTS)))


def _file(raw: Json, param: str, limits: MediaLimits) -> Part:
    """The fields of a file part's object stand in the part itself."""
    return read_file(raw, param, limits, also=("type", "detail", HINT))


OWN_PARTS: dict[str, PartReader] = {"input_file": _file}


def _call(item: Json, param: str, limits: MediaLimits) -> Message:
    refuse_unknown(item, (*OF_ANY_ITEM, "call_id", "name", "arguments", "namespace", "caller"), param, "")
    texts = [text_of(item, name, param) for name in ("call_id", "name", "arguments")]
    return Message("assistant", (), tool_calls=(ToolCall(*texts),))


def _result(item: Json, param: str, limits: MediaLimits) -> Message:
    refuse_unknown(item, (*OF_ANY_ITEM, "call_id", "output", "name", "namespace", "caller"), param, "")
    parts = tuple(read_content(item.get("output"), f"{param}.output", limits, OWN_PARTS))
    return Message("tool", parts, tool_call_id=text_of(item, "call_id", param))


def _reasoning(item: Json, param: str, limits: MediaLimits) -> Message:
    """What was thought in a turn; a summary stands for it where that is all there is."""
    refuse_unknown(item, (*OF_ANY_ITEM, "summary", "content", "encrypted_content"), param, "")
    name = "content" if item.get("content") else "summary"
    texts = item.get(name) or []
    if not isinstance(texts, list) or not all(isinstance(text, dict) for text in texts):
        raise BadRequest(f"{param}.{name}: it must be an array of texts.", param=f"{param}.{name}")
    reasoning = "".join(text_of(text, "text", f"{param}.{name}[{i}]") for i, text in enumerate(texts))
    return Message("assistant", (), reasoning=reasoning)


READERS: dict[str, Callable[[Json, str, MediaLimits], Message]] = {
    "message": _message,
    "function_call": _call,
    "function_call_output": _result,
    "reasoning": _reasoning,
}
