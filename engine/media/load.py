"""load_media: a part becomes a medium. Called in the media pool, one call per part."""

from __future__ import annotations

import time
from dataclasses import replace

from engine.config import MediaLimits
from engine.media.animation import decode_animation
from engine.media.audio import decode_sound
from engine.media.fetch import read_part
from engine.media.frame_list import load_frames
from engine.media.image import animation_frames, decode_image
from engine.media.medium import Media, refuse
from engine.media.sniff import Format, sniff
from engine.media.video import decode_clip
from engine.types import FrameSampling, Part

WORDS = {"image": "picture", "video": "clip", "audio": "sound"}
UNREAD = ("HEIC", "HEIF")


def load_media(part: Part, limits: MediaLimits, frames: FrameSampling) -> Media:
    """Fetch, recognise and decode one part of kind image, video or audio.

    Thread: any (the media pool). Blocks for as long as the limits allow. Raises BadMedia, and nothing else for bad
    input: unreachable, too large, not what it should be, truncated, outside the limits.
    """
    if part.parts:
        media = load_frames(part, limits, frames)
    else:
        started = time.perf_counter()
        data = read_part(part, limits)
        fetched = time.perf_counter()
        media = _decode(part, data, limits, frames)
        decoded = time.perf_counter()
        media = replace(media, fetch_ms=(fetched - started) * 1000, decode_ms=(decoded - fetched) * 1000)
    return replace(media, max_pixels=frames.max_pixels) if part.kind == "video" else media


def _decode(part: Part, data: bytes, limits: MediaLimits, frames: FrameSampling) -> Media:
    if not data:
        raise refuse(part, f"the {WORDS[part.kind]} is empty (0 bytes)")
    found = sniff(data)
    if found.name in UNREAD:
        raise refuse(part, f"{found.name} files are not read; send a JPEG, PNG or WebP picture")
    if part.kind == "image" and found.kind == "image":
        return decode_image(part, data, limits)
    if part.kind == "video" and found.kind == "video":
        return decode_clip(part, data, limits, frames)
    if part.kind == "audio" and found.kind == "audio":
        return decode_sound(part, data, limits)
    if part.kind == "video" and found.kind == "image" and animation_frames(part, data, limits) > 1:
        return decode_animation(part, data, limits, frames)
    raise refuse(part, _mismatch(part, found))


def _mismatch(part: Part, found: Format) -> str:
    wanted = WORDS[part.kind]
    if found.kind is None:
        return f"this is not a {wanted}: the bytes are {found.name}"
    if part.kind == "image" and found.kind == "video":
        return f"this is a clip ({found.name}), not a picture; send it as video_url"
    if part.kind == "video" and found.kind == "image":
        return f"this is a still picture ({found.name}), not a clip; send it as image_url"
    return f"this is a {WORDS[found.kind]} ({found.name}), not a {wanted}"
