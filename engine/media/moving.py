"""What is sent as a clip: a video file or an animated picture, told by its bytes."""

from __future__ import annotations

from engine.config import MediaLimits
from engine.media.animation import open_animation
from engine.media.chosen import ChosenFrames, collect
from engine.media.image import animation_frames
from engine.media.medium import bad_media
from engine.media.sniff import mismatch, sniff
from engine.media.video import open_clip
from engine.types import FrameSampling, Part
from engine.types.media import Media


def decode_moving(part: Part, data: bytes, limits: MediaLimits, frames: FrameSampling) -> Media:
    """Decode the chosen frames. Raises BadMedia: not a clip, damaged, over a limit."""
    return collect(open_moving(part, data, limits, frames))


def open_moving(part: Part, data: bytes, limits: MediaLimits, frames: FrameSampling) -> ChosenFrames:
    """As decode_moving, but the frames are decoded one by one, as they are asked for."""
    found = sniff(data)
    if found.kind == "video":
        return open_clip(part, data, limits, frames)
    if found.kind == "image" and animation_frames(part, data, limits) > 1:
        return open_animation(part, data, limits, frames)
    raise bad_media(part, mismatch("video", found))
