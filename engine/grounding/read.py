"""Reading the places that a model wrote. The text comes from a model: nothing in it is trusted or executed."""

from __future__ import annotations

import json
import math
import re
from bisect import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from engine.grounding.forms import Form, Notation
from engine.types.grounding import RegionKind

MOST_MARKS = 1000
"""Of one answer; what a page can draw, and no end of a model that repeats itself."""

NUMBER = r"[-+]?\d{1,6}(?:\.\d{1,6})?"
_LABEL = r"([^\n()\[\]{}<>,;:]{0,80}?)\s{0,2}"
_PAIR = rf"\(\s*({NUMBER})\s*,\s*({NUMBER})\s*\)"
_PAIRS = re.compile(rf"{_LABEL}{_PAIR}\s*,\s*{_PAIR}")
_ROWS = r"\[\s*(\[[^\[\]]{3,120}\](?:\s*,\s*\[[^\[\]]{3,120}\])*)\s*\]"
_BRACKETS = re.compile(_LABEL + _ROWS)
_ROW = re.compile(r"\[([^\[\]]+)\]")
_LOCS = r"((?:<loc\d{4}>){4})"
_LOC = re.compile(rf"{_LOCS}\s*([^<;\n]{{0,80}})")
_TAG = r"<points?\s([^<>]{1,4000})>"
_XML = re.compile(rf"{_TAG}([^<]{{0,80}})")
_ATTRIBUTE = re.compile(r'([a-z]+)(\d*)\s*=\s*"([^"]{0,200})"')
_JSON_NUMBER = r"\s*-?(?:0|[1-9]\d{0,5})(?:\.\d{1,6})?\s*"
_JSON_ROW = rf"\[{_JSON_NUMBER}(?:,{_JSON_NUMBER}){{1,3}}\]"
PLACE_KEYS = ("bbox_2d", "box_2d", "bbox", "box", "point_2d", "point")
_KEYED = re.compile(rf'"({"|".join(PLACE_KEYS)})"\s*:\s*({_JSON_ROW}|\[\s*{_JSON_ROW}(?:\s*,\s*{_JSON_ROW})*\s*\])')
WHOLE: dict[Notation, re.Pattern[str]] = {
    "json": _KEYED,
    "pairs": re.compile(rf"{_PAIR}\s*,\s*{_PAIR}"),
    "brackets": re.compile(_ROWS),
    "loc": re.compile(_LOCS),
    "xml": re.compile(_TAG),
}
"""The coordinates of each notation without the label beside them."""
_FIELD = re.compile(r'"(\w{1,20})"\s*:\s*("(?:[^"\\\n]|\\.){0,200}"|\d{1,9}(?:\.\d{1,6})?(?![\w.]))')
_MOST_BESIDE = 400
"""Characters before and after a place in which its label is looked for."""
_LABEL_KEYS = ("label", "text", "name", "text_content", "category")
_CLOCK = re.compile(r"(?:(\d{1,3}):)?(\d{1,4}(?:\.\d{1,3})?)\s*s?")


@dataclass(frozen=True, slots=True)
class Mark:
    """A place as it was written. numbers: four of a box, two of a point, in the order of the text. frame: the index of
    a clip's frame, time_s: its time, where either was named."""

    kind: RegionKind
    numbers: tuple[float, ...]
    label: str = ""
    frame: int | None = None
    time_s: float | None = None


def read_marks(text: str, form: Form) -> tuple[Mark, ...]:
    """The places in a text, at most MOST_MARKS, in the order of the text. What is incomplete is left out. A place that
    two of the form's notations could read is the first one's."""
    found: dict[int, list[Mark]] = {}
    taken: list[tuple[int, int]] = []
    for notation in form.notations:
        for start, mark in _READERS[notation](text):
            at = bisect(taken, (start, len(text))) - 1
            if at < 0 or start >= taken[at][1]:
                found.setdefault(start, []).append(mark)
        if notation != form.notations[-1]:
            taken = sorted([*taken, *(match.span() for match in WHOLE[notation].finditer(text))])
    return tuple(mark for start in sorted(found) for mark in found[start])[:MOST_MARKS]


def _json(text: str) -> Iterator[tuple[int, Mark]]:
    """By its keys, not by a parser: small models and answers that are cut off write objects that no parser takes."""
    for match in _KEYED.finditer(text):
        fields = _fields(text, match)
        label = next((fields[key] for key in _LABEL_KEYS if isinstance(fields.get(key), str)), "")
        frame, time_s = fields.get("frame"), _seconds(fields.get("time", fields.get("timestamp")))
        kind: RegionKind = "point" if match[1].startswith("point") else "box"
        for row in json.loads(match[2]) if match[2][1:].lstrip().startswith("[") else [json.loads(match[2])]:
            if len(row) == (4 if kind == "box" else 2):
                numbers = tuple(map(float, row))
                yield match.start(), Mark(kind, numbers, label, frame if isinstance(frame, int) else None, time_s)


def _fields(text: str, match: re.Match[str]) -> dict[str, Any]:
    """The words and numbers beside a place, in the same object. What is written twice counts once."""
    start = text.rfind("{", max(0, match.start() - _MOST_BESIDE), match.start())
    ends = [at for at in (text.find(sign, match.end(), match.end() + _MOST_BESIDE) for sign in "{}") if at >= 0]
    beside = text[start + 1 if start >= 0 else match.start() : min(ends, default=match.end() + _MOST_BESIDE)]
    fields: dict[str, Any] = {}
    for name, value in _FIELD.findall(beside):
        try:
            fields.setdefault(name, json.loads(value, strict=False))
        except ValueError:
            continue
    return fields


def _seconds(value: Any) -> float | None:
    """A time as a number of seconds, or "m:ss"."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str):
        match = _CLOCK.fullmatch(value.strip())
        return float(match[1] or 0) * 60 + float(match[2]) if match else None
    return float(value) if math.isfinite(value) else None


def _pairs(text: str) -> Iterator[tuple[int, Mark]]:
    for match in _PAIRS.finditer(text):
        yield match.start(), Mark("box", tuple(float(n) for n in match.groups()[1:]), match[1].strip())


def _brackets(text: str) -> Iterator[tuple[int, Mark]]:
    for match in _BRACKETS.finditer(text):
        for row in _ROW.findall(match[2]):
            written = [part.strip() for part in row.split(",")]
            if len(written) in (2, 4) and all(re.fullmatch(NUMBER, part) for part in written):
                kind: RegionKind = "box" if len(written) == 4 else "point"
                yield match.start(), Mark(kind, tuple(float(part) for part in written), match[1].strip())


def _loc(text: str) -> Iterator[tuple[int, Mark]]:
    for match in _LOC.finditer(text):
        yield match.start(), Mark("box", tuple(float(n) for n in re.findall(r"\d{4}", match[1])), match[2].strip())


def _xml(text: str) -> Iterator[tuple[int, Mark]]:
    """<point x="1" y="2" alt="a">label</point>, and <points x1="1" y1="2" x2="3" y2="4" …>."""
    for match in _XML.finditer(text):
        found = {(name, number): value for name, number, value in _ATTRIBUTE.findall(match[1])}
        label = (found.get(("alt", "")) or match[2]).strip()
        for (name, number), value in found.items():
            row = [value, found.get(("y", number), "")] if name == "x" else []
            if row and all(re.fullmatch(NUMBER, part.strip()) for part in row):
                yield match.start(), Mark("point", tuple(float(part) for part in row), label)


_READERS: dict[Notation, Callable[[str], Iterator[tuple[int, Mark]]]] = {
    "json": _json,
    "pairs": _pairs,
    "brackets": _brackets,
    "loc": _loc,
    "xml": _xml,
}
