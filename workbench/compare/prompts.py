"""A set of prompts: read from a list or a CSV, and the table of what the columns answered. Pure.

CSV in    a column named prompt, or only one column
CSV out   prompt, vote, then for each column: its letter with answer, error and the numbers of `usage` and of its times

Both as engine.spreadsheet does: no cell is a formula.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from engine import spreadsheet
from engine.errors import BadRequest
from workbench.compare.columns import LETTERS
from workbench.language import t

MAX_PROMPTS = 500
MAX_CHARS = 2_000_000
FIGURES = ("prompt_tokens", "cached_tokens", "completion_tokens", "ttft_ms", "total_ms", "tokens_per_s")
CELLS = ("answer", "error", *FIGURES)


def read_list(text: str) -> list[str]:
    """A prompt a line. Raises BadRequest."""
    return _checked(text.splitlines())


def read_csv(text: str) -> list[str]:
    """The column named prompt, or the only one. Raises BadRequest."""
    if len(text) > MAX_CHARS:
        raise BadRequest(
            t("The file has {count} characters; at most {most} are read.", count=len(text), most=MAX_CHARS)
        )
    try:
        table = spreadsheet.read_csv(io.StringIO(text))
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise BadRequest(t("This is not a table that can be read: {reason}", reason=reason)) from error
    found = [name for name in table.columns if str(name).strip().lower() == "prompt"]
    if not found and len(table.columns) > 1:
        raise BadRequest(t("The table has no column named prompt."))
    return _checked(table[(found or list(table.columns))[0]].astype(str).tolist())


def _checked(lines: Sequence[str]) -> list[str]:
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise BadRequest(t("There is no prompt in it."))
    if len(prompts) > MAX_PROMPTS:
        raise BadRequest(t("There are {count} prompts; at most {most} are run.", count=len(prompts), most=MAX_PROMPTS))
    return prompts


def write_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """rows: {"prompt", "vote": letter or "", "results": one for each column (workbench.compare.comparison.result)}."""
    width = max((len(row["results"]) for row in rows), default=0)
    names = ["prompt", "vote", *(f"{letter}_{cell}" for letter in LETTERS[:width] for cell in CELLS)]
    return spreadsheet.write_csv(pd.DataFrame([_line(row) for row in rows], columns=names))


def _line(row: Mapping[str, Any]) -> dict[str, Any]:
    cells = {
        f"{letter}_{cell}": result.get(cell)
        for letter, result in zip(LETTERS, row["results"], strict=False)
        for cell in CELLS
    }
    return {"prompt": str(row["prompt"]), "vote": str(row.get("vote") or ""), **cells}
