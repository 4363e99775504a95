"""A result on disk: JSON (sealed) or Parquet with everything, CSV with a row for each answer, a card as PNG."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine import spreadsheet
from engine.errors import BadRequest
from engine.measure.bench import seal
from engine.measure.bench.result import FORMAT, Result
from engine.measure.bench.seal import sealed

PARQUET = ".parquet"
TEXTS = (".json", ".csv")
SUFFIXES = (*TEXTS, PARQUET)
CARD = ".png"
NOT_IN_CSV = ("itl_s", "seen", "logprobs")


def check(file: Path, option: str = "output") -> None:
    """Raises BadRequest for a name that nothing can be written to; called before anything is measured."""
    if file.suffix not in SUFFIXES:
        raise BadRequest(f"--{option} {file}: it must end in .json, .csv or .parquet.", param=option)
    if not file.resolve().parent.is_dir():
        raise BadRequest(f"--{option} {file}: there is no folder {str(file.parent)!r}.", param=option)


def write(result: Result, file: Path, option: str = "output") -> None:
    """Write a result in the format of the name's ending. Raises BadRequest when it cannot be written."""
    from engine.measure.bench import frames

    try:
        if file.suffix == PARQUET:
            frames.write_parquet(result.json(), file)
        else:
            file.write_text(text(result.json(), file.suffix), encoding="utf-8", newline="")
    except OSError as e:
        raise BadRequest(f"{file} cannot be written: {e.strerror}.", param=option) from e


def text(result: dict[str, Any], suffix: str) -> str:
    """The content of a result's file, from its JSON. suffix: one of TEXTS."""
    from engine.measure.bench import frames

    if suffix != ".csv":
        return json.dumps(sealed(result), indent=1)
    return spreadsheet.write_csv(frames.to_frame(result).drop(columns=[*NOT_IN_CSV], errors="ignore"))


def check_card(file: Path) -> None:
    """Raises BadRequest for a name that no card can be written to."""
    if file.suffix != CARD:
        raise BadRequest(f"--card {file}: it must end in {CARD}.", param="card")
    check(file.with_suffix(".json"), "card")


def write_card(result: Result, file: Path) -> None:
    """The card, and beside it the sealed JSON. Raises BadRequest when they cannot be written."""
    from engine.measure.bench.card import card

    write(result, file.with_suffix(".json"), "card")
    try:
        file.write_bytes(card(result.json()))
    except OSError as e:
        raise BadRequest(f"{file} cannot be written: {e.strerror}.", param="card") from e


def printable(value: Any) -> Any:
    """A JSON value without what would steer a terminal in any of its texts: a file may be anybody's."""
    if isinstance(value, str):
        return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in value)
    if isinstance(value, dict):
        return {printable(name): printable(inner) for name, inner in value.items()}
    return [printable(inner) for inner in value] if isinstance(value, list) else value


def read(file: Path) -> dict[str, Any]:
    """A result's JSON, of JSON or Parquet. Raises BadRequest when the file does not hold one that can be read, or its
    seal does not fit."""
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
    seal.check(result, str(file))
    return dict(printable(result))
