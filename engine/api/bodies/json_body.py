"""A body as JSON: what can be read at all, numbers that are whole, and plain words for what is wrong with a field.

An integer may be written as 4.0; null means "not given".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel, model_validator

from engine.errors import BadRequest
from engine.surrogates import HALF, MAX_DEPTH, well_formed

MAX_PATH_CHARS = 200
"""Of a field's path in an error: names of fields may be of any length."""


def _holds_integers(annotation: Any) -> bool:
    """Whether int is the only number in a type."""
    inner = [_holds_integers(arg) for arg in get_args(annotation)]
    return annotation is int or (any(inner) and float not in get_args(annotation))


def _whole(value: Any) -> Any:
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**63 else value


@cache
def _integers_of(kind: type[BaseModel]) -> frozenset[str]:
    """Names of the fields of a class whose numbers are integers."""
    return frozenset(name for name, field in kind.model_fields.items() if _holds_integers(field.annotation))


class WholeNumbers(BaseModel):
    """Takes 4.0 for an integer: some clients' languages have only one kind of number."""

    @model_validator(mode="before")
    @classmethod
    def _take_whole(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        integers = _integers_of(cls)
        return {name: _whole(value) if name in integers else value for name, value in body.items()}


def readable(body: Any) -> Any:
    """A body with its history well formed, as far as check_readable goes on to look. Raises as that."""
    if isinstance(body, dict):
        histories = {name: body[name] for name in ("messages", "input") if isinstance(body.get(name), list)}
        body = {**body, **{name: well_formed(history) for name, history in histories.items()}}
    check_readable(body)
    return body


def check_readable(body: Any) -> None:
    """Raise BadRequest for what JSON allows and nothing behind it can read: half a character, and endless nesting."""
    left: list[tuple[Any, str, int]] = [(body, "", 0)]
    while left:
        value, path, depth = left.pop()
        if isinstance(value, str):
            if not value.isascii() and HALF.search(value):
                raise BadRequest(f"{path}: it has half of a surrogate pair in it, which is not text.", param=path)
        elif isinstance(value, dict | list):
            if depth > MAX_DEPTH:
                where = path[:MAX_PATH_CHARS]
                raise BadRequest(f"{where}: at most {MAX_DEPTH} levels are allowed.", param=where)
            if isinstance(value, dict):
                left += [(inner, f"{path}.{name}" if path else name, depth + 1) for name, inner in value.items()]
                left += [(name, path or "body", depth) for name in value]  # looked at first: they are in the paths
            else:
                left += [(inner, f"{path}[{i}]", depth + 1) for i, inner in enumerate(value)]


def explain(errors: Sequence[Any], body: Any) -> BadRequest:
    """The first of pydantic's errors (dicts with type, loc, msg, input) in words, with the JSON path of its field."""
    error = errors[0]
    if error["type"] == "json_invalid":
        return BadRequest(f"The body is not valid JSON: {error['ctx']['error']}.", code="invalid_json")
    param = json_path(error["loc"], body)
    if param is None:
        return BadRequest(
            "The body must be a JSON object, sent with Content-Type: application/json.", code="invalid_json"
        )
    if error["type"] == "missing":
        return BadRequest(f"{param}: this field is required.", param=param, code="missing_required_parameter")
    got = error.get("input")
    said = f", got {got!r}"[:60] if isinstance(got, int | float | None) else f", got {_kind(got)}"
    words = re.sub("^(Input|Value) should be", "it must be", error["msg"])
    return BadRequest(f"{param}: {words[0].lower()}{words[1:]}{said}.", param=param)


def json_path(loc: Sequence[int | str], body: Any) -> str | None:
    """ "messages[0].role" from pydantic's location. Names in it that are types, not fields, are left out; of a query
    and a path there are none.

    None when the error is about the body as a whole.
    """
    if loc and loc[0] != "body":
        return ".".join(str(step) for step in loc[1:])[:MAX_PATH_CHARS] or None
    path, here = "", body
    for i, step in enumerate(loc[1:], 1):
        if isinstance(step, int) and isinstance(here, list):
            path, here = f"{path}[{step}]", here[step] if step < len(here) else None
        elif isinstance(step, str) and isinstance(here, dict) and (step in here or i == len(loc) - 1):
            path, here = f"{path}.{step}" if path else step, here.get(step)
    return path[:MAX_PATH_CHARS] or None


def _kind(value: Any) -> str:
    """What a value is in JSON's words; its content stays out of error messages, which are logged by clients."""
    names: dict[type, str] = {str: "a string", list: "an array", dict: "an object"}
    return names.get(type(value), type(value).__name__)
