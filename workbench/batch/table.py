"""The rows of a run as the page is shown them: sorted, filtered, a page at a time. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic import BaseModel, Field

from engine.batch_run import row_warnings
from engine.batch_run.coco import has_boxes
from engine.batch_run.row_warnings import SameAnswers
from engine.batch_run.rows import BatchRow
from engine.types import Json
from workbench.language import catalogued, t

PAGE_SIZE = 100
SHOWN_CHARS = 300
"""Of an answer in the table; the whole is there when the row is opened."""

WARNINGS = {
    row_warnings.SAME_ANSWER: catalogued("the same long answer as for another picture"),
    row_warnings.NO_TOKENS: catalogued("the model saw nothing of a medium"),
    row_warnings.CUT_OFF: catalogued("the answer was cut off"),
    row_warnings.NOT_JSON: catalogued("the answer is not valid JSON"),
    row_warnings.SHRUNK: catalogued("a picture was shrunk below half its size"),
}
"""What the engine marks, in words of the page."""

LineState = Literal["waiting", "answered", "failed"]
RowFilter = Literal["all", "waiting", "answered", "failed", "warned", "edited"]
RowOrder = Literal["place", "name", "answer", "tokens", "ms", "latest"]


class RowView(BaseModel):
    """Which rows a page shows, and in which order. offset: of its first one. words: found in the name or the answer."""

    offset: int = Field(default=0, ge=0)
    order: RowOrder = "place"
    descending: bool = False
    only: RowFilter = "all"
    words: str = Field(default="", max_length=200)


@dataclass(slots=True)
class TableLine:
    """What the table has of one row. place: from 0. number: grows with each record, 0 without one. tokens: of the
    prompt, of these from the cache, of the answer."""

    place: int
    row: BatchRow
    state: LineState = "waiting"
    number: int = 0
    answer: str = ""
    error: str = ""
    own_warnings: tuple[str, ...] = ()
    valid: bool | None = None
    tokens: tuple[int, int, int] = (0, 0, 0)
    ms: float = 0.0
    picture: str = ""
    is_edited: bool = False
    has_boxes: bool = False


class RunTable:
    """The rows of a run and what is known of each. Grows with each record; one loop."""

    def __init__(self, rows: Sequence[BatchRow]) -> None:
        self.lines = [TableLine(place, row) for place, row in enumerate(rows)]
        self._by_key = {line.row.key: line for line in self.lines}
        self._same = SameAnswers()
        self._number = 0

    def note(self, record: Json) -> None:
        """A new record of a row; nothing where the row is gone, or is another one by now."""
        line = self._by_key.get(record["key"])
        if line is None or line.row.stamp != record.get("stamp"):
            return
        self._same.note(record)
        self._number += 1
        error = record.get("error")
        media = record.get("media") or ()
        tokens = tuple(int(record.get(f"{name}_tokens") or 0) for name in ("prompt", "cached", "completion"))
        self.lines[line.place] = self._by_key[line.row.key] = TableLine(
            line.place,
            line.row,
            state="answered" if error is None else "failed",
            number=self._number,
            answer=str(record.get("answer") or "")[:SHOWN_CHARS],
            error=str(error["message"]) if error else "",
            own_warnings=tuple(row_warnings.warnings_of(record)),
            valid=record.get("valid"),
            tokens=(tokens[0], tokens[1], tokens[2]),
            ms=float(record.get("ms") or 0),
            picture=str(media[0]["sha256"]) if media and media[0]["kind"] != "audio" else "",
            is_edited=bool(record.get("edited")),
            has_boxes=has_boxes(record),
        )

    def line(self, place: int) -> TableLine | None:
        return self.lines[place] if 0 <= place < len(self.lines) else None

    def counts(self) -> dict[str, int]:
        """How many rows each filter lets through, and all."""
        states = Counter(line.state for line in self.lines)
        warned = sum(map(self._lets_through("warned"), self.lines))
        edited = sum(line.is_edited for line in self.lines)
        known: tuple[LineState, ...] = get_args(LineState)
        return {"all": len(self.lines), **{state: states[state] for state in known}, "warned": warned, "edited": edited}

    def has_boxes(self) -> bool:
        """Whether there is anything for COCO."""
        return any(line.has_boxes for line in self.lines)

    def rows_in(self, state: LineState) -> list[BatchRow]:
        return [line.row for line in self.lines if line.state == state]

    def page(self, view: RowView) -> Json:
        """{"rows": at most PAGE_SIZE, "total": how many there are with this filter, "offset": of the first}."""
        found = [line for line in self.lines if self._lets_through(view.only)(line)]
        if words := view.words.strip().casefold():
            found = [line for line in found if words in f"{line.row.key}\n{line.answer}\n{line.error}".casefold()]
        if view.order != "place" or view.descending:
            found.sort(key=_ORDERS[view.order], reverse=view.descending)
        offset = view.offset if view.offset < len(found) else max(0, len(found) - 1) // PAGE_SIZE * PAGE_SIZE
        shown = [self.line_json(line) for line in found[offset : offset + PAGE_SIZE]]
        return {"rows": shown, "total": len(found), "offset": offset}

    def line_json(self, line: TableLine) -> Json:
        """A row as the page draws it."""
        prompt, cached, written = line.tokens
        return {
            "place": line.place,
            "name": line.row.key,
            "kind": line.row.part.kind if line.row.part else "",
            "state": line.state,
            "number": line.number,
            "answer": line.answer,
            "error": line.error,
            "warnings": [t(WARNINGS[one]) for one in self._warnings(line)],
            "valid": line.valid,
            "prompt": prompt,
            "cached": cached,
            "written": written,
            "ms": line.ms,
            "picture": line.picture,
            "edited": line.is_edited,
        }

    def _warnings(self, line: TableLine) -> Sequence[str]:
        has = self._same.has(line.row.key)
        return (row_warnings.SAME_ANSWER, *line.own_warnings) if has else line.own_warnings

    def _lets_through(self, only: RowFilter) -> Callable[[TableLine], bool]:
        if only == "warned":
            return lambda line: bool(line.own_warnings) or self._same.has(line.row.key)
        if only == "edited":
            return lambda line: line.is_edited
        return lambda line: only in ("all", line.state)


_ORDERS: dict[RowOrder, Callable[[TableLine], Any]] = {
    "place": lambda line: line.place,
    "name": lambda line: (line.row.key.casefold(), line.place),
    "answer": lambda line: (line.answer.casefold(), line.place),
    "tokens": lambda line: (line.tokens[0] + line.tokens[2], line.place),
    "ms": lambda line: (line.ms, line.place),
    "latest": lambda line: (line.number, line.place),
}
