"""The prompt as the model reads it: token ids, where each medium lies in them, and cache ids. No MLX."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from engine.types.grounding import Crop
from engine.types.media import Media
from engine.types.request import Kind, Part

MEDIUM = "▣"
"""Stands for a picture's or a clip's tokens where a prompt is shown as text."""

OTHER_MEDIA = "<other media>"
"""Stands for them where a cache trace says what another prompt went on with."""


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens [start, end) of the prompt, from a medium's first placeholder to its last; timestamps may lie between."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class PlacedMedia:
    """One medium of a prompt and its place there.

    part: as the client sent it. media: its facts; pixels and samples have no memory of their own any more.
    placeholder: the token id that stands for it. tokens: how many of those it has. seen_px: (width, height) that the
    model sees, (0, 0) where unknown. span: None when the processor does not tell the media apart.
    has_pixels: its patches are among the prompt's inputs; else only its grid is (engine.models.grids).
    """

    part: Part
    media: Media
    placeholder: int
    tokens: int
    seen_px: tuple[int, int]
    span: Span | None = None
    has_pixels: bool = True

    @property
    def kind(self) -> Kind:
        return self.media.kind

    @property
    def decoded_px(self) -> tuple[int, int]:
        return self.media.decoded_px

    @property
    def crop(self) -> Crop | None:
        return self.media.crop

    @property
    def content(self) -> str:
        """What its cache id is made from."""
        return self.media.content

    def ends_by(self, first: int) -> bool:
        """Whether it is known to lie before token `first` as a whole."""
        return self.span is not None and self.span.end <= first


@dataclass(frozen=True)
class Prompt:
    """What the model reads.

    ids: token ids with placeholders expanded. cache_ids: the same length, see engine.prompt.cache_ids.
    media: in the order in which they were sent, which is that of their spans; all have a span, or none has.
    inputs: the processor's other arrays, empty for text. sounds: where there are several, the ids and arrays of each in
    a prompt of its own, and inputs has none of sounds; else (). processor_ms: what resizing and processing all media
    took. starts_in_reasoning: the template has opened the think block already. is_whole: tokens of it see what lies
    behind them, so it is computed in one pass, and nothing of it serves another prompt; its cache_ids are [].
    """

    ids: list[int]
    cache_ids: list[int]
    media: tuple[PlacedMedia, ...] = ()
    inputs: dict[str, Any] = field(default_factory=dict)
    sounds: tuple[tuple[list[int], dict[str, Any]], ...] = ()
    processor_ms: float = 0.0
    starts_in_reasoning: bool = False
    is_whole: bool = False

    @property
    def spans(self) -> tuple[Span, ...]:
        """One per medium, or () when they are not known."""
        return tuple(placed.span for placed in self.media if placed.span is not None)

    def head(self, num_tokens: int) -> Prompt:
        """Its first tokens; itself where these are all. What belongs to all of it stays."""
        if num_tokens == len(self.ids):
            return self
        return replace(self, ids=self.ids[:num_tokens], cache_ids=self.cache_ids[:num_tokens])

    def has_media_before(self, first: int) -> bool:
        """Whether there are media and all end at or before token `first`: of them nothing is left to read."""
        return bool(self.media) and self.media[-1].ends_by(first)

    def has_pixels_behind(self, num_reused: int) -> bool:
        """Whether inputs hold all that it reads of the media behind the first `num_reused` tokens. If not, the prompt
        must be built again."""
        return all(placed.has_pixels or placed.ends_by(num_reused) for placed in self.media)


def runs(ids: Sequence[int], placeholder: int) -> list[tuple[int, int]]:
    """[start, end) of each unbroken run of a placeholder."""
    out = []
    for is_placeholder, run in groupby(enumerate(ids), key=lambda pair: pair[1] == placeholder):
        if is_placeholder:
            positions = [position for position, _ in run]
            out.append((positions[0], positions[-1] + 1))
    return out


def media_id(content: str) -> int:
    """A 63-bit negative id; 0 and the token ids stay free."""
    return -1 - (int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest()) >> 1)
