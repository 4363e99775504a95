"""Animated pictures (GIF, WebP, PNG) sent as clips. Frames have durations of their own; times are their sums."""

from __future__ import annotations

import time
from itertools import accumulate

import numpy as np
from PIL import Image

from engine.config import MediaLimits
from engine.media.frames import Clip
from engine.media.image import decoding, open_checked, to_rgb
from engine.media.medium import refuse
from engine.media.video import CLIP_PIXELS, SampledFrames, as_media, choose
from engine.types import FrameSampling, Part
from engine.types.media import Media

UNSET_MS = 100
"""Browsers show frames without a duration for a tenth of a second."""


def decode_animation(part: Part, data: bytes, limits: MediaLimits, frames: FrameSampling) -> Media:
    """Decode the chosen frames of an animated picture. Raises BadMedia: damaged, over a limit."""
    deadline = time.monotonic() + limits.decode_timeout_s
    with decoding(part, "animation"):
        image = open_checked(part, data, limits)
        starts_s = _frame_times(part, image, deadline)
        num_frames, (width, height) = len(starts_s) - 1, image.size
        clip = Clip(num_frames, num_frames / starts_s[-1], width, height)
        indices = choose(part, clip, limits, frames)
        if len(indices) * width * height > CLIP_PIXELS * limits.max_pixels:
            raise refuse(part, f"{len(indices)} frames of {width} x {height} pixels are too many; ask for fewer frames")
        pixels = np.stack([_frame(part, image, index) for index in indices])
    picked = tuple((index, starts_s[index]) for index in indices)
    return as_media(clip, SampledFrames(pixels, picked, (width, height)), len(data))


def _frame_times(part: Part, image: Image.Image, deadline: float) -> list[float]:
    """Start of every frame in seconds, and the end of the last one."""
    durations_ms = []
    for index in range(getattr(image, "n_frames", 1)):
        if time.monotonic() > deadline:
            raise refuse(part, "decoding the animation took too long")
        image.seek(index)
        image.load()  # WebP knows the duration only once the frame is decoded
        durations_ms.append(image.info.get("duration") or UNSET_MS)
    return [round(total / 1000, 6) for total in accumulate(durations_ms, initial=0)]


def _frame(part: Part, image: Image.Image, index: int) -> np.ndarray:
    image.seek(index)
    image.load()
    return to_rgb(part, image)
