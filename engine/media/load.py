"""load_media: a part becomes a medium. Fetching (waiting) and decoding (computing) can be done apart.

remote_parts ──> read_content, in threads that wait ──> contents ──> load_media, in threads that compute
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace

from engine.config import MediaLimits
from engine.media.audio import decode_sound
from engine.media.fetch import ContentReader, is_remote, read_content
from engine.media.frame_list import chosen_indices, load_frames
from engine.media.image import decode_image
from engine.media.medium import refuse
from engine.media.moving import decode_moving
from engine.media.sniff import WORDS, mismatch, sniff
from engine.types import FrameSampling, Part
from engine.types.media import Media

UNREAD = ("HEIC", "HEIF")
ClipDecoder = Callable[[Part, bytes, MediaLimits, FrameSampling], Media]
Known = Callable[[Hashable, Callable[[], Media]], Media]


def decode_anew(_content: Hashable, decode: Callable[[], Media]) -> Media:
    """Nothing was decoded before."""
    return decode()


def accept(_data: bytes) -> None:
    """Every medium may be decoded."""


@dataclass(frozen=True, slots=True)
class Steps:
    """How the steps of loading are done; the engine puts its own in their place.

    read: where bytes come from. check: told the bytes of a medium before it is decoded, and may raise. decode_clip: who
    decodes clips; the engine has it done in another process (engine.media.child). known: may give what was decoded from
    the same bytes, sampled alike; lists of frames are always decoded.
    """

    read: ContentReader = read_content
    check: Callable[[bytes], None] = accept
    decode_clip: ClipDecoder = decode_moving
    known: Known = decode_anew


def remote_parts(part: Part, limits: MediaLimits, frames: FrameSampling) -> list[Part]:
    """What has to be fetched over the network to load a part: itself, or those frames of a list that will be shown.

    Raises BadMedia for a list of which no such frames can be chosen.
    """
    if not part.parts:
        return [part] if is_remote(part) else []
    frame_parts = (part.parts[index] for index in sorted(set(chosen_indices(part, limits, frames))))
    return [frame for frame in frame_parts if is_remote(frame)]


def load_media(part: Part, limits: MediaLimits, frames: FrameSampling, steps: Steps | None = None) -> Media:
    """Fetch, recognise and decode one part of kind image, video or audio.

    Thread: any (the media pool). Blocks for as long as the limits allow. Raises BadMedia, and nothing else for bad
    input: unreachable, too large, not what it should be, truncated, outside the limits.
    """
    steps = steps or Steps()
    if part.parts:
        media = load_frames(part, limits, frames, steps.read)
    else:
        source = steps.read(part, limits)
        steps.check(source.data)
        started = time.perf_counter()
        content = (part.kind, hashlib.sha256(source.data).digest(), frames if part.kind == "video" else None)

        def decode() -> Media:
            return _decode(part, source.data, limits, lambda data: steps.decode_clip(part, data, limits, frames))

        media = steps.known(content, decode)
        media = replace(media, fetch_ms=source.fetch_ms, decode_ms=(time.perf_counter() - started) * 1000)
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
