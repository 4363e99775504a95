"""A result on disk: JSON with everything, CSV with a row for each answer."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from engine.errors import BadRequest
from engine.measure.bench.compare import samples_of
from engine.measure.bench.result import Result
from engine.measure.bench.samples import Sample

SUFFIXES = (".json", ".csv")
NOT_IN_CSV = ("itl_s", "seen", "logprobs")


def check(file: Path) -> None:
    """Raises BadRequest for a name that nothing can be written to; called before anything is measured."""
    if file.suffix not in SUFFIXES:
        raise BadRequest(f"--output {file}: it must end in .json or .csv.", param="output")
    if not file.resolve().parent.is_dir():
        raise BadRequest(f"--output {file}: there is no folder {str(file.parent)!r}.", param="output")


def write(result: Result, file: Path) -> None:
    """Write a result in the format of the name's ending. Raises BadRequest when it cannot be written."""
    try:
        file.write_text(text(result.json(), file.suffix), encoding="utf-8", newline="")
    except OSError as e:
        raise BadRequest(f"{file} cannot be written: {e.strerror}.", param="output") from e


def text(result: dict[str, Any], suffix: str) -> str:
    """The content of a result's file, from its JSON. suffix: one of SUFFIXES."""
    if suffix != ".csv":
        return json.dumps(result, indent=1)
    out, rows = io.StringIO(), csv_rows(result)
    writer = csv.DictWriter(out, fieldnames=list(rows[0]) if rows else ["suite"])
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def csv_rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each answer: the fields of Sample, with its case's labels and canary."""
    names = [field.name for field in fields(Sample) if field.name not in NOT_IN_CSV]
    labels = dict.fromkeys(label for point in result["points"] for label in point["labels"])
    rows = []
    for point in result["points"]:
        for number, samples in enumerate(samples_of(point)):
            for sample in samples:
                row: dict[str, Any] = {"suite": point["suite"], "case": point["case"], "round": number}
                row |= {label: point["labels"].get(label, "") for label in labels}
                row |= {name: getattr(sample, name) for name in names}
                row |= {"tpot_s": sample.tpot_s, "canary": point["canary"]["ok"], "noisy": bool(point["noise"])}
                rows.append(row)
    return rows


def read(file: Path) -> dict[str, Any]:
    """A result's JSON. Raises BadRequest when the file does not hold one."""
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except OSError as e:
        raise BadRequest(f"{file} cannot be read: {e.strerror}.", param="compare") from e
    except ValueError as e:
        raise BadRequest(f"{file} is not JSON.", param="compare") from e
    if not isinstance(result, dict) or "points" not in result:
        raise BadRequest(f"{file} is not a result of vllm-mlx-bench.", param="compare")
    return result
