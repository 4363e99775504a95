"""What the benchmark and the self-test draw, and how it is sent. Pure; any thread but an event loop's."""

from __future__ import annotations

import base64
import io

from PIL import Image, ImageDraw

PictureSize = tuple[int, int]
Colour = str | tuple[int, int, int]
GREY = (128, 128, 128)
CHAR_PX = (6, 15)
"""Width and height of a letter of Pillow's own font, about."""


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


def page(size_px: PictureSize, text: str) -> Image.Image:
    """White, with lines of text from edge to edge, as many as there is room for."""
    image = Image.new("RGB", size_px, "white")
    chars = size_px[0] // CHAR_PX[0]
    lines = [text[at : at + chars] for at in range(0, len(text), chars)]
    ImageDraw.Draw(image).text((0, 0), "\n".join(lines[: size_px[1] // CHAR_PX[1]]), fill=GREY)
    return image


def png(image: Image.Image, *, quick: bool = False) -> bytes:
    """The picture as a PNG file. quick: larger, and made in less time."""
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1 if quick else 6)
    return out.getvalue()


def data_url(data: bytes, media_type: str) -> str:
    """A file as a `data:` URL."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _box(size_px: PictureSize, radius: float) -> tuple[float, float, float, float]:
    (width, height), radius_px = size_px, radius * min(size_px)
    return (width / 2 - radius_px, height / 2 - radius_px, width / 2 + radius_px, height / 2 + radius_px)
