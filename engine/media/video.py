"""Clips: the chosen frames as (T, H, W, 3) uint8 RGB, read by seeking, with their exact indices and times.

The container is read from memory through OpenCV's FFmpeg, which is given bytes and no file name: a playlist or a
reference inside a clip has nothing to open. Memory holds the file and the chosen frames, however long the clip is.
"""

from __future__ import annotations

import io
import math
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import cv2
import numpy as np

from engine.config import MediaLimits
from engine.media.frames import PAIR, Clip, choose_frames
from engine.media.medium import content_sha256, refuse
from engine.types import FrameSampling, Part
from engine.types.media import Media, Pixels

GRAB_AHEAD = 32
"""Up to this many frames are passed over by decoding on; a seek would decode from the last key frame anyway."""

CLIP_PIXELS = 2
"""All frames of a clip together may hold this many times limits.max_pixels; beyond it they are made smaller."""

LOST_SHARE = 0.1
"""Containers estimate their frame count. If more than this share of the clip is missing, it is called truncated."""

OFF_FRAMES = 2.5
"""A frame this far from where an even rate puts it says that the rate is not even."""

EXACT_S = 15.0
"""How long a clip of uneven rate may be passed over to learn the time of every frame."""


def decode_clip(part: Part, data: bytes, limits: MediaLimits, frames: FrameSampling) -> Media:
    """Decode the chosen frames of a video file. Raises BadMedia: not readable, no frames, truncated, over a limit.

    Frames are found by seeking, which is exact where the rate is even. Where their times say that it is not (phones,
    screen recordings), or one is missing, every frame is passed over once to learn its time; a clip that is too long
    for that keeps the frames that seeking found, with their true times.
    """
    with _opened(part, data) as capture:
        reader = ClipReader(part, capture, limits)
        clip = reader.facts()
        taken = reader.take(choose(part, clip, limits, frames))
        if taken is not None and _is_regular(clip, taken):
            return as_media(clip, taken, len(data))
        times_s = reader.all_times(EXACT_S if taken is not None else None)
        codec = reader.codec()
    if times_s is None:
        assert taken is not None
        return as_media(clip, taken, len(data))
    if not times_s:
        raise refuse(part, f"its codec ({codec}) cannot be decoded here; convert the clip to H.264 (MP4) and send that")
    ends_s = times_s[-1] + 1 / clip.fps
    if taken is None and ends_s < clip.duration_s * (1 - LOST_SHARE):
        why = f"it ends after frame {len(times_s)} of {clip.num_frames}"
        raise refuse(part, f"the clip is truncated or damaged: {why}")
    clip = replace(clip, num_frames=len(times_s), fps=len(times_s) / ends_s)
    with _opened(part, data) as capture:  # anew: after its end was met, a stream may refuse to go back
        reader = ClipReader(part, capture, limits, can_seek=False)
        indices = choose(part, clip, limits, frames)
        taken = reader.take(indices if frames.indices else _at_times(times_s, clip, indices))
    if taken is None:
        raise refuse(part, "the clip's frames cannot be decoded")
    return as_media(clip, taken, len(data))


def _at_times(times_s: list[float], clip: Clip, indices: tuple[int, ...]) -> tuple[int, ...]:
    """The frames that are nearest in time to those of an even rate: ascending, each once, an even number."""
    wanted = [index / clip.fps for index in indices]
    found = sorted({min(_around(times_s, time_s), key=lambda i: abs(times_s[i] - time_s)) for time_s in wanted})
    return tuple(found + found[-1:] * (len(found) % PAIR))


def _around(times_s: list[float], time_s: float) -> range:
    """The frame before a time and the one after it."""
    after = bisect_left(times_s, time_s)
    return range(max(0, after - 1), min(after, len(times_s) - 1) + 1)


@dataclass(frozen=True, slots=True, eq=False)
class SampledFrames:
    """Frames read from a clip: pixels (T, H, W, 3), their (index, time in s), and the size they were decoded at."""

    pixels: Pixels
    frames: tuple[tuple[int, float], ...]
    decoded_px: tuple[int, int]


def _is_regular(clip: Clip, taken: SampledFrames) -> bool:
    """Whether every frame lies where an even rate puts it. Some containers begin a frame or two late."""
    return all(abs(time_s * clip.fps - index) < OFF_FRAMES for index, time_s in taken.frames)


def as_media(clip: Clip, taken: SampledFrames, num_bytes: int) -> Media:
    return Media(
        kind="video",
        pixels=taken.pixels,
        sha256=content_sha256(taken.pixels),
        num_bytes=num_bytes,
        decoded_px=taken.decoded_px,
        frames=taken.frames,
        source_fps=clip.fps,
        num_source_frames=clip.num_frames,
        duration_s=clip.duration_s,
    )


def choose(part: Part, clip: Clip, limits: MediaLimits, frames: FrameSampling) -> tuple[int, ...]:
    """choose_frames within the limits, with errors that name the part."""
    if clip.duration_s > limits.max_seconds:
        raise refuse(part, f"the clip lasts {clip.duration_s:.0f} s; at most {limits.max_seconds:g} s are allowed")
    if frames.max_frames and frames.max_frames > limits.max_frames:
        raise refuse(part, f"{frames.max_frames} frames asked for; at most {limits.max_frames} are allowed")
    try:
        return choose_frames(clip, frames, limits.max_frames)
    except ValueError as error:
        raise refuse(part, str(error)) from error


class ClipReader:
    """One open clip. Belongs to the thread that opened it; `take` may be called again with other indices."""

    def __init__(self, part: Part, capture: cv2.VideoCapture, limits: MediaLimits, *, can_seek: bool = True) -> None:
        self._can_seek = can_seek
        self._part = part
        self._capture = capture
        self._limits = limits
        self._deadline = time.monotonic() + limits.decode_timeout_s
        self._next = 0

    def facts(self) -> Clip:
        """What the container says; counts the frames where it does not say it. Raises BadMedia."""
        get = self._capture.get
        fps, num_frames = get(cv2.CAP_PROP_FPS), int(get(cv2.CAP_PROP_FRAME_COUNT))
        width, height = int(get(cv2.CAP_PROP_FRAME_WIDTH)), int(get(cv2.CAP_PROP_FRAME_HEIGHT))
        if width < 1 or height < 1:
            raise refuse(self._part, "the file has no video stream")
        if width * height > self._limits.max_pixels:
            allowed = f"at most {self._limits.max_pixels:,} pixels are allowed"
            raise refuse(self._part, f"frames of {width} x {height} pixels; {allowed}")
        if not math.isfinite(fps) or fps <= 0:
            fps = 25.0  # raw streams carry no rate; times are then nominal
        if num_frames < 1:
            num_frames = self.count_frames()
        if num_frames < 1:
            raise refuse(self._part, f"the clip has no frames that can be decoded (codec {self.codec()})")
        return Clip(num_frames, fps, width, height)

    def take(self, indices: tuple[int, ...]) -> SampledFrames | None:
        """Read these frames, ascending. None where one is missing: the container promised more than it has."""
        pixels: Pixels | None = None
        frames: list[tuple[int, float]] = []
        size = (0, 0)
        for slot, index in enumerate(indices):
            if slot and index == indices[slot - 1]:
                assert pixels is not None
                pixels[slot], repeated = pixels[slot - 1], frames[-1]
                frames.append(repeated)
                continue
            read = self._read(index)
            if read is None:
                return None
            frame, time_s = read
            size = (frame.shape[1], frame.shape[0])
            if pixels is None:
                pixels = np.empty((len(indices), *self._kept_size(size, len(indices)), 3), np.uint8)
            pixels[slot] = _fit(frame, pixels.shape[1:3])
            frames.append((index, time_s))
        return SampledFrames(pixels, tuple(frames), size) if pixels is not None else None

    def count_frames(self) -> int:
        return len(self.all_times() or ())

    def all_times(self, budget_s: float | None = None) -> list[float] | None:
        """The time of every frame in seconds, by decoding from the start to the end; None when it takes longer."""
        until = math.inf if budget_s is None else time.monotonic() + budget_s
        self._seek(0)
        times_s: list[float] = []
        while self._capture.grab():
            times_s.append(round(self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, 6))
            self._check_time()
            if time.monotonic() > until:
                return None
        self._next = -1
        return times_s

    def _read(self, index: int) -> tuple[Pixels, float] | None:
        """One frame, (H, W, 3) BGR, and its time in seconds."""
        self._check_time()
        if self._can_seek and not 0 <= index - self._next <= GRAB_AHEAD:
            self._seek(index)
        for _ in range(index - self._next):
            if not self._capture.grab():
                return None
        ok, frame = self._capture.read()
        self._next = index + 1
        if not ok or frame is None:
            return None
        return np.asarray(frame, np.uint8), round(self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, 6)

    def _seek(self, index: int) -> None:
        self._capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        self._next = index

    def _kept_size(self, size: tuple[int, int], count: int) -> tuple[int, int]:
        """(height, width) to keep, so that all frames together stay within the memory a clip may take."""
        width, height = size
        budget = CLIP_PIXELS * self._limits.max_pixels
        scale = min(1.0, math.sqrt(budget / (count * width * height)))
        return max(1, int(height * scale)), max(1, int(width * scale))

    def _check_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise refuse(self._part, f"decoding the clip took longer than {self._limits.decode_timeout_s:g} s")

    def codec(self) -> str:
        """Four letters, as the container names it."""
        code = int(self._capture.get(cv2.CAP_PROP_FOURCC)) & 0xFFFFFFFF
        name = code.to_bytes(4, "little").decode("ascii", errors="replace").strip("\x00 ")
        return name if name.isprintable() and name else "unknown"


def _fit(frame: Pixels, size: tuple[int, ...]) -> Pixels:
    """BGR to RGB, made smaller where the clip's memory asks for it."""
    height, width = size
    if frame.shape[:2] != (height, width):
        frame = np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)


@contextmanager
def _opened(part: Part, data: bytes) -> Iterator[cv2.VideoCapture]:
    """A capture over bytes in memory, always released."""
    try:
        source = cast(Any, io.BytesIO(data))  # OpenCV takes any buffered reader; its stubs name only their own
        capture = cv2.VideoCapture(source, cv2.CAP_FFMPEG, [])
    except cv2.error as error:
        raise refuse(part, "the clip cannot be opened: its data is damaged") from error
    try:
        if not capture.isOpened():
            raise refuse(part, "the clip cannot be opened: it is damaged, cut off, or its codec is not supported")
        yield capture
    except cv2.error as error:
        if "memory" in str(error).lower():
            raise refuse(part, "the clip does not fit in the memory that decoding may take") from error
        raise refuse(part, "the clip cannot be decoded: its data is damaged") from error
    finally:
        capture.release()
