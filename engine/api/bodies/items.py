"""What Responses and decisions have in common: who says a message, and the parts of its content.

Pure but for looking up paths under --media-root. Raises BadRequest and BadMedia.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from engine.api.bodies.parts import PART_TYPES, read_part, refuse_unknown, refuse_upload
from engine.api.bodies.values import one_of, text_of
from engine.config import MediaLimits
from engine.errors import BadRequest
from engine.types import Json, Part, Role

ROLES: dict[str, Role] = {"user": "user", "developer": "system", "system": "system", "assistant": "assistant"}
TEXTS = {"input_text": "text", "output_text": "text", "refusal": "refusal", "text": "text"}
"""Types of parts that are text, and the field that holds it."""

HINT = "prompt_cache_breakpoint"
OF_ANY_ITEM = ("type", "id", "status")
PartReader = Callable[[Json, str, MediaLimits], Part]
"""(a part, where it stands, limits) -> Part."""


def item_type(item: Json) -> object:
    """What its type says; a message need not say it."""
    kind = item.get("type")
    return "message" if kind is None and "role" in item else kind


def read_role(item: Json, param: str) -> Role:
    """Who says a message. param: where the item stands."""
    return ROLES[one_of(item.get("role"), ROLES, f"{param}.role")]


def read_content(content: Any, param: str, limits: MediaLimits, own: Mapping[str, PartReader]) -> Iterator[Part]:
    """A text, or an array of parts: input_text and its like, input_image, and those of a chat for what these lack, such
    as clips. own: readers of the types that only one protocol has."""
    if isinstance(content, str):
        yield Part("text", text=content, param=param)
        return
    if not isinstance(content, list):
        raise BadRequest(f"{param}: it must be a string or an array of parts.", param=param)
    for i, raw in enumerate(content):
        yield _part(raw, f"{param}[{i}]", limits, own)


def _part(raw: Any, param: str, limits: MediaLimits, own: Mapping[str, PartReader]) -> Part:
    kinds = dict.fromkeys((*TEXTS, "input_image", *own, *PART_TYPES))
    kind = one_of(raw.get("type") if isinstance(raw, dict) else None, kinds, f"{param}.type")
    if kind in TEXTS:
        name = TEXTS[kind]
        refuse_unknown(raw, ("type", name, "annotations", "logprobs", HINT), param, "")
        return Part("text", text=text_of(raw, name, param), param=f"{param}.{name}")
    if kind in own:
        return own[kind](raw, param, limits)
    if kind == "input_image":
        refuse_upload(raw, param, "image_url")
        kind = "image_url"
    return read_part({**{name: value for name, value in raw.items() if name != HINT}, "type": kind}, param, limits)
