"""A clip sent as a list of pictures: fetched and decoded as any picture, with times from the list's rate."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from engine.config import MediaLimits
from engine.media.chosen import SampledFrames, as_media, choose
from engine.media.fetch import ContentReader, read_content
from engine.media.frames import CLIP_PIXELS, DEFAULT_FPS, DEFAULT_MAX_FRAMES, PAIR, Clip
from engine.media.image import decode_image
from engine.media.medium import bad_media
from engine.types import FrameSampling, Part
from engine.types.media import Media

MOST_LIST_FPS = 1000.0
"""Times are told to the millisecond."""


def load_frames(part: Part, limits: MediaLimits, frames: FrameSampling, read: ContentReader = read_content) -> Media:
    """All frames of the list (an odd last one twice), or as many as the limits take, evenly. Raises BadMedia."""
    clip = _as_clip(part, frames)
    indices = chosen_indices(part, limits, frames)
    pictures: dict[int, Media] = {}
    fetch_ms = decode_ms = 0.0
    for index in sorted(set(indices)):
        content = read(part.parts[index], limits)
        started = time.perf_counter()
        pictures[index] = decode_image(part.parts[index], content.data, limits)
        fetch_ms += content.fetch_ms
        decode_ms += (time.perf_counter() - started) * 1e3
        _check_size(part.parts[index], pictures[index], pictures[indices[0]], (len(indices), limits))
    taken = SampledFrames(
        np.stack([pictures[index].pixels for index in indices]),
        tuple((index, clip.time_s(index)) for index in indices),
        pictures[indices[0]].decoded_px,
    )
    media = as_media(clip, taken, sum(picture.num_bytes for picture in pictures.values()))
    return replace(media, fetch_ms=fetch_ms, decode_ms=decode_ms)


def _as_clip(part: Part, frames: FrameSampling) -> Clip:
    """When the pictures are shown, at the list's rate. Raises BadMedia for one that is none."""
    fps = DEFAULT_FPS if frames.list_fps is None else frames.list_fps
    if not 0 < fps <= MOST_LIST_FPS:
        most = f"at most {MOST_LIST_FPS:g} frames a second"
        raise bad_media(part, f"the list's rate must be above 0 and {most}, not {fps:g}")
    return Clip.even(len(part.parts), fps)


def chosen_indices(part: Part, limits: MediaLimits, frames: FrameSampling) -> tuple[int, ...]:
    """Whoever sends a list has chosen already: all of it, unless a rate, a stretch or a number asks for less. Raises
    BadMedia."""
    clip = _as_clip(part, frames)
    asked = (frames.fps, frames.max_frames, frames.start_s, frames.end_s, frames.indices)
    fits = clip.num_frames <= min(DEFAULT_MAX_FRAMES, limits.max_frames) and clip.duration_s <= limits.max_seconds
    if fits and all(setting is None for setting in asked):
        every = tuple(range(clip.num_frames))
        return every + every[-1:] * (len(every) % PAIR)
    return choose(part, clip, limits, frames if frames.fps is not None else replace(frames, fps=clip.fps))


def _check_size(part: Part, picture: Media, first: Media, bounds: tuple[int, MediaLimits]) -> None:
    (width, height), (count, limits) = picture.decoded_px, bounds
    if picture.decoded_px != first.decoded_px:
        raise bad_media(
            part, f"the frame has {width} x {height} pixels, the first one {first.decoded_px}; send one size"
        )
    if count * width * height > CLIP_PIXELS * limits.max_pixels:
        raise bad_media(part, f"{count} frames of {width} x {height} pixels are too many; send fewer or smaller ones")
