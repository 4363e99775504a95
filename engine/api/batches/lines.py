"""The lines of a batch's file: checked all at once, read one by one. Blocks; called in a thread or for one line."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.types import Json

MAX_ERRORS = 100
MAX_ID_CHARS = 512


@dataclass(frozen=True, slots=True)
class BatchLine:
    """One request: where it stands in the file, in bytes. model: who answers. prefix: the same for requests that begin
    alike, as far as that is told without a tokenizer."""

    custom_id: str
    start: int
    size: int
    model: str
    prefix: str


@dataclass(frozen=True, slots=True)
class CheckedLines:
    """errors: as a batch object lists them; lines are to be asked where there are none."""

    lines: tuple[BatchLine, ...]
    errors: tuple[Json, ...]


def check_lines(path: Path, endpoint: str, most: int) -> CheckedLines:
    """Read all lines of a file. most: of lines."""
    lines: list[BatchLine] = []
    errors: list[Json] = []
    seen: set[str] = set()
    with path.open("rb") as file:
        start = 0
        for number, raw in enumerate(file, 1):
            size, at = len(raw), start
            start += size
            if not raw.strip():
                continue
            if len(lines) >= most:
                errors.append(_error("too_many_requests", f"There are more than {most:,} requests.", None, number))
                break
            wrong = _check_line(raw, endpoint, seen)
            if isinstance(wrong, dict):
                errors.append({**wrong, "line": number})
                if len(errors) == MAX_ERRORS:
                    break
            else:
                custom_id, body = wrong
                seen.add(custom_id)
                lines.append(BatchLine(custom_id, at, size, str(body.get("model") or ""), _prefix(body)))
    if not lines and not errors:
        errors.append(_error("empty_file", "The file has no request.", None, None))
    return CheckedLines(tuple(lines), tuple(errors))


def read_body(file_descriptor: int, line: BatchLine) -> Json:
    """The body of a request that was checked."""
    body: Json = json.loads(os.pread(file_descriptor, line.size, line.start))["body"]
    return body


def _check_line(raw: bytes, endpoint: str, seen: set[str]) -> Json | tuple[str, Json]:
    """custom_id and body of a line, or what is wrong with it."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        return _error("invalid_json_line", f"The line is not valid JSON: {error}.", None, None)
    if not isinstance(value, dict):
        return _error("invalid_json_line", "The line must be a JSON object.", None, None)
    custom_id, body = value.get("custom_id"), value.get("body")
    is_id = isinstance(custom_id, str) and 1 <= len(custom_id) <= MAX_ID_CHARS
    rules = (
        (is_id, "custom_id", "missing_required_parameter", f"it must be a text of 1 to {MAX_ID_CHARS} characters"),
        (not is_id or custom_id not in seen, "custom_id", "duplicate_custom_id", f"{custom_id!r:.100} is there twice"),
        (value.get("method") == "POST", "method", "invalid_method", "it must be POST"),
        (value.get("url") == endpoint, "url", "mismatched_endpoint", f"it must be the batch's endpoint, {endpoint}"),
        (isinstance(body, dict), "body", "missing_required_parameter", "it must be an object"),
    )
    broken = next((rule for rule in rules if not rule[0]), None)
    if broken is not None or not isinstance(custom_id, str) or not isinstance(body, dict):
        assert broken is not None
        return _error(broken[2], f"{broken[1]}: {broken[3]}.", broken[1], None)
    return custom_id, body


def _error(code: str, message: str, param: str | None, line: int | None) -> Json:
    return {"code": code, "message": message, "param": param, "line": line}


def _prefix(body: Json) -> str:
    """Of a request's first message, or the first part of it: instructions and pictures stand there."""
    first = next(_beginnings(body), None)
    if first is None:
        return ""
    return hashlib.sha256(json.dumps(first, sort_keys=True).encode("utf-8", "replace")).hexdigest()


def _beginnings(body: Json) -> Iterator[Any]:
    """What is likely to be shared with other requests, the first of it first."""
    if body.get("instructions"):
        yield body["instructions"]
    for name in ("messages", "input"):
        given = body.get(name)
        if isinstance(given, list) and given:
            content = given[0].get("content") if isinstance(given[0], dict) else None
            yield content[0] if isinstance(content, list) and content else given[0]
