"""Small pictures of what was sent, as `data:` URLs: the page shows them without a route that others could ask."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from engine.bounded import BoundedCache

if TYPE_CHECKING:
    from PIL import Image

SIZE_PX = 96
SHOWN_PX = 640
MAX_HELD = 256
SHEET_PX = (48, 36)
MAX_SHEETS = 32
MAX_BYTES = 16 * 1024**2


class Miniatures:
    """`data:` URLs by content hash, made at first use. read: Engine.thumbnail, of a frame too; None when forgotten,
    and then it is forgotten here too."""

    def __init__(self, read: Callable[..., bytes | None]) -> None:
        self._read = read
        self._urls: BoundedCache[str, str] = BoundedCache(MAX_HELD, MAX_BYTES, len)
        self._sheets: BoundedCache[tuple[str, int], str] = BoundedCache(MAX_SHEETS, MAX_BYTES, len)

    def sheet(self, content: str, num_frames: int) -> str | None:
        """A clip's first frames side by side in one picture, each SHEET_PX; None where they are forgotten."""
        frames = [jpeg for frame in range(num_frames) if (jpeg := self._read(content, frame)) is not None]
        if not frames or len(frames) < num_frames:
            self._sheets.pop((content, num_frames))
            return None
        return self._sheets.get_or_make((content, num_frames), lambda: _sheet(frames))

    def urls(self, contents: Iterable[str]) -> dict[str, str]:
        """Those of the contents that are known, each once."""
        urls = {content: self._url(content) for content in dict.fromkeys(contents)}
        return {content: url for content, url in urls.items() if url is not None}

    def _url(self, content: str) -> str | None:
        png = self._read(content)
        if png is None:
            self._urls.pop(content)
            return None
        return self._urls.get_or_make(content, lambda: _encode(png))


async def data_urls(pngs: Iterable[bytes]) -> list[str]:
    """Pictures in their own size, up to SHOWN_PX. The event loop gets a turn after each of them."""
    urls = []
    for png in pngs:
        urls.append(_encode(png, SHOWN_PX))
        await asyncio.sleep(0)
    return urls


def _sheet(frames: list[bytes]) -> str:
    """One picture for all: a tenth of what as many of their own would take."""
    from PIL import Image, ImageOps

    width, height = SHEET_PX
    whole = Image.new("RGB", (width * len(frames), height))
    for place, frame in enumerate(frames):
        whole.paste(ImageOps.fit(Image.open(io.BytesIO(frame)).convert("RGB"), SHEET_PX), (place * width, 0))
    return _url(whole)


def _encode(png: bytes, longest_px: int = SIZE_PX) -> str:
    """A tenth of the PNG's size: a page gets twenty of them at a time."""
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.thumbnail((longest_px, longest_px))
    return _url(image)


def _url(image: Image.Image) -> str:
    out = io.BytesIO()
    image.save(out, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"
