"""The prompt as the model reads it: where each medium lies in it, and the cache ids that follow. Pure Python.

    ids        user \n <pad> <pad> <pad> What is this ?
    cache ids  user \n  -h    -h    -h   What is this ?        h from the medium's decoded pixels

Equal cache ids mean equal model input: token for token, and pixel for pixel.
"""

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

    ids: token ids with placeholders expanded. cache_ids: the same length, see engine.spans. spans: one per medium, or
    none when the processor does not tell them apart. contents: what each medium's cache id is made from. inputs: the
    processor's other arrays, empty for text.
    has_pixels: inputs hold all that the model reads; else only where its media lie (engine.grids). starts_in_reasoning:
    the template has opened the think block already.
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


def locate(ids: Sequence[int], placeholders: Sequence[int], tokens: Sequence[int]) -> tuple[Span, ...]:
    """The span of each medium, from its placeholder id and token count (one per medium, in the prompt's order).

    Returns () when the counts do not add up to the placeholders that are there: then nothing is known for sure.
    """
    positions = {p: [i for i, token in enumerate(ids) if token == p] for p in set(placeholders)}
    if any(
        len(found) != sum(n for p, n in zip(placeholders, tokens, strict=True) if p == kind)
        for kind, found in positions.items()
    ):
        return ()
    spans = []
    for placeholder, count in zip(placeholders, tokens, strict=True):
        mine, positions[placeholder] = positions[placeholder][:count], positions[placeholder][count:]
        spans.append(Span(mine[0], mine[-1] + 1))
    return tuple(spans)


def runs(ids: Sequence[int], placeholder: int) -> list[tuple[int, int]]:
    """[start, end) of each unbroken run of a placeholder."""
    found = []
    for is_mine, run in groupby(enumerate(ids), key=lambda pair: pair[1] == placeholder):
        if is_mine:
            positions = [position for position, _ in run]
            found.append((positions[0], positions[-1] + 1))
    return found


def cache_ids(
    ids: Sequence[int], placeholders: Sequence[int], spans: Sequence[Span], contents: Sequence[str]
) -> list[int]:
    """ids with every placeholder replaced by a negative id of its medium's content (hex sha256 per medium).

    Without spans every placeholder stands for all media together: nothing of them is shared by part, nothing wrongly.
    Returns [] when there are media but no placeholder to carry them: such a prompt must not be cached.
    """
    everything = media_id("".join(contents))
    wanted = set(placeholders)
    if contents and not any(token in wanted for token in ids):
        return []
    out = [everything if token in wanted else token for token in ids]
    for placeholder, span, content in zip(placeholders, spans, contents, strict=False):
        own = media_id(content)
        for i in range(span.start, span.end):
            if ids[i] == placeholder:
                out[i] = own
    return out


def media_id(content: str) -> int:
    """A 63-bit negative id; 0 and the token ids stay free."""
    return -1 - (int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest()) >> 1)
