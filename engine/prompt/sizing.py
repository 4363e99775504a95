"""How large the model sees a medium, where a budget of pixels says so. Numpy and Pillow, no MLX; engine thread.

Processors have a budget of their own and are left alone with it, but for two cases: the checkpoint's
video_preprocessor_config.json may state a budget for each frame (`frame_shortest_edge`, `frame_longest_edge`: minimum
and maximum of pixels per frame), since the processor's own is one for all frames of a clip together; and a request may
ask for a smaller one. Then the pixels are resized here and the processor takes them as they are
(engine.prompt.processor).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from engine.media.medium import bad_media
from engine.media.resize import pixel_stub, resized
from engine.types import Part
from engine.types.media import Media

NO_LIMIT = 2**62

LOW_PIXELS = 512 * 512
LOW_SHARE = 4
"""detail "low": OpenAI's 512 x 512 pixels, and at most a quarter of what this model would read; "high" and "auto" leave
it to the model's own budget."""


@dataclass(frozen=True, slots=True)
class PixelBudget:
    """Sides are multiples of factor_px; all frames together hold min_pixels to max_pixels."""

    factor_px: int
    min_pixels: int
    max_pixels: int

    def within(self, asked: int | None) -> PixelBudget:
        """The smaller of this budget and the one asked for."""
        if not asked or asked >= self.max_pixels:
            return self
        return replace(self, min_pixels=min(self.min_pixels, asked), max_pixels=asked)

    def at_least(self, asked: int | None) -> PixelBudget:
        """With the larger of its minimum and the one asked for, but never more than its maximum."""
        if not asked or asked <= self.min_pixels:
            return self
        return replace(self, min_pixels=min(self.max_pixels, asked))

    def fit(self, size: tuple[int, int], count: int = 1) -> tuple[int, int]:
        """(width, height) that `count` frames of this size get; a side never falls below one factor.

        transformers' smart_resize: rounded to the factor, then scaled into the budget, proportions kept.
        """
        factor, total = self.factor_px, count * size[0] * size[1]
        width, height = (max(factor, round(side / factor) * factor) for side in size)
        if count * width * height > self.max_pixels:
            scale = math.sqrt(self.max_pixels / total)
            width, height = (max(factor, math.floor(side * scale / factor) * factor) for side in size)
        elif count * width * height < self.min_pixels:
            scale = math.sqrt(self.min_pixels / total)
            width, height = (math.ceil(side * scale / factor) * factor for side in size)
        return width, height


@dataclass(frozen=True, slots=True)
class AskedSize:
    """What the client wants of all frames together, None where it leaves that to the model: the most pixels, the least,
    and (width, height) of each."""

    most: int | None
    least: int | None
    exact_px: tuple[int, int] | None

    @property
    def is_there(self) -> bool:
        return bool(self.most or self.least or self.exact_px)


def sized(
    processor: Any, settings: dict[str, Any], parts: Sequence[Part], media: tuple[Media, ...]
) -> tuple[Media, ...]:
    """The media at the size the model shall see, those that have a budget of their own; the others as they are.

    processor: of mlx-vlm or transformers. settings: the checkpoint's video_preprocessor_config.json. parts: whose media
    they are. Those without pixels get the size alone. Raises BadMedia for a budget that is too small.
    """
    out = list(media)
    for kind, name in (("image", "image_processor"), ("video", "video_processor")):
        of_kind = [i for i, medium in enumerate(media) if medium.kind == kind]
        inner, per_frame = own_budget(getattr(processor, name, None)), _per_frame(settings) if kind == "video" else None
        asked = {i: _asked(parts[i], media[i], inner) for i in of_kind}
        if (inner and per_frame) or any(wish.is_there for wish in asked.values()):
            # All of a kind: the processor is told once for all of them to leave the size as it is.
            for i in of_kind if inner else [i for i in of_kind if asked[i].is_there]:
                size = _size(parts[i], media[i], _budget(media[i], inner, per_frame), asked[i])
                resize = resized if media[i].has_pixels else pixel_stub
                out[i] = replace(media[i], pixels=resize(media[i].pixels, size), is_sized=True)
    return tuple(out)


def _size(part: Part, medium: Media, own: PixelBudget, asked: AskedSize) -> tuple[int, int]:
    """(width, height)"""
    height, width = medium.pixels.shape[-3:-1]
    count = _count(medium)
    if asked.exact_px is not None:
        return _exact(part, own, asked, count)
    budget = own.within(asked.most).at_least(asked.least)
    size = budget.fit((width, height), count)
    if asked.most and count * size[0] * size[1] > asked.most:  # its minimum, rounded up, is too much
        size = replace(budget, min_pixels=0).fit((width, height), count)
    num_pixels = count * size[0] * size[1]
    if asked.most and num_pixels > asked.most:
        why = f"{asked.most:,} pixels are too few; the least that this model can read of it is {num_pixels:,}"
        raise bad_media(part, why)
    if asked.least and asked.least > budget.max_pixels:
        raise bad_media(
            part, f"min_pixels: {asked.least:,} are more than this model reads of it, {budget.max_pixels:,}"
        )
    return size


def _exact(part: Part, own: PixelBudget, asked: AskedSize, count: int) -> tuple[int, int]:
    """What resized_width and resized_height say, rounded to the model's patches as Qwen's tools do."""
    width, height = (max(own.factor_px, round(side / own.factor_px) * own.factor_px) for side in asked.exact_px or ())
    num_pixels = count * width * height
    least, most = max(own.min_pixels, asked.least or 0), min(own.max_pixels, asked.most or own.max_pixels)
    if not least <= num_pixels <= most:
        sizes = f"{width} x {height} are {num_pixels:,} pixels; of this, {least:,} to {most:,} can be read"
        raise bad_media(part, f"resized_width, resized_height: {sizes}")
    return width, height


def _budget(medium: Media, own: PixelBudget | None, per_frame: tuple[int, int] | None) -> PixelBudget:
    if own is None:
        return PixelBudget(1, 0, NO_LIMIT)
    if per_frame is None:
        return own
    return replace(own, min_pixels=_count(medium) * per_frame[0], max_pixels=_count(medium) * per_frame[1])


def _count(medium: Media) -> int:
    """Frames that the model reads; in pairs, so that an odd one counts twice."""
    return len(medium.frames) + len(medium.frames) % 2 if medium.kind == "video" else 1


def _asked(part: Part, medium: Media, own: PixelBudget | None) -> AskedSize:
    """Of all frames together. Raises BadMedia for what a family cannot do."""
    if own is None and (part.min_pixels or part.exact_px):
        name = "min_pixels" if part.min_pixels else "resized_width, resized_height"
        raise bad_media(
            part, f"{name}: this model reads every picture at a size of its own; only max_pixels has a sense"
        )
    if medium.kind == "video":
        least = part.min_pixels * _count(medium) if part.min_pixels else None
        return AskedSize(medium.max_pixels, least, part.exact_px)
    low = None
    if part.detail == "low":
        low = max(own.min_pixels, min(LOW_PIXELS, own.max_pixels // LOW_SHARE)) if own else LOW_PIXELS
    most = min((n for n in (part.max_pixels, low) if n), default=None)
    return AskedSize(most, part.min_pixels, part.exact_px)


def _per_frame(settings: dict[str, Any]) -> tuple[int, int] | None:
    """Minimum and maximum of pixels of one frame, if the checkpoint says so."""
    maximum = settings.get("frame_longest_edge")
    return (int(settings.get("frame_shortest_edge") or 0), int(maximum)) if maximum else None


def own_budget(processor: Any) -> PixelBudget | None:
    """A processor's own budget; None for families whose sizes do not follow from one."""
    names = ("patch_size", "merge_size", "min_pixels", "max_pixels")
    numbers = [number for name in names if isinstance(number := getattr(processor, name, None), int)]
    if len(numbers) < len(names):
        return None
    patch, merge, minimum, maximum = numbers
    return PixelBudget(patch * merge, minimum, maximum)
