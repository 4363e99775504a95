"""Requests as a table: a pandas data frame of the numbers of GET /v1/requests, and CSV of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

import pandas as pd

from engine import spreadsheet
from engine.types import Json, StageName

COLUMNS = (
    "created", "id", "source", "dialect", "model", "key", "status", "error", "finish_reason", "num_media", "num_texts",
    "prompt_tokens", "cached_tokens", "completion_tokens", "ttft_ms", "total_ms",
)  # fmt: skip
STAGES: tuple[StageName, ...] = get_args(StageName)
"""Each has a column: the milliseconds that a request was in it."""


def frame(summaries: Iterable[Json]) -> pd.DataFrame:
    """A row for each request, in their order; `created` as a time in UTC. Tokens that are not known are missing."""
    rows = [{name: summary[name] for name in COLUMNS} | _stage_columns(summary) for summary in summaries]
    table = pd.DataFrame(rows, columns=[*COLUMNS, *(f"{stage}_ms" for stage in STAGES)])
    table["created"] = pd.to_datetime(table["created"].astype(float), unit="s", utc=True)
    whole = ["num_media", "num_texts", "prompt_tokens", "cached_tokens", "completion_tokens"]
    table[whole] = table[whole].astype("Int64")
    return table


def csv(summaries: Iterable[Json]) -> str:
    """The same as text for a spreadsheet, which takes no cell for a formula."""
    return spreadsheet.write_csv(frame(summaries), date_format="%Y-%m-%dT%H:%M:%S.%fZ")


def _stage_columns(summary: Json) -> Json:
    sums: dict[str, float] = dict.fromkeys((f"{stage}_ms" for stage in STAGES), 0.0)
    for span in summary["stages"]:
        sums[f"{span['stage']}_ms"] += span["ms"]
    return {name: round(ms, 3) for name, ms in sums.items()}
