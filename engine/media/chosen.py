"""The frames that were chosen of a clip, before and after they are decoded; without a decoder, so that a server that is
sent no clip does not load one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from engine.config import MediaLimits
from engine.media.frames import Clip, choose_frames
from engine.media.medium import bad_media, content_sha256
from engine.types import FrameSampling, Part
from engine.types.media import Media, Pixels


@dataclass(frozen=True, slots=True, eq=False)
class ChosenFrames:
    """The frames of a clip that the model gets, not yet decoded.

    shape: (T, H, W, 3) of all of them. decoded_px: (width, height) of the source as shown. num_bytes: of the file.
    frames: gives T times (index in the source, pixels (H, W, 3) uint8 RGB), once. Raises BadMedia.
    """

    clip: Clip
    shape: tuple[int, int, int, int]
    decoded_px: tuple[int, int]
    num_bytes: int
    frames: Iterator[tuple[int, Pixels]]


@dataclass(frozen=True, slots=True, eq=False)
class SampledFrames:
    """Frames read from a clip: pixels (T, H, W, 3), their (index, time in s), and the size they were decoded at."""

    pixels: Pixels
    frames: tuple[tuple[int, float], ...]
    decoded_px: tuple[int, int]


def collect(chosen: ChosenFrames) -> Media:
    """Decode and keep the frames."""
    pixels = np.zeros(chosen.shape, np.uint8)
    sources = []
    for slot, (source, frame) in enumerate(chosen.frames):
        pixels[slot] = frame
        sources.append((source, chosen.clip.time_s(source)))
    assert len(sources) == len(pixels), "a frame is missing"
    return as_media(chosen.clip, SampledFrames(pixels, tuple(sources), chosen.decoded_px), chosen.num_bytes)


def as_media(clip: Clip, sampled: SampledFrames, num_bytes: int) -> Media:
    return Media(
        kind="video",
        pixels=sampled.pixels,
        sha256=content_sha256(sampled.pixels),
        num_bytes=num_bytes,
        decoded_px=sampled.decoded_px,
        frames=sampled.frames,
        source_fps=clip.fps,
        num_source_frames=clip.num_frames,
        duration_s=clip.duration_s,
    )


def choose(part: Part, clip: Clip, limits: MediaLimits, frames: FrameSampling) -> tuple[int, ...]:
    """choose_frames within the limits, with errors that name the part."""
    if clip.duration_s > limits.max_seconds:
        raise bad_media(part, f"the clip lasts {clip.duration_s:.6g} s; at most {limits.max_seconds:g} s are allowed")
    if frames.max_frames and frames.max_frames > limits.max_frames:
        raise bad_media(part, f"{frames.max_frames} frames asked for; at most {limits.max_frames} are allowed")
    try:
        return choose_frames(clip, frames, limits.max_frames)
    except ValueError as error:
        raise bad_media(part, str(error)) from error
