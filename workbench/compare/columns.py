"""What a column of the Compare tab asks: the message of all columns with settings of its own. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.errors import BadRequest
from engine.types import Json, Message, Request
from workbench.chat.convert import ChatEntry, ChatSettings, to_request
from workbench.chat.settings import Field, from_texts
from workbench.language import catalogued, t

MIN_COLUMNS, MAX_COLUMNS = 2, 4
LETTERS = "ABCD"
PIXELS = Field(catalogued("Max pixels"), int, low=1)
TEXTS = ("model", "temperature", "max_tokens", "fps", "system")
"""The fields of a column that are the chat's too, and go with an answer that is kept."""


@dataclass(frozen=True, slots=True)
class Column:
    """max_pixels: of each picture, page or frame; None: as many as the model takes. reuse: see Request.reuse."""

    settings: ChatSettings
    max_pixels: int | None
    reuse: bool


def texts_of(fields: Mapping[str, Any]) -> Json:
    """The fields that are not empty, as a conversation keeps them."""
    return {name: str(fields[name]) for name in TEXTS if str(fields.get(name) or "").strip()}


def read_column(fields: Mapping[str, Any]) -> Column:
    """What the page sent of one column. Raises BadRequest."""
    try:
        max_pixels = PIXELS.parse(str(fields.get("max_pixels") or ""))
    except ValueError as error:
        raise BadRequest(str(error), param="max_pixels") from None
    return Column(from_texts(texts_of(fields)), max_pixels, bool(fields.get("reuse", True)))


def check_number(columns: Sequence[Any]) -> None:
    """Raise BadRequest where there are too few or too many."""
    if not MIN_COLUMNS <= len(columns) <= MAX_COLUMNS:
        limits = {"low": MIN_COLUMNS, "high": MAX_COLUMNS}
        words = t("There must be {low} to {high} columns; there are {count}.", **limits, count=len(columns))
        raise BadRequest(words, param="columns")


def request_of(entries: Sequence[ChatEntry], column: Column, session: str, tenant: str) -> Request:
    """The request that the chat would send with these settings. entries: of the message."""
    request = to_request(entries, column.settings, session, tenant)
    messages = request.messages if column.max_pixels is None else within(request.messages, column.max_pixels)
    return replace(request, messages=messages, reuse=column.reuse, source="compare")


def within(messages: Sequence[Message], max_pixels: int | None) -> tuple[Message, ...]:
    """The messages, each picture, page and frame of them with this limit. None: as many pixels as the model takes."""
    return tuple(
        replace(
            message,
            parts=tuple(
                part if part.kind in ("text", "audio") else replace(part, max_pixels=max_pixels)
                for part in message.parts
            ),
        )
        for message in messages
    )
