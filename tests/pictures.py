"""Pictures and clips for the tests: drawn here, so that what a test says about them is known to be true."""

from __future__ import annotations

import base64
import io
import itertools
import re
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

Shape = Literal["circle", "square", "triangle"]
PAPER = (244, 244, 244)


def picture(colour: str = "red", shape: Shape = "circle", size: tuple[int, int] = (128, 96)) -> Image.Image:
    """One coloured shape in the middle of a light ground."""
    image = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(image)
    (width, height), radius = size, min(size) * 0.36
    left, top, right, bottom = width / 2 - radius, height / 2 - radius, width / 2 + radius, height / 2 + radius
    if shape == "circle":
        draw.ellipse((left, top, right, bottom), fill=colour)
    elif shape == "square":
        draw.rectangle((left, top, right, bottom), fill=colour)
    else:
        draw.polygon([(width / 2, top), (right, bottom), (left, bottom)], fill=colour)
    return image


def sixty(folder: Path) -> Path:
    """60 pictures: every colour and shape in four sizes, called by what they show."""
    colours, shapes = ("red", "orange", "yellow", "green", "blue"), ("circle", "square", "triangle")
    sizes = ((96, 96), (128, 96), (96, 128), (112, 112))
    for colour, shape, size in itertools.product(colours, shapes, sizes):
        picture(colour, shape, size).save(folder / f"{colour}-{shape}-{size[0]}x{size[1]}.png")  # type: ignore[arg-type]
    return folder


def numbered_frames(count: int, size: tuple[int, int] = (96, 96)) -> list[Image.Image]:
    """Frames that differ from each other: a bar that walks from left to right, and the frame's number."""
    frames = []
    for index in range(count):
        image = Image.new("RGB", size, PAPER)
        draw = ImageDraw.Draw(image)
        left = size[0] * index / count
        draw.rectangle((left, 0, left + size[0] / count, size[1]), fill=(200, 40 * index % 256, 90))
        draw.text((4, 4), str(index), fill=(0, 0, 0))
        frames.append(image)
    return frames


def keeps_promise(answer: str, promised: str, slack: int = 30) -> bool:
    """Whether an example card is answered as it promises: in its words; coordinates, in thousandths of the picture, may
    be a little off, since rounding differs between processors."""
    numbers = re.compile(r"(?<=[\[ ])\d+(?=[,\]])")
    if numbers.sub("0", answer) != numbers.sub("0", promised):
        return False
    pairs = zip(numbers.findall(answer), numbers.findall(promised), strict=True)
    return all(abs(int(one) - int(other)) <= slack for one, other in pairs)


def encode(image: Image.Image, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()


def data_url(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def picture_url(colour: str = "red", shape: Shape = "circle", size: tuple[int, int] = (128, 96)) -> str:
    """A `data:` URL of one coloured shape as PNG."""
    return data_url(encode(picture(colour, shape, size)))


def write_clip(path: Path, frames: list[Image.Image], fps: float = 4.0) -> Path:
    """Write an .mp4 (MPEG-4 part 2) with these frames; all of one size, even in both directions."""
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, frames[0].size)
    assert writer.isOpened(), "OpenCV has no mp4 writer here"
    for frame in frames:
        writer.write(cv2.cvtColor(np.asarray(frame), cv2.COLOR_RGB2BGR))
    writer.release()
    return path
