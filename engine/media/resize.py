"""Pixels at another size, and as PNG. Numpy and Pillow; any thread."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from engine.types.media import Media, Pixels


def resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """(..., H, W, 3) uint8 at (width, height), bicubic as in the processors that would do it."""
    *ahead, height, width, channels = pixels.shape
    if (width, height) == size:
        return pixels
    frames = pixels.reshape(-1, height, width, channels)
    out = np.stack([np.asarray(Image.fromarray(f).resize(size, Image.Resampling.BICUBIC)) for f in frames])
    return out.reshape(*ahead, size[1], size[0], channels)


def pixel_stub(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """The shape of `resized`, all black and without memory of its own."""
    return np.broadcast_to(np.uint8(0), (*pixels.shape[:-3], size[1], size[0], pixels.shape[-1]))


def pngs(medium: Media, size: tuple[int, int]) -> tuple[bytes, ...]:
    """Every frame of a clip, or the picture, as a PNG of the size the model sees; as decoded where that is unknown.
    Nothing of a sound."""
    if medium.kind == "audio":
        return ()
    pixels = medium.pixels if 0 in size else resized(medium.pixels, size)
    return tuple(png(frame) for frame in (pixels if pixels.ndim == 4 else pixels[None]))


def png(frame: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    """A PNG of (H, W, 3), packed quickly rather than small."""
    out = io.BytesIO()
    Image.fromarray(frame).save(out, "PNG", compress_level=1)
    return out.getvalue()
