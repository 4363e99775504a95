"""Media: one decoded part, as numpy. Safe in every thread; nothing changes it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from engine.types.grounding import Crop
from engine.types.request import Kind

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Samples = np.ndarray[Any, np.dtype[np.float32]]


def no_samples() -> Samples:
    return np.empty(0, np.float32)


def no_pixels() -> Pixels:
    return np.empty((0, 0, 3), np.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class Media:
    """A decoded medium with the facts of its source.

    pixels: uint8 RGB, (H, W, 3) for a picture, (T, H, W, 3) for a clip (T even and at least 2).
    samples: float32 in -1..1, (N,), one channel, sample_hz of them a second; empty but for a sound, as pixels are then.
    sha256: hex, over shape and pixels (or rate and samples): equal content has equal hashes, whatever file it came in.
    num_bytes: what arrived. decoded_px: (width, height) of the source after rotation; the pixels of a clip are smaller
    only where all frames together would not fit in memory (engine.media.video).
    frames: (index in the source, time in seconds) of each frame; empty for a picture.
    source_fps, num_source_frames, duration_s: the whole clip's; 0 for a picture. A sound has a duration too.
    max_pixels: of a clip, all that its frames may have together if the request says so (FrameSampling.max_pixels).
    notes: sentences about how it was read that a person should know, e.g. "first of 12 frames".
    has_pixels: False for one that was decoded before and of which only the facts are at hand (Media.without_pixels).
    crop: it is a part of a picture, whose own pixels and size these are; None for a whole one.
    is_sized: the pixels were brought to the size the model shall see (engine.prompt.sizing); sha256 stays the source's.
    """

    kind: Kind
    pixels: Pixels
    sha256: str
    num_bytes: int
    decoded_px: tuple[int, int]
    frames: tuple[tuple[int, float], ...] = ()
    source_fps: float = 0.0
    num_source_frames: int = 0
    duration_s: float = 0.0
    samples: Samples = field(default_factory=no_samples)
    sample_hz: int = 0
    fetch_ms: float = 0.0
    decode_ms: float = 0.0
    max_pixels: int | None = None
    notes: tuple[str, ...] = ()
    has_pixels: bool = True
    is_sized: bool = False
    crop: Crop | None = None

    @property
    def content(self) -> str:
        """What the prefix cache knows it by: the pixels, and the size they were brought to."""
        return f"{self.sha256} {self.pixels.shape}" if self.is_sized else self.sha256

    def without_pixels(self) -> Media:
        """The same with its memory given back: the shapes of pixels and samples stay, their values are zeros."""
        if not self.has_pixels:
            return self
        pixels = np.broadcast_to(np.uint8(0), self.pixels.shape)
        samples = np.broadcast_to(np.float32(0), self.samples.shape)
        return replace(self, pixels=pixels, samples=samples, has_pixels=False)
