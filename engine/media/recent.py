"""What was read last, kept for the next question about it: a chat sends all of its media every time. Any thread."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from engine.bounded import BoundedCache
from engine.config import MediaLimits
from engine.types import FrameSampling, Part, Request

if TYPE_CHECKING:
    from engine.media.fetch import Content
    from engine.types.media import Media

MAX_OUTLINES = 4096
"""Some hundred bytes each."""

DOCUMENT_BYTES = 64 * 1024**2
"""Pages of documents, as files of pictures, that are kept."""

MAX_DOCUMENTS = 256


class Outlines:
    """Facts of media without their pixels: all that is needed where the KV of them is stored.

    A medium is known by where it is from and what is there now, which is quicker than to read it: the hash of a data:
    URL, the date and size of a file.
    """

    def __init__(self) -> None:
        self._held: BoundedCache[Hashable, Media] = BoundedCache(MAX_OUTLINES, MAX_OUTLINES, lambda _: 1)

    def key(
        self, request: Request, part: Part, how: tuple[FrameSampling, bool], content: Content | None
    ) -> Hashable | None:
        """What says that a part gives the same medium as before: where it is from, as it is there now, and how it is
        read. None for what is never kept, and for what has yet to be fetched.

        how: its frames, and whether a picture that moves becomes a clip. content: of a part that was fetched.
        """
        from engine.media.fetch import fingerprint

        if part.parts or not request.reuse:
            return None
        source = fingerprint(part, content)
        return None if source is None else (request.tenant, source, replace(part, url=None, path=None, param=""), how)

    def get(self, key: Hashable | None) -> Media | None:
        return None if key is None else self._held.get(key)

    def put(self, key: Hashable | None, medium: Media) -> None:
        """Sounds are not kept: they are never known by a grid."""
        if key is not None and medium.kind != "audio":
            self._held.put(key, replace(medium, fetch_ms=0.0, decode_ms=0.0).without_pixels())

    def clear(self) -> None:
        self._held.clear()


class OpenDocuments:
    """What documents were turned into."""

    def __init__(self) -> None:
        self._held: BoundedCache[Hashable, tuple[Part, ...]] = BoundedCache(
            MAX_DOCUMENTS, DOCUMENT_BYTES, lambda parts: sum(len(part.url or part.text) for part in parts)
        )

    @property
    def num_bytes(self) -> float:
        return self._held.num_bytes

    def parts(self, request: Request, part: Part, data: bytes, limits: MediaLimits) -> tuple[Part, ...]:
        """As engine.media.document.document_parts; once for the same bytes of a tenant."""
        from engine.media.document import document_parts

        work = partial(document_parts, part, data, limits)
        if not request.reuse:
            return work()
        key = (request.tenant, hashlib.sha256(data).digest(), replace(part, url=None, path=None))
        return self._held.get_or_make(key, work)

    def clear(self) -> None:
        self._held.clear()
