"""The table of requests: the numbers of the API, in a data frame and as CSV that no spreadsheet executes."""

from __future__ import annotations

import io
from typing import Any

import pandas as pd
import pytest

from engine.config import LogLimits, MediaLimits
from engine.request_log.form import summary_json
from engine.request_log.log import RequestLog
from engine.types import Done, Request, StageClock, Timing, Usage
from workbench.requests.table import STAGES, csv, frame


def summary(model: str = "m", **more: Any) -> dict[str, Any]:
    log = RequestLog(LogLimits(), MediaLimits())
    clock = StageClock(accepted_s=10.0)
    clock.enter("queue", 10.5)
    clock.enter("decode", 11.5)
    with log.open(Request(id="r", model=model), clock) as record:
        record.add(Done("stop", Usage(7, 3, 2), Timing(total_ms=3000.0)))
    return {**summary_json(log, record), **more}


def test_the_numbers_are_those_of_the_api() -> None:
    one = summary()
    row = frame([one]).iloc[0]
    assert {name: row[name] for name in ("id", "model", "status", "ttft_ms", "total_ms", "prompt_tokens")} == {
        "id": "r", "model": "m", "status": "finished", "ttft_ms": 1500.0, "total_ms": 3000.0, "prompt_tokens": 7,
    }  # fmt: skip
    assert row["created"].timestamp() == pytest.approx(one["created"], abs=1e-4)
    assert (row["model_ms"], row["queue_ms"], row["decode_ms"]) == (500.0, 1000.0, 1500.0)
    assert sum(row[f"{stage}_ms"] for stage in STAGES) == row["total_ms"]


def test_what_is_not_known_is_missing_and_not_nought() -> None:
    table = frame([summary(prompt_tokens=None), summary()])
    assert table["prompt_tokens"].isna().tolist() == [True, False]


def test_csv_reads_back_and_holds_no_formula() -> None:
    text = csv([summary("=HYPERLINK(1)"), summary()])
    table = pd.read_csv(io.StringIO(text))
    assert table["model"].tolist() == ["'=HYPERLINK(1)", "m"]
    assert table["total_ms"].tolist() == [3000.0, 3000.0]


def test_an_empty_table_has_its_columns() -> None:
    assert list(frame([]).columns)[:2] == ["created", "id"] and len(csv([]).splitlines()) == 1
