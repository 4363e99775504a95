"""Clips: the chosen frames as (T, H, W, 3) uint8 RGB, with their exact indices and times.

    bytes ── clip_index: when each frame is shown ── frames: which are chosen ── clip_reader: decoded ── display: RGB

Frames come one by one, so that a clip holds no more memory than the file and a few frames, however long or large it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from engine.config import MediaLimits
from engine.media.chosen import ChosenFrames, choose, collect
from engine.media.clip_file import TimeLimit
from engine.media.clip_index import ClipIndex, index_clip
from engine.media.clip_reader import ClipReader
from engine.media.display import Display
from engine.media.frames import CLIP_PIXELS, Clip
from engine.media.medium import bad_media
from engine.types import FrameSampling, Part
from engine.types.media import Media, Pixels


def decode_clip(part: Part, data: bytes, limits: MediaLimits, frames: FrameSampling) -> Media:
    """Decode the chosen frames of a video file. Raises BadMedia: not readable, no frames, truncated, over a limit."""
    return collect(open_clip(part, data, limits, frames))


def open_clip(part: Part, data: bytes, limits: MediaLimits, frames: FrameSampling) -> ChosenFrames:
    """Find out when each frame is shown and which are chosen; they are decoded as they are asked for."""
    time_limit = TimeLimit.of(limits.decode_timeout_s)
    index = index_clip(part, data, time_limit)
    width, height = index.shape.shown(index.first.width, index.first.height)
    check_size(part, (width, height), limits)
    clip = Clip(index.times_s, index.end_s, width, height)
    indices = choose(part, clip, limits, frames)
    kept = _kept_size((width, height), len(indices), limits)
    display = Display(part, index.shape, kept)
    reader = ClipReader(part, data, index, time_limit)
    return ChosenFrames(
        clip,
        (len(indices), kept[1], kept[0], 3),
        (width, height),
        len(data),
        _shown(reader, display, index, indices),
    )


def _shown(
    reader: ClipReader, display: Display, index: ClipIndex, indices: Sequence[int]
) -> Iterator[tuple[int, Pixels]]:
    """Every chosen frame, one that is chosen twice decoded once."""
    singles = sorted(set(indices))
    if index.first.interlaced_frame:
        frames = _with_neighbours(reader, singles, len(index.stamps))
    else:
        frames = _alone(reader, singles)
    for wanted, (source, group, place) in zip(singles, frames, strict=True):
        pixels = display.show(group, place)
        for _ in range(indices.count(wanted)):
            yield source, pixels


def _alone(reader: ClipReader, wanted: Sequence[int]) -> Iterator[tuple[int, list[Any], int]]:
    return ((source, [frame], 0) for source, frame in reader.frames(wanted))


def _with_neighbours(reader: ClipReader, wanted: Sequence[int], num: int) -> Iterator[tuple[int, list[Any], int]]:
    """(index, the frame with the one before and the one after, its place among them)."""
    around = {index: [i for i in (index - 1, index, index + 1) if 0 <= i < num] for index in wanted}
    needed = sorted({i for group in around.values() for i in group})
    decoded: dict[int, tuple[int, Any]] = {}
    frames = zip(needed, reader.frames(needed), strict=True)
    for index, group in around.items():
        while group[-1] not in decoded:
            asked, read = next(frames)
            decoded[asked] = read
        yield decoded[index][0], [decoded[i][1] for i in group], group.index(index)
        decoded = {i: read for i, read in decoded.items() if i >= index}


def check_size(part: Part, size: tuple[int, int], limits: MediaLimits) -> None:
    """Raises BadMedia for frames of more pixels than are allowed."""
    width, height = size
    if width * height > limits.max_pixels:
        allowed = f"at most {limits.max_pixels:,} pixels are allowed"
        raise bad_media(part, f"frames of {width} x {height} pixels; {allowed}")


def _kept_size(size: tuple[int, int], count: int, limits: MediaLimits) -> tuple[int, int]:
    """(width, height) to keep, so that all frames together stay within the memory that a clip may take."""
    width, height = size
    scale = min(1.0, math.sqrt(CLIP_PIXELS * limits.max_pixels / (count * width * height)))
    return max(1, int(width * scale)), max(1, int(height * scale))
