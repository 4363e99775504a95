"""Pictures: any common file to (H, W, 3) uint8 RGB, as a person would see it on a white page."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from engine.config import MediaLimits
from engine.media.medium import content_sha256, refuse
from engine.types import Part
from engine.types.media import Media

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")
"""Only these decoders are ever run: Pillow knows others that start programs or are seldom tested."""

BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error)
"""What Pillow raises on damaged files, by experience; it has no class of its own for it."""


def decode_image(part: Part, data: bytes, limits: MediaLimits) -> Media:
    """Decode a picture (the first frame of an animated one). Raises BadMedia: unknown, truncated, too many pixels."""
    with decoding(part, "picture"):
        image = open_checked(part, data, limits)
        image.load()
        pixels = to_rgb(part, image)
    height, width = pixels.shape[:2]
    return Media("image", pixels, content_sha256(pixels), len(data), (width, height))


def animation_frames(part: Part, data: bytes, limits: MediaLimits) -> int:
    """How many frames a picture file has; 1 for a still."""
    with decoding(part, "picture"):
        return int(getattr(open_checked(part, data, limits), "n_frames", 1))


def open_checked(part: Part, data: bytes, limits: MediaLimits) -> Image.Image:
    """Open without decoding, and refuse a decompression bomb by the size its header declares."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.UnidentifiedImageError as error:
        raise refuse(part, "the picture is damaged or of a format that is not read (send PNG, JPEG or WebP)") from error
    except Image.DecompressionBombError as error:
        raise refuse(part, f"the picture has more than the {limits.max_pixels:,} pixels allowed") from error
    width, height = image.size
    if width * height > limits.max_pixels:
        raise refuse(part, f"{width} x {height} pixels; at most {limits.max_pixels:,} pixels are allowed")
    if min(width, height) < 1:
        raise refuse(part, "the picture has no pixels")
    return image


def to_rgb(part: Part, image: Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Rotation of the camera applied, alpha laid on white, palettes and 16-bit gray widened: (H, W, 3) uint8."""
    with suppress(*BROKEN):  # a damaged EXIF block does not spoil the picture: it is shown as stored
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_gray(part, image)
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen)
    return np.array(image.convert("RGB"), dtype=np.uint8)


def _deep_gray(part: Part, image: Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Gray with more than 8 bits; Pillow's own conversion would cut bright values off instead of scaling them."""
    gray = np.asarray(image)
    if gray.dtype.kind not in "ui" or gray.min() < 0 or gray.max() > 0xFFFF:
        raise refuse(part, f"pictures with {image.mode!r} pixels are not read (send 8 or 16 bits per channel)")
    narrow = (gray.astype(np.uint32) // 257).astype(np.uint8)
    return np.repeat(narrow[..., None], 3, axis=2)


@contextmanager
def decoding(part: Part, what: str) -> Iterator[None]:
    """Turn what Pillow raises on damaged data into BadMedia."""
    try:
        yield
    except BROKEN as error:
        reason = "it ends too early" if "truncated" in str(error).lower() else "its data is damaged"
        raise refuse(part, f"the {what} cannot be decoded: {reason}") from error
    except MemoryError as error:
        raise refuse(part, f"the {what} does not fit in memory") from error
