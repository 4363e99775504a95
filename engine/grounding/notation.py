"""Changing the numbers of coordinates inside a text that may still be growing, each family's notation in its own way.

A text is held back only from where coordinates may have begun until it is known whether they have. What a text becomes
does not depend on the pieces that it comes in. Pure Python.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.grounding.forms import Form, Notation
from engine.grounding.read import NUMBER, PLACE_KEYS, WHOLE

MOST_HELD = 16_384
"""Characters that are held back at most; a longer list of coordinates stands as it was (GrowingText.gave_up)."""

_QUOTED = sorted({f'"{key}"'[:end] for key in PLACE_KEYS for end in range(1, len(key) + 2)}, key=len, reverse=True)
_KEYS = "|".join(PLACE_KEYS)
_BEGUN_NUMBER = r"\s*+[-+.\d]{0,14}+\s*+"
_BEGUN: dict[Notation, re.Pattern[str]] = {
    "json": re.compile(rf'(?:{"|".join(_QUOTED)}|"(?:{_KEYS})"\s*(?::\s*(?:\[[-\s\d.,\[\]]*)?)?)\Z'),
    "pairs": re.compile(
        rf"\({_BEGUN_NUMBER}(?:,{_BEGUN_NUMBER}(?:\)\s*+(?:,\s*+(?:\({_BEGUN_NUMBER}(?:,{_BEGUN_NUMBER})?)?)?)?)?\Z",
    ),
    "brackets": re.compile(
        r"\[\s*(?:\[[^\[\]]{0,120}(?:\]\s*,\s*\[[^\[\]]{0,120})*(?:\]\s*(?:,\s*)?)?)?\Z",
    ),
    "loc": re.compile(r"(?=<)(?:<loc\d{4}>){0,3}(?:<(?:l(?:o(?:c\d{0,4})?)?)?)?\Z"),
    "xml": re.compile(r"<(?:p(?:o(?:i(?:n(?:t(?:s?(?:\s[^<>]{0,4000})?)?)?)?)?)?)?\Z"),
}
"""The beginnings of what WHOLE matches, up to the end of the text. Texts come from anywhere: no beginning may be long
where others start inside of it, or a search takes the square of the length."""

_ROW = re.compile(r"\[[^\[\]]+\]")
_NUMBERS = re.compile(NUMBER)
_XML_NUMBERS = re.compile(rf'\b([xy])(\d*\s*=\s*")\s*({NUMBER})\s*(?=")')


@dataclass(frozen=True, slots=True)
class RowForm:
    """How the numbers of one box or point stand in a text. sizes: how many they may be, else nothing changes; only:
    nothing but commas may stand between them. digits: each has at least so many."""

    sizes: tuple[int, ...]
    pattern: re.Pattern[str] = _NUMBERS
    only: bool = False
    digits: int = 0


BOX, POINT, EITHER = RowForm((4,)), RowForm((2,)), RowForm((2, 4), only=True)
_LOC = RowForm((4,), re.compile(r"\d{4}"), digits=4)


class Convert(Protocol):
    def __call__(self, number: float, axis: int, *, is_point: bool) -> float:
        """axis: 0 for x, 1 for y. is_point: it is no edge of a box."""


@dataclass(frozen=True, slots=True)
class Rewriter:
    """How the numbers of coordinates change in the texts of a family."""

    form: Form
    convert: Convert

    def whole(self, text: str) -> str:
        """A text that is complete. In time that grows as its length."""
        return self.settled(text, is_complete=True)[0]

    def settled(self, text: str, *, is_complete: bool) -> tuple[str, int]:
        """What the text becomes as far as it is known, and how much of it that is: all of it where it is complete, else
        up to where coordinates may have begun."""
        whole = _Matches(text, self.form.notations, WHOLE)
        begun = _Matches(text, () if is_complete else self.form.notations, _BEGUN)
        at = 0
        out: list[str] = []
        while True:
            beginning, found = begun.first(at), whole.first(at)
            end = beginning[1].start() if beginning else len(text)
            if found is None or found[1].start() > end:
                return "".join(out) + text[at:end], end
            notation, match = found
            out += [text[at : match.start()], self.place(notation, match[0])]
            at = match.end()

    def number(self, written: str, axis: int, *, is_point: bool) -> str:
        """One number as it is written after the change: whole numbers without a point."""
        return f"{self.convert(float(written), axis, is_point=is_point):.10g}"

    def place(self, notation: Notation, found: str) -> str:
        """What one match of WHOLE becomes."""
        if notation == "xml":
            return _XML_NUMBERS.sub(
                lambda m: f"{m[1]}{m[2]}{self.number(m[3], 'xy'.index(m[1]), is_point=True)}", found
            )
        if notation in ("loc", "pairs"):
            return self.row(found, _LOC if notation == "loc" else BOX)
        if notation == "brackets":
            return _ROW.sub(lambda m: self.row(m[0], EITHER), found)
        start, kind = found.index(":"), POINT if found.startswith('"point') else BOX
        return found[:start] + _ROW.sub(lambda m: self.row(m[0], kind), found[start:])

    def row(self, text: str, row: RowForm, *, y_first: bool | None = None) -> str:
        """The numbers of one box or point. y_first: None as the family's form says."""
        numbers = row.pattern.findall(text)
        between = "," * (len(numbers) - 1)
        if len(numbers) not in row.sizes or (row.only and _without_space(row.pattern.sub("", text)) != between):
            return text
        first = int(self.form.y_first if y_first is None else y_first)
        axes = iter((i + first) % 2 for i in range(len(numbers)))
        is_point = len(numbers) == 2
        return row.pattern.sub(
            lambda m: self.number(m[0], next(axes), is_point=is_point).zfill(row.digits),
            text,
        )


def _without_space(text: str) -> str:
    return "".join(text.split()).strip("[]()")


class _Matches:
    """The first match from a place on that only goes forward. Each part of a text is searched once: what was found
    further on stays the first until the place is behind its start."""

    def __init__(self, text: str, notations: Sequence[Notation], patterns: Mapping[Notation, re.Pattern[str]]) -> None:
        self._text = text
        self._patterns = patterns
        self._next = {notation: match for notation in notations if (match := patterns[notation].search(text))}

    def first(self, at: int) -> tuple[Notation, re.Match[str]] | None:
        for notation in [notation for notation, match in self._next.items() if match.start() < at]:
            if match := self._patterns[notation].search(self._text, at):
                self._next[notation] = match
            else:
                del self._next[notation]
        return min(self._next.items(), key=lambda found: found[1].start(), default=None)


class GrowingText:
    """One text, piece by piece: `add` gives what is settled by a piece, `end` what was held back. gave_up: something
    was too long to be held back (MOST_HELD)."""

    def __init__(self, rewriter: Rewriter) -> None:
        self._rewriter = rewriter
        self._held = ""
        self.gave_up = False

    def add(self, text: str) -> str:
        text = self._held + text
        out, num_settled = self._rewriter.settled(text, is_complete=False)
        self._held = text[num_settled:]
        if len(self._held) > MOST_HELD:
            out, self._held, self.gave_up = out + self._held, "", True
        return out

    def end(self) -> str:
        held, self._held = self._held, ""
        return self._rewriter.whole(held)
