"""A run as a pandas data frame, a row for each answer, and as Parquet with all else of the run beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import BadRequest
from engine.measure.bench.samples import Sample

RUN_KEY = b"vllm-mlx-bench"
"""Of the file's own metadata: the run's JSON, in which a point's rounds are only counted."""

NAMES = tuple(field.name for field in fields(Sample))
AS_JSON = ("seen", "logprobs")
"""Columns of nested values, which a frame has as JSON."""

WHOLE = (
    *("round", "prompt_tokens", "completion_tokens", "cached_tokens", "accepted_tokens", "num_media", "feature_hits"),
    "others",
)
TYPES = {
    **dict.fromkeys((*WHOLE, "process_bytes"), "Int64"),
    **dict.fromkeys(("right", "canary"), "boolean"),
    **dict.fromkeys(("cpu_s", "expected_s", "tpot_s"), "float64"),
}


def to_frame(run: dict[str, Any]) -> pd.DataFrame:
    """Of a run's JSON: the fields of Sample, with case, round, labels and canary. What is not known is missing."""
    frame = pd.DataFrame(list(_rows(run)))
    return frame.astype({name: kind for name, kind in TYPES.items() if name in frame.columns})


def _rows(run: dict[str, Any]) -> Iterator[dict[str, Any]]:
    labels = dict.fromkeys(label for point in run["points"] for label in point["labels"])
    for point in run["points"]:
        for number, answers in enumerate(point["rounds"]):
            for answer in answers:
                sample = Sample(**answer)
                row = {"suite": point["suite"], "case": point["case"], "round": number}
                row |= {label: point["labels"].get(label) for label in labels}
                row |= {name: getattr(sample, name) for name in NAMES}
                row |= {name: json.dumps(row[name]) for name in AS_JSON}
                yield row | {"tpot_s": sample.tpot_s, "canary": point["canary"]["ok"], "noisy": bool(point["noise"])}


def write_parquet(run: dict[str, Any], file: Path) -> None:
    """A run's JSON as a Parquet file. Raises OSError."""
    points = [{**point, "rounds": len(point["rounds"])} for point in run["points"]]
    table = pa.Table.from_pandas(to_frame(run), preserve_index=False)
    told = {**(table.schema.metadata or {}), RUN_KEY: json.dumps({**run, "points": points}).encode()}
    pq.write_table(table.replace_schema_metadata(told), file)


def read_parquet(file: Path) -> dict[str, Any]:
    """The run's JSON again. Raises OSError, and BadRequest for a file that holds no run."""
    try:
        table = pq.read_table(file)
        run: dict[str, Any] = json.loads((table.schema.metadata or {})[RUN_KEY])
    except (pa.ArrowInvalid, KeyError) as e:
        raise BadRequest(f"{file} is not Parquet that vllm-mlx-bench wrote.", param="compare") from e
    points = {(point["target"], point["suite"], point["case"]): point for point in run["points"]}
    for point in points.values():
        point["rounds"] = [[] for _ in range(point["rounds"])]
    for row in table.to_pylist():
        row |= {name: json.loads(row[name]) for name in AS_JSON}
        point = points[row["target"], row["suite"], row["case"]]
        point["rounds"][row["round"]].append({name: row[name] for name in NAMES if name in row})
    return run
