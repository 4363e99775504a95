"""JSON on one line, for server-sent events and for newline-delimited JSON."""

from __future__ import annotations

import json
from typing import Any

LINE_ENDS = {ord(character): f"\\u{ord(character):04x}" for character in "\u0085\u2028\u2029"}
"""Ends of lines in Unicode, and so for readers that split a stream as Python's str.splitlines does (httpx is one)."""


def one_line(value: Any) -> str:
    """A value as JSON without any character that some reader takes for the end of a line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(LINE_ENDS)
