"""Colours as a screen shows them: ICC profiles to sRGB, and more than 8 bits per channel to 8. Pillow and numpy."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageCms

IS_THE_SAME = 2
"""Levels of 255. A profile that moves no colour by more is sRGB, however it is called: rounding moves as much."""

MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab ": "LAB"}
"""Colour space of a profile -> Pillow's mode of the pixels that it describes."""

NOT_FITTING = "its colour profile is damaged or does not fit its pixels and was left out"


@dataclass(frozen=True, slots=True)
class DeepRange:
    """How a file's numbers become gray: `bits` of them count, or else black is the highest one."""

    bits: int = 16
    white_is_zero: bool = False


def to_srgb(image: Image.Image, profile: bytes) -> tuple[Image.Image, str]:
    """image: RGB, L, CMYK or LAB, without alpha; the result is RGB. Also a note, "" where all is well."""
    if profile:
        try:
            return _by_profile(image, profile), ""
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            return _by_mode(image), NOT_FITTING
    return _by_mode(image), ""


def _by_mode(image: Image.Image) -> Image.Image:
    """By the mode alone; Pillow has no conversion of its own for Lab."""
    if image.mode != "LAB":
        return image.convert("RGB")
    transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
    return _applied(image, transform)


def _by_profile(image: Image.Image, profile: bytes) -> Image.Image:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    mode = MODES.get(source.profile.xcolor_space, "")
    if image.mode != mode:
        if mode != "RGB" or image.mode not in ("L", "YCbCr", "HSV"):
            raise ValueError("a profile for other pixels")
        image = image.convert("RGB")  # gray pixels may have a profile for colours
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    if mode in ("RGB", "L") and _moves_nothing(transform, mode):
        return image.convert("RGB")
    return _applied(image, transform)


def _applied(image: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    out = ImageCms.applyTransform(image, transform)
    assert out is not None
    return out


def _moves_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Tried on six levels of each channel."""
    levels = np.linspace(0, 255, 6).astype(np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 6, 3)
    given = Image.fromarray(colours).convert(mode)
    shown = np.asarray(_applied(given, transform), np.int16)
    return int(np.abs(shown - np.asarray(given.convert("RGB"), np.int16)).max()) <= IS_THE_SAME


def narrowed(image: Image.Image, scale: DeepRange) -> Image.Image | None:
    """Gray of more than 8 bits as L; Pillow's own conversion cuts bright values off. None for what has no range."""
    gray: np.ndarray[Any, Any] = np.asarray(image)
    if gray.dtype == np.int32 and scale.bits == 32:
        gray = gray.view(np.uint32)
    top = 2**scale.bits - 1
    if gray.dtype.kind not in "ui" or int(gray.min()) < 0 or int(gray.max()) > top:
        return None
    gray = ((gray.astype(np.uint64) * 255 + top // 2) // top).astype(np.uint8)
    return Image.fromarray(255 - gray if scale.white_is_zero else gray)
