"""How large the model sees a medium, where a budget of pixels says so. Numpy and Pillow, no MLX; engine thread.

Processors have a budget of their own and are left alone with it, but for two cases: the checkpoint's
video_preprocessor_config.json may state a budget for each frame (`frame_shortest_edge`, `frame_longest_edge`: least and
most pixels per frame), since the processor's own is one for all frames of a clip together; and a request may ask for a
smaller one. Then the pixels are resized here and the processor is told to take them as they are.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from engine.media import Media

_NO_LIMIT = 2**62


@dataclass(frozen=True, slots=True)
class Budget:
    """Sides are multiples of factor_px; all frames together hold least to most pixels."""

    factor_px: int
    least: int
    most: int

    def within(self, asked: int | None) -> Budget:
        """The smaller of this budget and the one asked for."""
        most = min(self.most, asked or self.most)
        return replace(self, least=min(self.least, most), most=most)

    def fit(self, size: tuple[int, int], count: int = 1) -> tuple[int, int]:
        """(width, height) that `count` frames of this size get; a side never falls below one factor.

        transformers' smart_resize: rounded to the factor, then scaled into the budget, proportions kept.
        """
        factor, total = self.factor_px, count * size[0] * size[1]
        width, height = (max(factor, round(side / factor) * factor) for side in size)
        if count * width * height > self.most:
            scale = math.sqrt(self.most / total)
            width, height = (max(factor, math.floor(side * scale / factor) * factor) for side in size)
        elif count * width * height < self.least:
            scale = math.sqrt(self.least / total)
            width, height = (math.ceil(side * scale / factor) * factor for side in size)
        return width, height


def sized(processor: Any, settings: dict[str, Any], media: tuple[Media, ...]) -> tuple[Media, ...]:
    """The media at the size the model shall see, those that have a budget of their own; the others as they are.

    processor: of mlx-vlm or transformers. settings: the checkpoint's video_preprocessor_config.json.
    """
    return tuple(_sized(processor, settings, medium) for medium in media)


def _sized(processor: Any, settings: dict[str, Any], medium: Media) -> Media:
    per_frame = _per_frame(settings) if medium.kind == "video" else None
    if per_frame is None:
        return medium
    own = _own(getattr(processor, "video_processor", None))
    if own is None:
        return medium
    count = len(medium.frames) + len(medium.frames) % 2  # read in pairs: an odd frame counts twice
    budget = replace(own, least=count * per_frame[0], most=count * per_frame[1])
    height, width = medium.pixels.shape[1:3]
    return replace(medium, pixels=resized(medium.pixels, budget.fit((width, height), count)), is_sized=True)


def _per_frame(settings: dict[str, Any]) -> tuple[int, int] | None:
    """Least and most pixels of one frame, if the checkpoint says so."""
    most = settings.get("frame_longest_edge")
    return (int(settings.get("frame_shortest_edge") or 0), int(most)) if most else None


def _own(processor: Any) -> Budget | None:
    """A processor's own budget; None for families whose sizes do not follow from one."""
    names = ("patch_size", "merge_size", "min_pixels", "max_pixels")
    numbers = [number for name in names if isinstance(number := getattr(processor, name, None), int)]
    if len(numbers) < len(names):
        return None
    patch, merge, least, most = numbers
    return Budget(patch * merge, least, most)


def resized(pixels: np.ndarray[Any, np.dtype[np.uint8]], size: tuple[int, int]) -> Any:
    """(..., H, W, 3) uint8 at (width, height), bicubic as in the processors that would do it."""
    *ahead, height, width, channels = pixels.shape
    if (width, height) == size:
        return pixels
    frames = pixels.reshape(-1, height, width, channels)
    out = np.stack([np.asarray(Image.fromarray(f).resize(size, Image.Resampling.BICUBIC)) for f in frames])
    return out.reshape(*ahead, size[1], size[0], channels)


def pngs(medium: Media, size: tuple[int, int]) -> tuple[bytes, ...]:
    """Every frame of a clip, or the picture, as a PNG of the size the model sees; as decoded where that is unknown.
    Nothing of a sound."""
    if medium.kind == "audio":
        return ()
    pixels = medium.pixels if 0 in size else resized(medium.pixels, size)
    return tuple(_png(frame) for frame in (pixels if pixels.ndim == 4 else pixels[None]))


def _png(frame: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    out = io.BytesIO()
    Image.fromarray(frame).save(out, "PNG", compress_level=1)
    return out.getvalue()


@contextmanager
def left_alone(processor: Any, media: tuple[Media, ...]) -> Iterator[None]:
    """For one prompt: the processor takes media that are sized already as they are."""
    with ExitStack() as stack:
        for kind, name in (("image", "image_processor"), ("video", "video_processor")):
            inner = getattr(processor, name, None)
            if _own(inner) is not None and any(medium.is_sized for medium in media if medium.kind == kind):
                stack.enter_context(_unlimited(inner))
        yield


@contextmanager
def _unlimited(processor: Any) -> Iterator[None]:
    least, most = processor.min_pixels, processor.max_pixels
    processor.min_pixels, processor.max_pixels = 1, _NO_LIMIT
    try:
        yield
    finally:
        processor.min_pixels, processor.max_pixels = least, most
