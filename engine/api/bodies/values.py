"""Single values out of JSON that was not held against a schema: each may be of any type. Pure. Raises BadRequest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from engine.errors import BadRequest
from engine.types import Json

Word = TypeVar("Word", bound=str)


def text_of(raw: Json, name: str, param: str, default: str | None = None) -> str:
    """The text in a field. param: where its object stands. default: for one that is null or not given; without a
    default the field must be there."""
    value = raw.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise BadRequest(f"{param}.{name}: it must be a string.", param=f"{param}.{name}")
    return value


def one_of(value: object, words: Iterable[Word], param: str, code: str | None = None) -> Word:
    """The one of these words that a value is. param: where it stands. code: of the error, if it has one of its own."""
    known = tuple(words)
    for word in known:
        if value == word:
            return word
    raise BadRequest(f"{param}: it must be one of {', '.join(known)}.", param=param, code=code)
