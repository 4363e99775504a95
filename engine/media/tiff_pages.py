"""The pages of a TIFF as pictures: scanners and fax machines write many into one file. Any thread; blocks."""

from __future__ import annotations

import math
import time

import numpy as np
from PIL import Image

from engine.config import MediaLimits
from engine.media.image import decode_image, decoding
from engine.media.medium import bad_media
from engine.media.pdf import DocumentPage, DocumentPages, Wanted, page_numbers
from engine.media.resize import png
from engine.media.tiff import TiffFile
from engine.types import Part
from engine.types.media import Pixels


def num_pages(part: Part, data: bytes) -> int:
    """Raises BadMedia for a file that is too short to say it."""
    with decoding(part, "TIFF"):
        return len(TiffFile(data).pages())


def tiff_pages(part: Part, data: bytes, wanted: Wanted, limits: MediaLimits) -> DocumentPages:
    """Decode the pages that are wanted. Raises BadMedia: no such page, too many, one that is damaged, too slow."""
    deadline = time.monotonic() + limits.decode_timeout_s
    with decoding(part, "TIFF"):
        file = TiffFile(data)
        pages = file.pages()
    try:
        numbers = page_numbers(wanted.pages, len(pages), wanted.max_pages)
    except ValueError as error:
        raise bad_media(part, str(error)) from error
    out = []
    for number in numbers:
        if time.monotonic() > deadline:
            raise bad_media(part, f"reading the TIFF took longer than {limits.decode_timeout_s:g} s")
        pixels = decode_image(part, file.alone(pages[number - 1]), limits).pixels
        out.append(DocumentPage(number, png(_within(pixels, wanted.max_pixels)), ""))
    return DocumentPages(tuple(out), len(pages))


def _within(pixels: Pixels, max_pixels: int) -> Pixels:
    """The page at the size of one of a PDF, where it is larger."""
    height, width = pixels.shape[:2]
    scale = math.sqrt(max_pixels / (width * height))
    if scale >= 1:
        return pixels
    size = max(1, int(width * scale)), max(1, int(height * scale))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
