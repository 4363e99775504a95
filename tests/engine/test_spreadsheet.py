"""engine.spreadsheet: a spreadsheet finds no formula in what is written, and our own reader finds the first text."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pandas as pd
import pytest

from engine.spreadsheet import read_csv, write_csv

TEXTS = [
    *("=1+1", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''-x", "'", "it's", "", 'a,"b"\n=1', "a\r=2", "="),
    *("NA", "-5", "+3.5e-2", "- a list", "'-5"),
]
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def cells(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def test_no_cell_is_a_formula_and_numbers_stay_numbers() -> None:
    table = pd.DataFrame({"=name": TEXTS, "n": [-1.5] * len(TEXTS)})
    (head, *rows) = cells(write_csv(table))
    assert head == ["'=name", "n"]
    assert len(rows) == len(TEXTS) and all(len(row) == 2 for row in rows)
    beginning = {cell for row in rows for cell in row if cell.startswith(FORMULA)}
    assert beginning == {"-1.5", "-5", "+3.5e-2"}
    assert list(table.columns) == ["=name", "n"] and list(table["=name"]) == TEXTS, "the table itself is as it was"


def test_sabotage_without_the_guard_a_spreadsheet_would_compute() -> None:
    plain = pd.DataFrame({"a": TEXTS}).to_csv(index=False)
    assert any(row and row[0].startswith("=") for row in cells(plain))


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    table = pd.DataFrame({"=name": TEXTS, "other": TEXTS[::-1]})
    assert write_csv(table, tmp_path / "a.csv") == ""
    for source in (tmp_path / "a.csv", io.StringIO(write_csv(table), newline="")):
        back = read_csv(source)
        assert list(back.columns) == ["=name", "other"]
        assert back["=name"].tolist() == TEXTS and back["other"].tolist() == TEXTS[::-1]


@pytest.mark.parametrize("dtype", ["object", "string"])
def test_missing_cells_and_kinds_of_columns(dtype: str) -> None:
    table = pd.DataFrame({"a": pd.Series(["=x", None], dtype=dtype), "t": pd.to_datetime(["2026-01-01", None])})
    table["n"] = pd.Series([-1, None], dtype="Int64")
    table["b"] = pd.Series([True, None], dtype="boolean")
    assert cells(write_csv(table)) == [["a", "t", "n", "b"], ["'=x", "2026-01-01", "-1", "True"], ["", "", "", ""]]
