"""The prompt as the model reads it: token ids, where each medium lies in them, and cache ids. Pure Python."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from engine.types import MediaReceipt

MEDIUM = "▣"
"""Stands for a picture's or a clip's tokens where a prompt is shown as text."""


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens [start, end) of the prompt, from a medium's first placeholder to its last; timestamps may lie between."""

    start: int
    end: int


@dataclass(frozen=True)
class Prompt:
    """What the model reads.

    ids: token ids with placeholders expanded. cache_ids: the same length, see engine.prompt.cache_ids. spans: one per
    medium, or none when the processor does not tell them apart. contents: what each medium's cache id is made from.
    inputs: the processor's other arrays, empty for text.
    has_pixels: inputs hold all that the model reads; else only where its media lie (engine.models.grids).
    starts_in_reasoning: the template has opened the think block already.
    """

    ids: list[int]
    cache_ids: list[int]
    spans: tuple[Span, ...] = ()
    inputs: dict[str, Any] = field(default_factory=dict)
    receipts: tuple[MediaReceipt, ...] = ()
    contents: tuple[str, ...] = ()
    has_pixels: bool = True
    starts_in_reasoning: bool = False

    def has_media_before(self, first: int) -> bool:
        """Whether there are media and all end at or before token `first`: of them nothing is left to read."""
        return bool(self.spans) and self.spans[-1].end <= first

    def lacks_pixels(self, first: int) -> bool:
        """Whether media must be read behind the `first` tokens, whose KV is there, and it came without their pixels."""
        return not self.has_pixels and not self.has_media_before(first)


def runs(ids: Sequence[int], placeholder: int) -> list[tuple[int, int]]:
    """[start, end) of each unbroken run of a placeholder."""
    found = []
    for is_mine, run in groupby(enumerate(ids), key=lambda pair: pair[1] == placeholder):
        if is_mine:
            positions = [position for position, _ in run]
            found.append((positions[0], positions[-1] + 1))
    return found


def media_id(content: str) -> int:
    """A 63-bit negative id; 0 and the token ids stay free."""
    return -1 - (int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest()) >> 1)
