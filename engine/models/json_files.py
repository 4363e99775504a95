"""JSON files that others wrote: read within limits, with the reason in one line where that fails. Any thread; pure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.errors import say_bytes

MAX_JSON_BYTES = 16 * 1024**2
"""The index of the largest checkpoints on the hub has some 10 MiB."""


def read_object(path: Path, max_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """The object that a file holds. Raises ValueError with the reason in one line, for any file and any content."""
    try:
        # First: opening a pipe would wait for whoever writes into it.
        if not path.is_file():
            raise ValueError(f"{path.name} is missing.")
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read: {error.strerror or error}.") from None
    if len(data) > max_bytes:
        raise ValueError(f"{path.name} is larger than {say_bytes(max_bytes)}.")
    return parse_object(data, path.name)


def read_optional(path: Path) -> dict[str, Any]:
    """The object that a file holds; {} where there is no such file. Raises ValueError as read_object."""
    return read_object(path) if path.exists() else {}


def parse_object(data: bytes, name: str) -> dict[str, Any]:
    """Bytes as a JSON object; `name` is said in the reason. Raises ValueError."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        raise ValueError(f"{name} is not JSON.") from None
    if not isinstance(value, dict):
        raise ValueError(f"{name} is not a JSON object.")
    return value


def part(config: dict[str, Any], name: str) -> dict[str, Any]:
    """The object under a name; {} where there is none."""
    value = config.get(name)
    return value if isinstance(value, dict) else {}


def whole(config: dict[str, Any], *names: str, most: int = 2**40) -> int:
    """The first of these fields that holds a whole number from 1 to `most`; 0 where none does."""
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most:
            return value
    return 0
