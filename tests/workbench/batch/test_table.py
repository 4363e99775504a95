"""The rows of a run as the page is shown them."""

from __future__ import annotations

from typing import Any

from engine.batch_run import row_warnings
from engine.batch_run.rows import BatchRow
from engine.types import Part
from workbench.batch.row import row_json
from workbench.batch.table import PAGE_SIZE, WARNINGS, RowView, RunTable
from workbench.language import speaking

LONG = "The picture shows a quiet street in the evening, with people who walk their dogs."


def rows(count: int) -> list[BatchRow]:
    return [BatchRow(f"{i:04}.png", f"{i:04}.png", Part("image", path=f"{i}.png"), stamp="s") for i in range(count)]


def record(place: int, answer: str = "red", **more: Any) -> dict[str, Any]:
    features = {"hits": 0, "misses": 1}
    receipt = {"kind": "image", "sha256": f"{place:064}", "decoded": [96, 80], "seen": [96, 80], "tokens": 12}
    plain = {"key": f"{place:04}.png", "stamp": "s", "answer": answer, "finish_reason": "stop", "medium": "image"}
    cost = {"prompt_tokens": 20 + place, "cached_tokens": 4, "completion_tokens": 5, "ms": 100.0 - place}
    media = [{**receipt, "frames": 0, "features": features, "notes": []}]
    return {**plain, **cost, "media": media, "described": False, **more}


def shown(table: RunTable, **view: Any) -> list[int]:
    return [row["place"] for row in table.page(RowView(**view))["rows"]]


def test_every_warning_of_the_engine_has_words() -> None:
    marks = {value for name, value in vars(row_warnings).items() if name.isupper() and isinstance(value, str)}
    assert marks == set(WARNINGS)


def test_a_page_of_many_rows() -> None:
    table = RunTable(rows(5000))
    page = table.page(RowView(offset=4950))
    assert (page["total"], page["offset"], len(page["rows"])) == (5000, 4950, 50)
    assert len(shown(table)) == PAGE_SIZE
    beyond = table.page(RowView(offset=10_000))
    assert beyond["offset"] == 4900 and len(beyond["rows"]) == 100, "the last page, where there are fewer by now"


def test_filters_and_their_counts() -> None:
    table = RunTable(rows(8))
    table.note(record(0))
    table.note(record(1, finish_reason="length"))
    table.note({"key": "0002.png", "stamp": "s", "error": {"message": "the file is empty"}})
    table.note(record(3, LONG))
    table.note(record(4, LONG))
    table.note(record(5, "blue", edited=True, model_answer="red"))
    table.note(record(6) | {"stamp": "another"})
    table.note(record(99))
    counts = {"all": 8, "waiting": 2, "answered": 5, "failed": 1, "warned": 3, "edited": 1}
    assert table.counts() == counts
    assert {only: len(shown(table, only=only)) for only in counts} == counts
    assert shown(table, only="warned") == [1, 3, 4]
    assert (
        shown(table, words="BLUE") == [5] and shown(table, words="0002") == [2] and shown(table, words="empty") == [2]
    )
    table.note(record(4, "green"))
    assert shown(table, only="warned") == [1], "the other one's answer is its own again"


def test_orders() -> None:
    table = RunTable(rows(4))
    for place, answer in ((2, "b"), (0, "c"), (1, "A")):
        table.note(record(place, answer))
    assert shown(table, order="latest", descending=True) == [1, 0, 2, 3]
    assert shown(table, order="answer") == [3, 1, 2, 0]
    assert shown(table, order="ms") == [3, 2, 1, 0]
    assert shown(table, order="tokens", descending=True) == [2, 1, 0, 3]
    assert shown(table, descending=True) == [3, 2, 1, 0]


def test_a_row_in_the_words_of_its_reader() -> None:
    table = RunTable(rows(2))
    table.note(record(0, finish_reason="length"))
    assert table.page(RowView())["rows"][0]["warnings"] == ["the answer was cut off"]
    with speaking("de"):
        assert table.page(RowView())["rows"][0]["warnings"] == ["die Antwort wurde abgeschnitten"]
    line = table.line(0)
    assert line is not None and table.line(2) is None and table.line(-1) is None
    opened = row_json(line, table.line_json(line), record(0))
    assert opened["media"] == [{"line": "picture 96 × 80 → 96 × 80 seen · 12 tokens · encoded", "sha256": f"{0:064}"}]
    assert opened["cost"] == "20 tokens read, 4 of them from the cache · 5 tokens written · 100 ms"
    waiting = table.lines[1]
    assert row_json(waiting, table.line_json(waiting), None)["cost"] == ""
