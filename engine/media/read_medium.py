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
from engine.media.image import animation_frames, decode_image
from engine.media.medium import bad_media
from engine.media.sniff import WORDS, mismatch, sniff
from engine.types import FrameSampling, Part
from engine.types.media import Media

UNREAD = ("JPEG XL", "Photoshop")
ClipDecoder = Callable[[Part, bytes, MediaLimits, FrameSampling], Media]
Known = Callable[[Hashable, Callable[[], Media]], Media]


def decode_anew(_content: Hashable, decode: Callable[[], Media]) -> Media:
    """Nothing was decoded before."""
    return decode()


def decode_here(part: Part, data: bytes, limits: MediaLimits, frames: FrameSampling) -> Media:
    """Clips are decoded in this process, by a decoder that is imported for the first of them."""
    from engine.media.moving import decode_moving

    return decode_moving(part, data, limits, frames)


def accept(_data: bytes) -> None:
    """Every medium may be decoded."""


@dataclass(frozen=True, slots=True)
class Steps:
    """How the steps of loading are done; the engine puts its own in their place.

    read: where bytes come from. check: told the bytes of a medium before it is decoded, and may raise. decode_clip: who
    decodes clips; the engine has it done in another process (engine.media.child). known: may give what was decoded from
    the same bytes, sampled alike; lists of frames are always decoded. takes_clips: whether the model does, so that
    pictures that move become clips.
    """

    read: ContentReader = read_content
    check: Callable[[bytes], None] = accept
    decode_clip: ClipDecoder = decode_here
    known: Known = decode_anew
    takes_clips: bool = False


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
        is_clip = part.kind == "video" or _moves(part, source.data, limits, steps.takes_clips)
        kind = "video" if is_clip else part.kind
        content = (kind, hashlib.sha256(source.data).digest(), frames if is_clip else part.crop_px)

        def decode_clip() -> Media:
            return steps.decode_clip(part, source.data, limits, frames)

        media = steps.known(content, lambda: _decode(part, source.data, limits, decode_clip if is_clip else None))
        media = replace(media, fetch_ms=source.fetch_ms, decode_ms=(time.perf_counter() - started) * 1000)
    if part.label:
        media = replace(media, notes=(part.label, *media.notes))
    return replace(media, max_pixels=_clip_pixels(part, media, frames)) if media.kind == "video" else media


def _moves(part: Part, data: bytes, limits: MediaLimits, takes_clips: bool) -> bool:
    """Whether a picture goes in as a clip: it moves, and nobody said otherwise. Raises BadMedia where it must, and
    cannot."""
    if part.kind != "image" or part.animated is False or part.crop_px or not (takes_clips or part.animated):
        return False
    moves = animation_frames(part, data, limits) > 1
    if part.animated and not moves:
        raise bad_media(part, "animated is true, but this is a still picture")
    if part.animated and not takes_clips:
        raise bad_media(part, "animated is true, but this model takes no clips")
    return moves


def _clip_pixels(part: Part, clip: Media, frames: FrameSampling) -> int | None:
    """The most of all frames together. What the part asks for holds for each frame."""
    if part.max_pixels is None:
        return frames.max_pixels
    return min(part.max_pixels * len(clip.frames), frames.max_pixels or part.max_pixels * len(clip.frames))


def _decode(part: Part, data: bytes, limits: MediaLimits, decode_clip: Callable[[], Media] | None) -> Media:
    """decode_clip: for what goes in as a clip."""
    if not data:
        raise bad_media(part, f"the {WORDS[part.kind]} is empty (0 bytes)")
    found = sniff(data)
    if found.name in UNREAD:
        raise bad_media(part, f"{found.name} files are not read; send a JPEG, PNG or WebP picture")
    if decode_clip is not None:
        return decode_clip()
    if part.kind == "image" and found.kind == "image":
        return decode_image(part, data, limits)
    if part.kind == "audio" and found.kind == "audio":
        return decode_sound(part, data, limits)
    raise bad_media(part, mismatch(part.kind, found))
