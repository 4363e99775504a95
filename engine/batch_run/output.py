"""Records -> the file that was asked for, and captions beside the pictures. Blocks while it writes.

JSONL     a line for each row, with everything that is known of it
CSV       a line for each row; properties of a JSON answer and questions have columns of their own
Parquet   the same table, with types
COCO      the boxes of the answers (engine.batch_run.coco)
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
import pyarrow.parquet

from engine import spreadsheet
from engine.batch_run.coco import COCO, coco
from engine.batch_run.journal import Journal
from engine.batch_run.row_warnings import SameAnswers, all_warnings
from engine.batch_run.rows import BatchRow
from engine.errors import BadRequest, Conflict
from engine.types import Json

SUFFIXES = (".jsonl", ".csv", ".parquet", COCO)
NUMBERS = ("prompt_tokens", "cached_tokens", "completion_tokens", "media_tokens", "ms")


def check_output(path: Path) -> None:
    """Raise BadRequest for a file that could not be written, before anything is asked. Leaves nothing behind."""
    if not path.name.lower().endswith(SUFFIXES):
        raise BadRequest(f"--output: {path} must end in {', '.join(SUFFIXES)}.", param="output")
    if path.is_dir():
        raise BadRequest(f"--output: {path} is a folder.", param="output")
    part = _part(path)
    try:
        part.touch()
        part.unlink()
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(13, "it may not be changed")
    except OSError as error:
        raise BadRequest(f"--output: {path} cannot be written: {error.strerror or error}.", param="output") from error


def whole_records(rows: Sequence[BatchRow], journal: Journal) -> Iterator[Json]:
    """The record of each row that has one, in the order of the rows, with what it is about and its warnings."""
    answered = [row for row in rows if (entry := journal.entries.get(row.key)) and entry.stamp == row.stamp]
    same = SameAnswers()
    for row in answered:
        if record := journal.record(row.key):
            same.note(record)
    for row in answered:
        if record := journal.record(row.key):
            head = {"key": row.key, "file": row.name, "path": row.path, "page": row.page, "columns": row.columns}
            rest = {name: value for name, value in record.items() if name not in ("stamp", "described")}
            yield {**head, **rest, "error": record.get("error"), "warnings": all_warnings(record, same)}


def write_output(path: Path, records: Sequence[Json]) -> None:
    """Write the file whole, or leave the earlier one. Raises BadRequest where that fails."""
    part = _part(path)
    try:
        if path.suffix.lower() == ".jsonl":
            with part.open("w", encoding="utf-8", errors="replace") as file:
                file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        elif path.name.lower().endswith(COCO):
            part.write_text(json.dumps(coco(records), ensure_ascii=False, indent=1), "utf-8", errors="replace")
        elif path.suffix.lower() == ".csv":
            spreadsheet.write_csv(table(records), part, errors="replace")
        else:
            pyarrow.parquet.write_table(pyarrow.Table.from_pandas(table(records), preserve_index=False), part)
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise BadRequest(f"--output: {path} cannot be written: {error.strerror or error}.", param="output") from error


def table(records: Sequence[Json]) -> pd.DataFrame:
    """A row for each record. A column of a given table that has one of our names is called "row.NAME"."""
    frame = pd.DataFrame([_cells(record) for record in records])
    for name in frame.columns:
        if name in NUMBERS or name == "page":
            frame[name] = frame[name].astype("Float64" if name == "ms" else "Int64")
        elif name == "edited":
            frame[name] = frame[name].astype("boolean")
    return frame


def _cells(record: Json) -> Json:
    own: Json = {"key": record["key"], "file": record["file"], "page": record["page"]}
    after: Json = {"answer": record.get("answer")}
    if record.get("edited"):
        after |= {"edited": True, "model_answer": record["model_answer"]}
    value = record.get("value")
    after |= {f"answer.{name}": _cell(one) for name, one in value.items()} if isinstance(value, dict) else {}
    for one in record.get("decisions", []):
        after |= {one["question"]: one["answer"], f"{one['question']} (confidence)": one["confidence"]}
    media = record.get("media")
    error = record["error"]
    after |= {
        "valid": record.get("valid"),
        "finish_reason": record.get("finish_reason"),
        "warnings": "; ".join(record["warnings"]),
        "error": error["message"] if error else None,
        "media_tokens": None if media is None else sum(one["tokens"] for one in media),
        **{name: record.get(name) for name in NUMBERS if name != "media_tokens"},
    }
    taken = {*own, *after}
    given = {f"row.{name}" if name in taken else name: text for name, text in record["columns"].items()}
    return {**own, **given, **after}


def _cell(value: Any) -> str | None:
    """One type for a column, whatever its rows hold."""
    return value if isinstance(value, str) or value is None else json.dumps(value, ensure_ascii=False)


def caption_path(row: BatchRow) -> Path | None:
    """Where trainers look for a picture's caption: NAME.txt beside it. None for pages and for rows without a file."""
    if row.part is None or row.part.path is None or row.part.kind == "document":
        return None
    return Path(row.part.path).with_suffix(".txt")


def check_captions(rows: Sequence[BatchRow], journal: Journal, *, overwrite: bool) -> None:
    """Raise before anything is asked: BadRequest where two rows have one caption, or a folder cannot be written, and
    Conflict where a caption is there that this run did not write."""
    owners: dict[Path, str] = {}
    for row in rows:
        path = caption_path(row)
        if path is None:
            continue
        if path in owners:
            why = f"{owners[path]} and {row.key} would have one caption, {path.name}"
            raise BadRequest(f"--captions: {why}.", param="captions")
        owners[path] = row.key
        if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
            raise BadRequest(f"--captions: {path} cannot be written.", param="captions")
        if not overwrite and path.exists() and not _is_ours(path, row, journal):
            why = "is there already, and this run did not write it; --overwrite-captions replaces such files"
            raise Conflict(f"--captions: {path} {why}.", code="caption_exists", param="captions")
    if not owners:
        raise BadRequest("--captions: no row has a file of its own that a caption could lie beside.", param="captions")


def _is_ours(path: Path, row: BatchRow, journal: Journal) -> bool:
    record = journal.record(row.key)
    try:
        return record is not None and path.read_text("utf-8") == _caption(record)
    except (OSError, ValueError):
        return False


def write_captions(rows: Sequence[BatchRow], journal: Journal) -> int:
    """Write the answers beside their pictures; returns how many. Raises BadRequest where that fails."""
    num = 0
    for row in rows:
        path = caption_path(row)
        if path is None or not journal.has_answer(row.key, row.stamp):
            continue
        record = journal.record(row.key)
        assert record is not None
        try:
            part = _part(path)
            part.write_text(_caption(record), "utf-8", errors="replace")
            os.replace(part, path)
        except OSError as error:
            raise BadRequest(f"--captions: {path} cannot be written: {error.strerror or error}.") from error
        num += 1
    return num


def _caption(record: Json) -> str:
    return f"{str(record.get('answer', '')).strip()}\n"


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")
