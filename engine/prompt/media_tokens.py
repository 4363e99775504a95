"""What the processor really made of each medium: its tokens in the prompt and the size the model saw. Pure numpy.

Families say it in different ways; each of these is exact, and the first that applies is taken:
    grids       Qwen-style processors return (t, h, w) patches per medium
    one         a medium that is the only one of its placeholder has all of them
    runs        as many unbroken runs of placeholders as pictures: one each
    alone       several runs per picture (tiles, rows): the processor says what each medium gives by itself
The prefix cache keys every placeholder by its own medium, so a token counted to the wrong one would be a wrong hit.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from engine.models.grids import ARRAY_NAMES
from engine.models.registry import Loaded
from engine.prompt.processor import Processed
from engine.types import Kind
from engine.types.media import Media
from engine.types.prompt import runs

SizePx = tuple[int, int]
"""(width, height) in pixels, (0, 0) where unknown."""

MediaTokens = tuple[int, SizePx]
"""Tokens of a medium, and the size of it that the model sees."""


def count_media_tokens(
    loaded: Loaded, media: Sequence[Media], prompt: Processed, alone: Callable[[int], Processed]
) -> list[MediaTokens]:
    """One per medium, in their order. prompt: all media together; alone(i): the same for the i-th by itself."""
    _, inputs = prompt
    out: dict[int, MediaTokens] = {}
    if any(grids in inputs for _, grids in ARRAY_NAMES.values()):
        out = _by_grid(loaded, media, inputs)
    ids = loaded.placeholder_ids()
    by_placeholder: defaultdict[int, dict[int, Media]] = defaultdict(dict)
    for i, medium in enumerate(media):
        if i not in out:
            by_placeholder[ids.get(placeholder_kind(loaded, medium), -1)][i] = medium
    for placeholder, own in by_placeholder.items():
        out |= _of_one_placeholder(loaded, own, (prompt, alone), placeholder)
    return [out[i] for i in range(len(media))]


def placeholder_kind(loaded: Loaded, medium: Media) -> Kind:
    """Whose placeholder a medium has: frames of a clip are pictures to families without native video."""
    return "image" if medium.kind == "video" and not loaded.card.native_video else medium.kind


def _by_grid(loaded: Loaded, media: Sequence[Media], inputs: dict[str, Any]) -> dict[int, MediaTokens]:
    """Of pictures and clips, by their place among the media."""
    vision = loaded.config.get("vision_config") or {}
    patch_px, merge = int(vision.get("patch_size", 14)), int(vision.get("spatial_merge_size", 2))
    rows = {
        kind: iter(np.array(inputs.get(grids, [])).reshape(-1, 3).tolist()) for kind, (_, grids) in ARRAY_NAMES.items()
    }
    out: dict[int, MediaTokens] = {}
    for i, medium in enumerate(media):
        kind = placeholder_kind(loaded, medium)
        if kind in rows:
            count = len(medium.frames) if kind != medium.kind else 1  # a clip without native video: a grid per frame
            grids = [next(rows[kind], (0, 0, 0)) for _ in range(count)]
            _, h, w = grids[0]
            out[i] = (sum(math.prod(grid) for grid in grids) // merge**2, (w * patch_px, h * patch_px))
    return out


def _of_one_placeholder(
    loaded: Loaded,
    media: dict[int, Media],
    sources: tuple[Processed, Callable[[int], Processed]],
    placeholder: int,
) -> dict[int, MediaTokens]:
    """Of media that all share one placeholder id, by their place among all media of the prompt; MiniCPM-o has one for
    pictures and sounds."""
    (ids, inputs), alone = sources
    kinds = {i: placeholder_kind(loaded, medium) for i, medium in media.items()}
    lengths = [end - start for start, end in runs(ids, placeholder)]
    # A clip without native video is as many pictures as it has frames.
    num_runs = {i: len(m.frames) if m.kind == "video" and kinds[i] == "image" else 1 for i, m in media.items()}
    ends = np.cumsum([0, *num_runs.values()]).tolist()
    if len(media) == 1:
        return {i: (sum(lengths), _seen_px(loaded, inputs, kinds[i], 0)) for i in media}
    if len(lengths) == ends[-1]:
        before = {i: sum(num for j, num in num_runs.items() if j < i and kinds[j] == kinds[i]) for i in media}
        return {
            i: (sum(lengths[start:end]), _seen_px(loaded, inputs, kinds[i], before[i]))
            for i, (start, end) in zip(media, pairwise(ends), strict=True)
        }
    out: dict[int, MediaTokens] = {}
    for i in media:
        own_ids, own_inputs = alone(i)
        out[i] = (own_ids.count(placeholder), _seen_px(loaded, own_inputs, kinds[i], 0))
    return out


def _seen_px(loaded: Loaded, inputs: dict[str, Any], kind: Kind, index: int) -> SizePx:
    if kind == "audio":
        return (0, 0)
    return _clip_px(inputs) if kind == "video" else _picture_px(loaded, inputs, index)


def _picture_px(loaded: Loaded, inputs: dict[str, Any], index: int) -> SizePx:
    """What the vision tower reads of a picture: the last two axes of its pixels (a tile's, where tiled). A list has one
    array per picture; one array for all means that all have one size."""
    mask = inputs.get("pixel_attention_mask")
    if mask is not None and mask.ndim == 4 and index < mask.shape[1]:
        # Padded to the largest picture: (1, pictures, height, width), true where there are pixels.
        is_pixel = np.array(mask[0][index])
        return (int(is_pixel.any(axis=0).sum()), int(is_pixel.any(axis=1).sum()))
    for name in ("spatial_shapes", "image_grid_hws", "tgt_sizes"):  # patches (height, width) of each tile, or picture
        if name in inputs:
            height, width = np.array(inputs[name]).reshape(-1, 2)[index].tolist()
            patch_px = int((loaded.config.get("vision_config") or {}).get("patch_size", 14))
            return (width * patch_px, height * patch_px)
    if "image_num_crops" in inputs:  # Molmo 2: patches of all crops, of a picture that was put together anew
        return (0, 0)
    pixels = inputs.get("pixel_values")
    if "image_position_ids" in inputs:  # Gemma 4 unified
        return _patched_px(inputs["image_position_ids"][index], pixels)
    if isinstance(pixels, list):
        pixels = pixels[index] if index < len(pixels) else None
    shape: tuple[int, ...] = getattr(pixels, "shape", ())
    return (int(shape[-1]), int(shape[-2])) if len(shape) >= 3 else (0, 0)


def _clip_px(inputs: dict[str, Any]) -> SizePx:
    """Of a native clip's frames."""
    positions = inputs.get("video_position_ids")
    return (0, 0) if positions is None else _patched_px(positions[0], inputs["pixel_values_videos"])


def _patched_px(positions: Any, patches: Any) -> SizePx:
    """From the places (..., (x, y)) of patches, -1 where there is none, and their pixels (..., patch * patch * 3)."""
    last = np.array(positions).reshape(-1, 2).max(axis=0) + 1
    patch_px = math.isqrt(patches.shape[-1] // 3)
    return (int(last[0]) * patch_px, int(last[1]) * patch_px)
