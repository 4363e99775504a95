"""Clips for a benchmark: the first seconds of a file, each marked with its seed, or blank. Blocking calls; no MLX.

Written with OpenCV's MPEG-4 encoder in the clip's own size and rate, so that decoding takes its usual time.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from engine.assets import asset
from engine.config import MediaLimits
from engine.errors import BadMedia
from engine.measure import drawings
from engine.measure.bench.questions import Medium, mark
from engine.types import Part

DEFAULT = "samples/benchmark.mp4"
MAX_SIDE_PX = 1920
Draw = Callable[[Image.Image], Image.Image]


def default_clip() -> Path:
    """The clip that ships with this project: 20 seconds of a red circle crossing a light ground."""
    return asset(DEFAULT)


def cut(path: Path, seconds: float, seed: object) -> Medium:
    """The first `seconds` of a clip, with the mark of this seed in every frame. Raises BadMedia."""
    return _rewritten(path, seconds, lambda frame: mark(frame, seed))


def blanked(path: Path, seconds: float) -> Medium:
    """The same number of frames in the same size, all grey."""
    return _rewritten(path, seconds, lambda frame: drawings.blank(frame.size))


def download(url: str, limits: MediaLimits) -> Path:
    """A clip from the web as a file that is deleted at exit. The same limits as for any URL. Raises BadMedia."""
    from engine.media.fetch import read_part

    data = read_part(Part("video", url=url, param="--video-url"), limits)
    file = Path(tempfile.mkdtemp(prefix="bench-"), "clip.mp4")
    atexit.register(shutil.rmtree, file.parent, ignore_errors=True)
    file.write_bytes(data)
    return file


def _rewritten(path: Path, seconds: float, draw: Draw) -> Medium:
    import cv2

    capture = cv2.VideoCapture(str(path))
    try:
        fps = capture.get(cv2.CAP_PROP_FPS)
        frames = _frames(capture, round(seconds * fps) if fps > 0 else 0)
        first = next(frames, None)
        if first is None:
            raise BadMedia(f"{path.name}: no frame of this clip can be read.", param="video")
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            file = Path(folder, "clip.mp4")
            writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"mp4v"), fps, first.size)
            for frame in (first, *frames):
                writer.write(cv2.cvtColor(np.asarray(draw(frame)), cv2.COLOR_RGB2BGR))
            writer.release()
            return Medium("video", file.read_bytes())
    finally:
        capture.release()


def _frames(capture: Any, count: int) -> Iterator[Image.Image]:
    """The first `count` frames, with even sides as the encoder needs them, of at most MAX_SIDE_PX."""
    import cv2

    for _ in range(max(count, 1)):
        was_read, frame = capture.read()
        if not was_read:
            return
        image = Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
        image.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX))
        yield image.resize((max(2, image.width // 2 * 2), max(2, image.height // 2 * 2)))
