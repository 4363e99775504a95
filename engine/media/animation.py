"""Animated pictures (GIF, WebP, PNG, AVIF) sent as clips. Frames have durations of their own; times are their sums."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
from PIL import Image

from engine.config import MediaLimits
from engine.media.chosen import ChosenFrames, choose
from engine.media.frames import CLIP_PIXELS, Clip
from engine.media.image import decoding, open_checked, to_rgb
from engine.media.medium import bad_media
from engine.types import FrameSampling, Part
from engine.types.media import Pixels

SHORTEST_MS = 11
UNSET_MS = 100
"""Browsers show frames without a duration, or with one of a hundredth of a second, for a tenth."""


def open_animation(part: Part, data: bytes, limits: MediaLimits, frames: FrameSampling) -> ChosenFrames:
    """The chosen frames of an animated picture, decoded as they are asked for. Raises BadMedia: damaged, over a
    limit."""
    deadline = time.monotonic() + limits.decode_timeout_s
    with decoding(part, "animation"):
        image = open_checked(part, data, limits)
        starts_s = _frame_times(part, image, deadline)
    width, height = image.size
    clip = Clip(np.array(starts_s[:-1]), starts_s[-1], width, height)
    indices = choose(part, clip, limits, frames)
    if len(indices) * width * height > CLIP_PIXELS * limits.max_pixels:
        raise bad_media(part, f"{len(indices)} frames of {width} x {height} pixels are too many; ask for fewer frames")
    shape = (len(indices), height, width, 3)
    return ChosenFrames(clip, shape, (width, height), len(data), _shown(part, image, indices))


def _frame_times(part: Part, image: Image.Image, deadline: float) -> list[float]:
    """Start of every frame in seconds, and the end of the last one."""
    durations_ms = []
    for index in range(getattr(image, "n_frames", 1)):
        if time.monotonic() > deadline:
            raise bad_media(part, "decoding the animation took too long")
        image.seek(index)
        image.load()  # WebP knows the duration only once the frame is decoded
        duration_ms = image.info.get("duration") or 0
        durations_ms.append(duration_ms if duration_ms >= SHORTEST_MS else UNSET_MS)
    return [round(total / 1000, 6) for total in accumulate(durations_ms, initial=0)]


def _shown(part: Part, image: Image.Image, indices: Sequence[int]) -> Iterator[tuple[int, Pixels]]:
    with decoding(part, "animation"):
        for index in indices:
            image.seek(index)
            image.load()
            yield index, to_rgb(part, image)
