"""Small pictures of what was sent, for the tabs: by content hash, in memory only, bounded in number and bytes."""

from __future__ import annotations

import io
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from engine.bounded import BoundedCache

if TYPE_CHECKING:
    from engine.types.media import Media, Pixels

_SIZE_PX = 160
_FRAME_PX = 64
_MAX_MEDIA = 1024
_MAX_FRAMES = 512
"""Of one clip: the first ones."""
_MAX_BYTES = 16 * 1024**2


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """whole: a picture, or a clip's first frame, as PNG. frames: a clip's, smaller, as JPEG."""

    whole: bytes
    frames: tuple[bytes, ...] = ()

    @property
    def num_bytes(self) -> int:
        return len(self.whole) + sum(map(len, self.frames))


class Thumbnails:
    """By sha256 of the content; what was sent longest ago goes first. The media pool writes, any thread reads."""

    def __init__(self) -> None:
        self._by_content: BoundedCache[str, Thumbnail] = BoundedCache(
            _MAX_MEDIA, _MAX_BYTES, lambda thumbnail: thumbnail.num_bytes
        )

    def keep(self, medium: Media) -> None:
        """Remember a picture, or a clip with its frames."""
        if medium.kind != "audio":
            self._by_content.get_or_make(medium.sha256, lambda: _made(medium))

    def get(self, sha256: str, frame: int | None = None) -> bytes | None:
        """frame: by its place among a clip's frames, from 0. None when it is forgotten, or there is no such frame."""
        thumbnail = self._by_content.get(sha256)
        if thumbnail is None or frame is None:
            return thumbnail.whole if thumbnail else None
        return thumbnail.frames[frame] if 0 <= frame < len(thumbnail.frames) else None

    def retain(self, contents: Collection[str]) -> None:
        """Forget all but those of these contents (sha256)."""
        self._by_content.retain(contents)


def reduced(clip: Media) -> Media:
    """The clip with no more pixels than its thumbnails need; holds none of its own."""
    step = max(1, max(clip.pixels.shape[1:3]) // (4 * _FRAME_PX))
    return replace(clip, pixels=clip.pixels[:_MAX_FRAMES, ::step, ::step].copy())


def _made(medium: Media) -> Thumbnail:
    if medium.kind == "image":
        return Thumbnail(_small(medium.pixels, _SIZE_PX, "PNG"))
    frames = tuple(_small(frame, _FRAME_PX, "JPEG") for frame in medium.pixels[:_MAX_FRAMES])
    return Thumbnail(_small(medium.pixels[0], _SIZE_PX, "PNG"), frames)


def _small(pixels: Pixels, size_px: int, kind: str) -> bytes:
    """pixels: uint8 RGB (H, W, 3). The longer side becomes size_px at most."""
    from PIL import Image

    # Every n-th pixel first: to average all of a large frame takes milliseconds, and a clip has dozens.
    step = max(1, max(pixels.shape[:2]) // (4 * size_px))
    image = Image.fromarray(pixels[::step, ::step].copy())
    image.thumbnail((size_px, size_px))
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()
