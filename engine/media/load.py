"""load_media: a part becomes a medium. Called in the media pool, one call per part."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Hashable
from dataclasses import replace

from engine.config import MediaLimits
from engine.media.audio import decode_sound
from engine.media.fetch import read_part
from engine.media.frame_list import load_frames
from engine.media.image import decode_image
from engine.media.medium import refuse
from engine.media.moving import decode_moving
from engine.media.sniff import WORDS, mismatch, sniff
from engine.types import FrameSampling, Part
from engine.types.media import Media

UNREAD = ("JPEG XL", "Photoshop")
ClipDecoder = Callable[[Part, bytes, MediaLimits, FrameSampling], Media]
Known = Callable[[Hashable, Callable[[], Media]], Media]


def decode_anew(_content: Hashable, decode: Callable[[], Media]) -> Media:
    """Knows nothing."""
    return decode()


def load_media(
    part: Part,
    limits: MediaLimits,
    frames: FrameSampling,
    decode_clip: ClipDecoder = decode_moving,
    known: Known = decode_anew,
) -> Media:
    """Fetch, recognise and decode one part of kind image, video or audio.

    decode_clip: who decodes clips; the engine has it done in another process (engine.media.child).
    known: may give what was decoded from the same bytes, sampled alike; lists of frames are always decoded.
    Thread: any (the media pool). Blocks for as long as the limits allow. Raises BadMedia, and nothing else for bad
    input: unreachable, too large, not what it should be, truncated, outside the limits.
    """
    if part.parts:
        media = load_frames(part, limits, frames)
    else:
        started = time.perf_counter()
        data = read_part(part, limits)
        fetched = time.perf_counter()
        content = (part.kind, hashlib.sha256(data).digest(), frames if part.kind == "video" else None)
        media = known(
            content, lambda: _decode(part, data, limits, lambda data: decode_clip(part, data, limits, frames))
        )
        decoded = time.perf_counter()
        media = replace(media, fetch_ms=(fetched - started) * 1000, decode_ms=(decoded - fetched) * 1000)
    return replace(media, max_pixels=frames.max_pixels) if part.kind == "video" else media


def _decode(part: Part, data: bytes, limits: MediaLimits, decode_clip: Callable[[bytes], Media]) -> Media:
    if not data:
        raise refuse(part, f"the {WORDS[part.kind]} is empty (0 bytes)")
    found = sniff(data)
    if found.name in UNREAD:
        raise refuse(part, f"{found.name} files are not read; send a JPEG, PNG or WebP picture")
    if part.kind == "video":
        return decode_clip(data)
    if part.kind == "image" and found.kind == "image":
        return decode_image(part, data, limits)
    if part.kind == "audio" and found.kind == "audio":
        return decode_sound(part, data, limits)
    raise refuse(part, mismatch(part.kind, found))
