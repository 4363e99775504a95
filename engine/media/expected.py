"""How much memory a medium will take once it is decoded, or as it is sent to another server, told before that is done.
Cheap; decodes nothing.

A picture says its size in its header. Other media, and those that are still somewhere on the web, count as a large one
of their kind until they are there.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from engine.config import MediaLimits
from engine.errors import BadMedia
from engine.types import Kind, Part

MIB = 1024**2
USUAL_BYTES: dict[Kind, int] = {"image": 16 * MIB, "video": 128 * MIB, "audio": 16 * MIB, "document": 16 * MIB}
"""A picture of 5.6 megapixels; 48 frames of 1280 x 720; four minutes of sound; a document until its pages are known."""

HEADS: dict[str, tuple[int, ...]] = {"PNG": (4096,), "GIF": (4096,), "BMP": (4096,), "JPEG": (4096, 65536)}
"""Formats that can be opened by their beginning, and how many characters of a data: URL that may take: the header of
JPEGs from a camera comes late."""


class MediaSize(NamedTuple):
    """num_bytes: of the decoded pixels or samples. is_exact: known, not guessed."""

    num_bytes: int
    is_exact: bool = False


def expected_size(part: Part, limits: MediaLimits) -> MediaSize:
    """Of a part as it was sent; only a picture's data: URL is looked into. Any thread."""
    # Here and below: numpy and Pillow take a moment that every start would wait for.
    from engine.media.fetch import is_data_url, read_data_url
    from engine.media.sniff import sniff

    url = (part.url or "").strip()
    if part.kind == "image" and is_data_url(url):
        start = url.find(",") + 1
        with suppress(BadMedia):
            format_name = sniff(read_data_url(part, url[: start + 64], limits)).name
            for num_chars in HEADS.get(format_name, ()):
                head = read_data_url(part, url[: start + num_chars], limits)
                if (size := picture_size(part, head, limits)) is not None:
                    return size
    return MediaSize(USUAL_BYTES[part.kind])


def picture_size(part: Part, data: bytes, limits: MediaLimits) -> MediaSize | None:
    """Of a picture file or its beginning, by its header. Returns None where that does not say it, or says too much."""
    from engine.media.image import decoding, open_checked

    try:
        with decoding(part, "picture"):
            width, height = open_checked(part, data, limits).size
    except BadMedia:
        return None
    return MediaSize(3 * width * height, is_exact=True)


def sent_size(part: Part) -> MediaSize:
    """Of a part as it is sent to another server; what is not known before it is read counts as a decoded one of its
    kind. Any thread."""
    sizes = [_sent_bytes(one) for one in part.parts or (part,)]
    return MediaSize(sum(USUAL_BYTES[part.kind] if size is None else size for size in sizes))


def in_base64(num_bytes: int) -> int:
    """https://datatracker.ietf.org/doc/html/rfc4648#section-4"""
    return -(-num_bytes // 3) * 4


def _sent_bytes(part: Part) -> int | None:
    from engine.media.fetch import is_data_url

    if part.path is not None:
        try:
            return in_base64(Path(part.path).stat().st_size)
        except OSError:
            return None  # whoever reads it says so
    return len(part.url) if part.url and is_data_url(part.url) else None
