"""Which frames of a clip the model gets, by the time they are shown. Pure arithmetic: every kind of clip uses this one
sampler.

What one asks for has one rule each: more frames or a higher rate than there is gives every frame once; one frame is
that frame twice, since models read pairs; no number, zero, or less than zero is an error, and so is a stretch outside
the clip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.types import FrameSampling

DEFAULT_FPS = 2.0
DEFAULT_MIN_FRAMES = 4
DEFAULT_MAX_FRAMES = 64
PAIR = 2
"""Video models look at frames in pairs (temporal patch size 2), so the number of frames is even."""

CLIP_PIXELS = 2
"""All frames of a clip together may hold this many times limits.max_pixels; beyond it they are made smaller."""

TICK_S = 1e-3
"""Containers round times to a millisecond or less: nearer than this, two times are one."""

Times = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """When a clip shows its frames. times_s: float64 (N,), ascending, in seconds from the first frame, which is at 0;
    end_s: when the last one ends. width and height in pixels, as a player shows them."""

    times_s: Times
    end_s: float
    width: int
    height: int

    @classmethod
    def even(cls, num_frames: int, fps: float, width: int = 0, height: int = 0) -> Clip:
        """A clip that shows each of its frames equally long."""
        return cls(np.arange(num_frames) / fps, num_frames / fps, width, height)

    @property
    def num_frames(self) -> int:
        return len(self.times_s)

    @property
    def duration_s(self) -> float:
        return self.end_s

    @property
    def fps(self) -> float:
        """Frames in a second, on average."""
        return self.num_frames / self.end_s

    def time_s(self, index: int) -> float:
        return round(float(self.times_s[index]), 6)


def choose_frames(clip: Clip, frames: FrameSampling, max_frames: int) -> tuple[int, ...]:
    """Source indices, ascending, an even number of at least 2, spread evenly in time from the window's first frame to
    its last, each once.

    clip.num_frames >= 1. The number is fps x window, raised to min_frames, cut to max_frames, and never more than the
    window has; one frame is given twice. Where a frame stands so long that two choices fall on it, it is taken once.
    Frames that are named are taken as they are, an odd last one twice. Raises ValueError with a sentence.
    """
    check_sampling(frames)
    if frames.indices is not None:
        return _named(clip, frames.indices, max_frames)
    first, last, window_s = _window(clip, frames)
    available = last - first + 1
    most = min(frames.max_frames or DEFAULT_MAX_FRAMES, max_frames, available)
    if most == 1:
        return (first, first)
    wanted = round(min((frames.fps or DEFAULT_FPS) * window_s, available))
    least = DEFAULT_MIN_FRAMES if frames.min_frames is None else frames.min_frames
    count = min(max(wanted, least, PAIR), most)
    if count % PAIR:
        count += 1 if count < most else -1
    spread = [first + place for place in _spread(clip.times_s[first : last + 1], count)]
    return tuple(spread + spread[-1:] * (len(spread) % PAIR))


def check_sampling(frames: FrameSampling) -> None:
    """Raises ValueError for what is no rate, no number of frames or no time."""
    for name, least in (("fps", None), ("list_fps", None), ("start_s", 0.0), ("end_s", 0.0)):
        number = getattr(frames, name)
        if number is not None and not (math.isfinite(number) and (number > 0 if least is None else number >= least)):
            kind = "the stretch's" if least is not None else "the frames'"
            raise ValueError(f"{kind} {name} must be a number {'above' if least is None else 'from'} 0, not {number:g}")
    for name, fewest in (("max_frames", 1), ("min_frames", 0)):
        count = getattr(frames, name)
        if count is not None and count < fewest:
            raise ValueError(f"{name} must be at least {fewest}, not {count}")


def _named(clip: Clip, indices: tuple[int, ...], max_frames: int) -> tuple[int, ...]:
    """The indices, an even number of them. Raises ValueError."""
    if not indices or list(indices) != sorted(set(indices)) or not 0 <= indices[0] <= indices[-1] < clip.num_frames:
        raise ValueError(f"frames must be named once each, ascending, from 0 to {clip.num_frames - 1}")
    if len(indices) > max_frames:
        raise ValueError(f"{len(indices)} frames are named; at most {max_frames} are allowed")
    return indices if len(indices) % PAIR == 0 else (*indices, indices[-1])


def _window(clip: Clip, frames: FrameSampling) -> tuple[int, int, float]:
    """First and last frame that are shown between start and end, both included, and the seconds between."""
    start_s = frames.start_s or 0.0
    if start_s >= clip.end_s:
        raise ValueError(f"the start is at {start_s:g} s, but the clip lasts {clip.end_s:.3g} s")
    end_s = clip.end_s if frames.end_s is None else min(frames.end_s, clip.end_s)
    if end_s <= start_s:
        raise ValueError(f"the stretch from {start_s:g} s to {end_s:g} s is empty")
    first = int(np.searchsorted(clip.times_s, start_s + TICK_S, "right")) - 1
    last = int(np.searchsorted(clip.times_s, end_s - TICK_S, "left")) - 1
    return max(first, 0), max(first, last, 0), end_s - start_s


def _spread(times_s: Times, count: int) -> list[int]:
    """At most count places, ascending, each once: the frames nearest in time to count even steps, the later of two that
    are equally near. All of them where count says so."""
    if count >= len(times_s):
        return list(range(len(times_s)))
    steps_s = np.linspace(times_s[0], times_s[-1], count)
    after = np.clip(np.searchsorted(times_s, steps_s), 1, len(times_s) - 1)
    is_before = steps_s - times_s[after - 1] < times_s[after] - steps_s - 1e-9
    return [int(place) for place in np.unique(np.where(is_before, after - 1, after))]
