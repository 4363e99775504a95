"""Which frames of a clip the model gets. Pure arithmetic: the engine and the tabs use this one sampler."""

from __future__ import annotations

from dataclasses import dataclass

from engine.types import FrameSampling

DEFAULT_FPS = 2.0
DEFAULT_MIN_FRAMES = 4
DEFAULT_MAX_FRAMES = 64
PAIR = 2
"""Video models look at frames in pairs (temporal patch size 2), so the number of frames is even."""


@dataclass(frozen=True, slots=True)
class Clip:
    """What a container says about its clip. width and height in pixels, before rotation."""

    num_frames: int
    fps: float
    width: int
    height: int

    @property
    def duration_s(self) -> float:
        return self.num_frames / self.fps


def choose_frames(clip: Clip, frames: FrameSampling, max_frames: int) -> tuple[int, ...]:
    """Source indices, ascending, an even number of at least 2, spread evenly from the window's first frame to its last.

    clip.num_frames >= 1. The number is fps x window, raised to min_frames, cut to max_frames, and never more than the
    window has; a window of one frame gives that frame twice. Frames that are named are taken as they are, an odd
    last one twice. Raises ValueError with a sentence about the window.
    """
    if frames.indices is not None:
        return _named(clip, frames.indices, max_frames)
    first, last = _window(clip, frames)
    available = last - first + 1
    if available == 1:
        return (first, first)
    wanted = round((frames.fps or DEFAULT_FPS) * available / clip.fps)
    least = frames.min_frames or DEFAULT_MIN_FRAMES
    most = min(frames.max_frames or DEFAULT_MAX_FRAMES, max_frames, available)
    count = min(max(wanted, least, PAIR), max(most, PAIR))
    if count % PAIR:
        count += 1 if count < most else -1
    return tuple(first + _nearest(slot * (available - 1), count - 1) for slot in range(count))


def _named(clip: Clip, indices: tuple[int, ...], max_frames: int) -> tuple[int, ...]:
    """The indices, an even number of them. Raises ValueError."""
    if not indices or list(indices) != sorted(set(indices)) or not 0 <= indices[0] <= indices[-1] < clip.num_frames:
        raise ValueError(f"frames must be named once each, ascending, from 0 to {clip.num_frames - 1}")
    if len(indices) > max_frames:
        raise ValueError(f"{len(indices)} frames are named; at most {max_frames} are allowed")
    return indices if len(indices) % PAIR == 0 else (*indices, indices[-1])


def _window(clip: Clip, frames: FrameSampling) -> tuple[int, int]:
    """First and last source index, both included."""
    start_s = frames.start_s or 0.0
    first = _nearest(start_s * clip.fps, 1)
    if first >= clip.num_frames:
        raise ValueError(f"the stretch begins at {start_s:g} s, but the clip lasts {clip.duration_s:.3g} s")
    end_s = clip.duration_s if frames.end_s is None else frames.end_s
    if start_s < 0 or end_s <= start_s:
        raise ValueError(f"the stretch from {start_s:g} s to {end_s:g} s is empty")
    last = min(_nearest(end_s * clip.fps, 1), clip.num_frames) - 1
    return first, max(first, last)


def _nearest(numerator: float, denominator: int) -> int:
    """numerator / denominator, halves upwards (Python's round would go to even and make uneven gaps)."""
    return int(numerator / denominator + 0.5)
