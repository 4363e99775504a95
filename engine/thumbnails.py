"""Small pictures of what was sent, for the tabs: by content hash, bounded in number, in memory only."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.media import Media

_SIZE_PX = 160
_MAX_THUMBNAILS = 256


class Thumbnails:
    """PNG bytes by sha256 of the content. The media pool writes, any thread reads: single dict operations."""

    def __init__(self) -> None:
        self._by_content: dict[str, bytes] = {}

    def keep(self, medium: Media) -> None:
        """Remember a picture, or a clip's first frame."""
        if medium.kind == "audio" or medium.sha256 in self._by_content:
            return
        from PIL import Image

        image = Image.fromarray(medium.pixels if medium.kind == "image" else medium.pixels[0])
        image.thumbnail((_SIZE_PX, _SIZE_PX))
        out = io.BytesIO()
        image.save(out, "PNG")
        self._by_content[medium.sha256] = out.getvalue()
        while len(self._by_content) > _MAX_THUMBNAILS:
            self._by_content.pop(next(iter(self._by_content)), None)

    def get(self, sha256: str) -> bytes | None:
        return self._by_content.get(sha256)
