"""What the processor really made of each medium: its tokens in the prompt and the size the model saw. Pure numpy.

Families say it in different ways; in the order of trust:
    grids       Qwen-style processors return (t, h, w) patches per medium: exact
    runs        one unbroken run of placeholders per picture: exact
    shares      several runs per picture (tiles): placeholders split by the pictures' own tile counts, or evenly
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np

from engine.media import Media
from engine.models.registry import Loaded

Seen = tuple[int, tuple[int, int]]


def measure(loaded: Loaded, media: tuple[Media, ...], ids: list[int], inputs: dict[str, Any]) -> list[Seen]:
    """(tokens, (width, height) in pixels) per medium, in the order of `media`."""
    if "image_grid_thw" in inputs or "video_grid_thw" in inputs:
        return _by_grid(loaded, media, inputs)
    return _by_placeholders(loaded, media, ids, inputs)


def _by_grid(loaded: Loaded, media: tuple[Media, ...], inputs: dict[str, Any]) -> list[Seen]:
    vision = loaded.config.get("vision_config") or {}
    patch, merge = int(vision.get("patch_size", 14)), int(vision.get("spatial_merge_size", 2))
    grids = {
        "image": iter(np.array(inputs.get("image_grid_thw", [])).reshape(-1, 3).tolist()),
        "video": iter(np.array(inputs.get("video_grid_thw", [])).reshape(-1, 3).tolist()),
    }
    out: list[Seen] = []
    for medium in media:
        t, h, w = next(grids[medium.kind], (0, 0, 0))
        out.append((t * h * w // merge**2, (w * patch, h * patch)))
    return out


def _by_placeholders(loaded: Loaded, media: tuple[Media, ...], ids: list[int], inputs: dict[str, Any]) -> list[Seen]:
    wanted = set(loaded.placeholder_ids().values())
    runs = [len(list(run)) for is_media, run in groupby(ids, key=lambda i: i in wanted) if is_media]
    # A clip without native video is as many pictures as it has frames.
    num_pictures = [len(m.frames) if m.kind == "video" and not loaded.card.native_video else 1 for m in media]
    seen_px = _pixel_size(inputs)
    if len(runs) == sum(num_pictures):
        shares = runs
    else:
        total, count = sum(runs), sum(num_pictures)
        shares = [total // count + (i < total % count) for i in range(count)]
    out, start = [], 0
    for count in num_pictures:
        out.append((sum(shares[start : start + count]), seen_px))
        start += count
    return out


def _pixel_size(inputs: dict[str, Any]) -> tuple[int, int]:
    """(width, height) of what the vision tower reads: the last two axes of pixel_values (a tile, where tiled)."""
    pixels = inputs.get("pixel_values")
    if isinstance(pixels, list) and pixels:
        pixels = pixels[0]
    shape: tuple[int, ...] = getattr(pixels, "shape", ())
    return (int(shape[-1]), int(shape[-2])) if len(shape) >= 4 else (0, 0)
