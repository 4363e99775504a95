"""Pictures and clips whose every pixel is known, because they are drawn here. Pure; any thread."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image, ImageDraw, ImageOps

from engine.errors import BadRequest
from engine.types import Part

Size = tuple[int, int]
SIZE: Size = (224, 224)
CLIP_FPS = 4.0
CLIP_FRAMES = 8
CLIP_PX = 96
"""Small enough for any budget of pixels per frame that a checkpoint states (engine.prompt.sizing)."""

DEEP = ("I", "F")
"""Pillow's modes of more than 8 bits; how they are narrowed is the decoder's choice, so nothing can be expected."""


@dataclass(frozen=True)
class Drawn:
    """A picture (one frame) or a clip, and the part that shows it to the model. frames: RGB, all of one size."""

    kind: Literal["image", "video"]
    frames: tuple[Image.Image, ...]
    part: Part

    @property
    def size(self) -> Size:
        return self.frames[0].size


def circle(size: Size = SIZE) -> Drawn:
    """A red circle on white."""
    return _picture(_shape(size, "red", round_=True))


def square(size: Size = SIZE) -> Drawn:
    """A blue square on yellow, of the same size as the circle: as unlike as two pictures can be."""
    return _picture(_shape(size, "blue", "yellow", round_=False))


def blank(size: Size = SIZE) -> Drawn:
    """Nothing but grey."""
    return _picture(Image.new("RGB", size, (128, 128, 128)))


def clip() -> Drawn:
    """A bar that walks over a ground of another colour in each frame, without loss (an animated PNG)."""
    frames = []
    for index in range(CLIP_FRAMES):
        image = Image.new("RGB", (CLIP_PX, CLIP_PX), (30 * index, 255 - 30 * index, 128))
        left = CLIP_PX * index // CLIP_FRAMES
        ImageDraw.Draw(image).rectangle((left, 0, left + CLIP_PX // CLIP_FRAMES - 1, CLIP_PX), fill="white")
        frames.append(image)
    out = io.BytesIO()
    frames[0].save(out, "PNG", save_all=True, append_images=frames[1:], duration=round(1000 / CLIP_FPS))
    return Drawn("video", tuple(frames), Part("video", url=_data_url(out.getvalue()), param="clip"))


def opened(file: Path) -> Drawn:
    """A picture of the user's. Raises BadRequest: not there, not a picture, more than 8 bits per channel."""
    try:
        image = ImageOps.exif_transpose(Image.open(file))
    except OSError as error:
        raise BadRequest(f"--image: {file} cannot be read as a picture ({error}).", param="image") from error
    if image.mode.startswith(DEEP):
        raise BadRequest(f"--image: {file} has more than 8 bits per channel; take another.", param="image")
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen)
    return Drawn("image", (image.convert("RGB"),), Part("image", path=str(file), param="--image"))


def _picture(image: Image.Image) -> Drawn:
    out = io.BytesIO()
    image.save(out, "PNG")
    return Drawn("image", (image,), Part("image", url=_data_url(out.getvalue()), param="picture"))


def _shape(size: Size, colour: str, ground: str = "white", *, round_: bool) -> Image.Image:
    image = Image.new("RGB", size, ground)
    draw = ImageDraw.Draw(image)
    (width, height), radius = size, 0.36 * min(size)
    box = (width / 2 - radius, height / 2 - radius, width / 2 + radius, height / 2 + radius)
    (draw.ellipse if round_ else draw.rectangle)(box, fill=colour)
    return image


def _data_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"
