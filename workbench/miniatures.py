"""Small pictures of what was sent, as `data:` URLs: the page shows them without a route that others could ask."""

from __future__ import annotations

import asyncio
import base64
import io
from collections import OrderedDict
from collections.abc import Callable, Iterable

SIZE_PX = 96
SHOWN_PX = 640
MAX_HELD = 256


class Miniatures:
    """`data:` URLs by content hash, made at first use. read: the engine's thumbnail as PNG, None when forgotten."""

    def __init__(self, read: Callable[[str], bytes | None]) -> None:
        self._read = read
        self._made: OrderedDict[str, str] = OrderedDict()

    def urls(self, contents: Iterable[str]) -> dict[str, str]:
        """Those of the contents that are known, each once."""
        found = {content: self._url(content) for content in dict.fromkeys(contents)}
        return {content: url for content, url in found.items() if url is not None}

    def _url(self, content: str) -> str | None:
        if content not in self._made:
            png = self._read(content)
            if png is None:
                return None
            self._made[content] = _encode(png)
            while len(self._made) > MAX_HELD:
                self._made.popitem(last=False)
        return self._made.get(content)


async def data_urls(pngs: Iterable[bytes]) -> list[str]:
    """Pictures in their own size, up to SHOWN_PX. The event loop gets a turn after each of them."""
    urls = []
    for png in pngs:
        urls.append(_encode(png, SHOWN_PX))
        await asyncio.sleep(0)
    return urls


def _encode(png: bytes, longest_px: int = SIZE_PX) -> str:
    """A tenth of the PNG's size: a page gets twenty of them at a time."""
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGB")
    image.thumbnail((longest_px, longest_px))
    out = io.BytesIO()
    image.save(out, "WEBP", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"
