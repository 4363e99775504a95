"""Numbers in another server's answers. Pure; they raise TypeError, ValueError or OverflowError for what is none."""

from __future__ import annotations

import math
from typing import Any, TypeGuard

MAX_COUNT = 2**53 - 1
"""The largest whole number that every program reads exactly (https://www.rfc-editor.org/rfc/rfc8259#section-6)."""


def is_count(value: Any) -> TypeGuard[int]:
    """Whether it is a whole number from 0 to MAX_COUNT; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT


def count(value: Any) -> int:
    """Of tokens, bytes, pixels."""
    if not is_count(value):
        raise ValueError(value)
    return value


def finite(value: Any) -> float:
    """A real number, not one that is written as a text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(value)
    if not math.isfinite(number := float(value)):
        raise ValueError(value)
    return number
