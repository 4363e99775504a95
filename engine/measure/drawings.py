"""What the benchmark and the self-test draw, and how it is sent. Pure; any thread but an event loop's."""

from __future__ import annotations

import base64
import io

from PIL import Image, ImageDraw

PictureSize = tuple[int, int]
Colour = str | tuple[int, int, int]
GREY = (128, 128, 128)


def circle(size_px: PictureSize, colour: Colour, ground: Colour, radius: float) -> Image.Image:
    """A disc in the middle. size_px: (width, height). radius: as a share of the shorter side."""
    image = Image.new("RGB", size_px, ground)
    ImageDraw.Draw(image).ellipse(_box(size_px, radius), fill=colour)
    return image


def square(size_px: PictureSize, colour: Colour, ground: Colour, radius: float) -> Image.Image:
    """A square in the middle. radius: half its side, as a share of the picture's shorter side."""
    image = Image.new("RGB", size_px, ground)
    ImageDraw.Draw(image).rectangle(_box(size_px, radius), fill=colour)
    return image


def blank(size_px: PictureSize) -> Image.Image:
    """Grey all over."""
    return Image.new("RGB", size_px, GREY)


def png(image: Image.Image) -> bytes:
    """The picture as a PNG file."""
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def data_url(data: bytes, media_type: str) -> str:
    """A file as a `data:` URL."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _box(size_px: PictureSize, radius: float) -> tuple[float, float, float, float]:
    (width, height), radius_px = size_px, radius * min(size_px)
    return (width / 2 - radius_px, height / 2 - radius_px, width / 2 + radius_px, height / 2 + radius_px)
