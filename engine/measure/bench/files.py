"""A result on disk: JSON or Parquet with everything, CSV with a row for each answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine import spreadsheet
from engine.errors import BadRequest
from engine.measure.bench.result import FORMAT, Result

PARQUET = ".parquet"
TEXTS = (".json", ".csv")
SUFFIXES = (*TEXTS, PARQUET)
NOT_IN_CSV = ("itl_s", "seen", "logprobs")


def check(file: Path) -> None:
    """Raises BadRequest for a name that nothing can be written to; called before anything is measured."""
    if file.suffix not in SUFFIXES:
        raise BadRequest(f"--output {file}: it must end in .json, .csv or .parquet.", param="output")
    if not file.resolve().parent.is_dir():
        raise BadRequest(f"--output {file}: there is no folder {str(file.parent)!r}.", param="output")


def write(result: Result, file: Path) -> None:
    """Write a result in the format of the name's ending. Raises BadRequest when it cannot be written."""
    from engine.measure.bench import frames

    try:
        if file.suffix == PARQUET:
            frames.write_parquet(result.json(), file)
        else:
            file.write_text(text(result.json(), file.suffix), encoding="utf-8", newline="")
    except OSError as e:
        raise BadRequest(f"{file} cannot be written: {e.strerror}.", param="output") from e


def text(result: dict[str, Any], suffix: str) -> str:
    """The content of a result's file, from its JSON. suffix: one of TEXTS."""
    from engine.measure.bench import frames

    if suffix != ".csv":
        return json.dumps(result, indent=1)
    return spreadsheet.write_csv(frames.to_frame(result).drop(columns=[*NOT_IN_CSV], errors="ignore"))


def read(file: Path) -> dict[str, Any]:
    """A result's JSON, of JSON or Parquet. Raises BadRequest when the file does not hold one that can be read."""
    from engine.measure.bench import frames

    try:
        result = frames.read_parquet(file) if file.suffix == PARQUET else json.loads(file.read_text(encoding="utf-8"))
    except OSError as e:
        raise BadRequest(f"{file} cannot be read: {e.strerror}.", param="compare") from e
    except ValueError as e:
        raise BadRequest(f"{file} is not JSON.", param="compare") from e
    if not isinstance(result, dict) or "points" not in result:
        raise BadRequest(f"{file} is not a result of vllm-mlx-bench.", param="compare")
    if result.get("format", FORMAT) != FORMAT:
        raise BadRequest(
            f"{file} has the format {result['format']}; this version reads format {FORMAT}. Compare it by the version "
            "of vllm-mlx-bench that wrote it.",
            param="compare",
        )
    return result
