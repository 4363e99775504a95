"""Halves of surrogate pairs, which JSON allows in a text and UTF-8 does not. Pure.

https://www.rfc-editor.org/rfc/rfc8259#section-8.2
"""

from __future__ import annotations

import re
from typing import Any

HALF = re.compile("[\ud800-\udfff]")
MAX_DEPTH = 64
"""Levels of a JSON value that are looked at."""


def well_formed(value: Any, *, names: bool = False, depth: int = 0) -> Any:
    """A JSON value with U+FFFD for each half of a pair in its texts, as in what was cut in the middle of an emoji.
    names: in the names of its fields, too. What is too deep stays as it is."""
    if isinstance(value, str):  # a chat of screenshots has megabytes of base64, which is ASCII
        return value if value.isascii() else HALF.sub("\ufffd", value)
    if depth > MAX_DEPTH:
        return value
    if isinstance(value, list):
        return [well_formed(inner, names=names, depth=depth + 1) for inner in value]
    if not isinstance(value, dict):
        return value
    found = {name: well_formed(inner, names=names, depth=depth + 1) for name, inner in value.items()}
    return {well_formed(name): inner for name, inner in found.items()} if names else found
