"""The pictures and clips of the self-test. They are drawn here, so every pixel is known. Pure; any thread."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image, ImageDraw, ImageOps

from engine.errors import BadRequest
from engine.measure import drawings
from engine.measure.drawings import PictureSize
from engine.types import Part

SIZE: PictureSize = (224, 224)
RADIUS = 0.36
"""Of a shape, as a share of the picture's shorter side."""

CLIP_FPS = 4.0
CLIP_FRAMES = 8
CLIP_PX = 96
"""Small enough for any budget of pixels per frame that a checkpoint states (engine.prompt.sizing)."""

DEEP_MODES = ("I", "F")
"""Beginnings of Pillow's modes with more than 8 bits. Decoders reduce them differently: no result is the right one."""


@dataclass(frozen=True)
class DrawnMedium:
    """A picture (one frame) or a clip, and the Part that sends it. frames: RGB, all of one size."""

    kind: Literal["image", "video"]
    frames: tuple[Image.Image, ...]
    part: Part

    @property
    def size(self) -> PictureSize:
        return self.frames[0].size


def circle(size: PictureSize = SIZE) -> DrawnMedium:
    """A red circle on white."""
    return _picture(drawings.circle(size, "red", "white", RADIUS))


def square(size: PictureSize = SIZE) -> DrawnMedium:
    """A blue square on yellow: no pixel is like the circle's."""
    return _picture(drawings.square(size, "blue", "yellow", RADIUS))


def blank(size: PictureSize = SIZE) -> DrawnMedium:
    """Grey all over."""
    return _picture(drawings.blank(size))


def clip() -> DrawnMedium:
    """A bar that moves over a ground whose colour changes from frame to frame; lossless (an animated PNG)."""
    frames = []
    for index in range(CLIP_FRAMES):
        image = Image.new("RGB", (CLIP_PX, CLIP_PX), (30 * index, 255 - 30 * index, 128))
        left = CLIP_PX * index // CLIP_FRAMES
        ImageDraw.Draw(image).rectangle((left, 0, left + CLIP_PX // CLIP_FRAMES - 1, CLIP_PX), fill="white")
        frames.append(image)
    out = io.BytesIO()
    frames[0].save(out, "PNG", save_all=True, append_images=frames[1:], duration=round(1000 / CLIP_FPS))
    url = drawings.data_url(out.getvalue(), "image/png")
    return DrawnMedium("video", tuple(frames), Part("video", url=url, param="clip"))


def from_file(file: Path) -> DrawnMedium:
    """A picture file of the user. Raises BadRequest: no such file, not a picture, more than 8 bits per channel."""
    try:
        image = ImageOps.exif_transpose(Image.open(file))
    except OSError as error:
        raise BadRequest(f"--image: {file} cannot be read as a picture ({error}).", param="image") from error
    if image.mode.startswith(DEEP_MODES):
        raise BadRequest(f"--image: {file} has more than 8 bits per channel; take another.", param="image")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return DrawnMedium("image", (image.convert("RGB"),), Part("image", path=str(file), param="--image"))


def _picture(image: Image.Image) -> DrawnMedium:
    url = drawings.data_url(drawings.png(image), "image/png")
    return DrawnMedium("image", (image,), Part("image", url=url, param="picture"))
