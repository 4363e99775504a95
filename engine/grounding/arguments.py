"""Coordinates in the arguments of tool calls, by the names that programs which click give them. Pure Python."""

from __future__ import annotations

import json
import re
from typing import Any

from engine.grounding.notation import EITHER, Rewriter
from engine.grounding.read import NUMBER, PLACE_KEYS

PLACES = ("coordinate", "start_coordinate", "end_coordinate", "start_box", "end_box", "start_point", "end_point")
"""Names of two or four numbers, x before y whatever the family's own notation is. Names of that notation count, too
(read.PLACE_KEYS), in its order."""

AXIS = re.compile(r"(?:(?P<of>start|end|from|to)_)?(?P<axis>[xy])(?P<nr>\d?)")
"""Names of single numbers. One alone, without its partner, is no place."""

_NUMBER = re.compile(NUMBER)


def rewritten(arguments: str, rewriter: Rewriter) -> str | None:
    """The arguments with their coordinates changed, as JSON. None where they are no JSON, or too deep."""
    try:
        value = json.loads(arguments)
        changed = _walk(value, rewriter)
        return arguments if changed == value else json.dumps(changed, ensure_ascii=False)
    except (ValueError, RecursionError):
        return None


def _walk(value: Any, rewriter: Rewriter) -> Any:
    if isinstance(value, list):
        return [_walk(inner, rewriter) for inner in value]
    if not isinstance(value, dict):
        return value
    return {name: _field(name, inner, value, rewriter) for name, inner in value.items()}


def _field(name: str, value: Any, beside: dict[str, Any], rewriter: Rewriter) -> Any:
    if name in PLACES or name in PLACE_KEYS:
        return _place(value, rewriter, y_first=rewriter.form.y_first and name in PLACE_KEYS)
    match = AXIS.fullmatch(name)
    if match is None:
        return _walk(value, rewriter)
    axis = "xy".index(match["axis"])
    partner = f"{match['of']}_" if match["of"] else ""
    is_place = _is_number(value) and _is_number(beside.get(f"{partner}{'yx'[axis]}{match['nr']}"))
    return _number(value, axis, rewriter, is_point=True) if is_place else value


def _place(value: Any, rewriter: Rewriter, *, y_first: bool) -> Any:
    if isinstance(value, str):  # such as "[100, 200]" or "(100,200)"
        return rewriter.row(value, EITHER, y_first=y_first)
    if not isinstance(value, list):
        return _walk(value, rewriter)
    if len(value) in (2, 4) and all(map(_is_number, value)):
        is_point = len(value) == 2
        return [_number(one, (i + y_first) % 2, rewriter, is_point=is_point) for i, one in enumerate(value)]
    return [_place(one, rewriter, y_first=y_first) if isinstance(one, list) else _walk(one, rewriter) for one in value]


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return _NUMBER.fullmatch(value.strip()) is not None
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e7


def _number(value: Any, axis: int, rewriter: Rewriter, *, is_point: bool) -> Any:
    text = rewriter.number(str(value).strip(), axis, is_point=is_point)
    return text if isinstance(value, str) else json.loads(text)
