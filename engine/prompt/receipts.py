"""What the processor really made of each medium: its tokens in the prompt and the size the model saw. Pure numpy.

Families say it in different ways; each of these is exact, and the first that applies is taken:
    grids       Qwen-style processors return (t, h, w) patches per medium
    one         a medium that is the only one of its placeholder has all of them
    runs        as many unbroken runs of placeholders as pictures: one each
    alone       several runs per picture (tiles, rows): the processor says what each medium gives by itself
The prefix cache keys every placeholder by its own medium, so a token counted to the wrong one would be a wrong hit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import groupby, pairwise
from typing import Any

import numpy as np

from engine.models.adapter import Encoding
from engine.models.registry import Loaded
from engine.models.vision_tower import Use
from engine.types import Kind, MediaReceipt, Part
from engine.types.media import Media
from engine.types.prompt import Prompt

Seen = tuple[int, tuple[int, int]]
Processed = tuple[list[int], dict[str, Any]]


def measure(
    loaded: Loaded, media: tuple[Media, ...], prompt: Processed, alone: Callable[[int], Processed]
) -> list[Seen]:
    """(tokens, (width, height) in pixels) per medium, in the order of `media`; the size is (0, 0) where unknown.

    prompt: token ids and the processor's arrays for all media together; alone(i): the same for the i-th by itself.
    """
    _, inputs = prompt
    seen: dict[int, Seen] = {}
    if "image_grid_thw" in inputs or "video_grid_thw" in inputs:
        packed = [i for i, medium in enumerate(media) if medium.kind != "audio"]
        seen = dict(zip(packed, _by_grid(loaded, tuple(media[i] for i in packed), inputs), strict=True))
    for kind in ("image", "video", "audio"):
        mine = [i for i, medium in enumerate(media) if _placed_as(loaded, medium) == kind and i not in seen]
        if mine:
            counts, sizes = _of_one_placeholder(loaded, media, mine, (prompt, alone), kind)
            seen |= dict(zip(mine, zip(counts, sizes, strict=True), strict=True))
    return [seen[i] for i in range(len(media))]


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


def _placed_as(loaded: Loaded, medium: Media) -> Kind:
    """Whose placeholder a medium has: frames of a clip are pictures to families without native video."""
    return "image" if medium.kind == "video" and not loaded.card.native_video else medium.kind


def _of_one_placeholder(
    loaded: Loaded,
    media: tuple[Media, ...],
    mine: list[int],
    sources: tuple[Processed, Callable[[int], Processed]],
    kind: Kind,
) -> tuple[list[int], list[tuple[int, int]]]:
    """Token counts and sizes of the media `mine` (indices), which all share one placeholder id."""
    (ids, inputs), alone = sources
    placeholder = loaded.placeholder_ids().get(kind)
    runs = [len(list(run)) for is_mine, run in groupby(ids, key=lambda i: i == placeholder) if is_mine]
    # A clip without native video is as many pictures as it has frames.
    num_pictures = [len(media[i].frames) if media[i].kind == "video" and kind == "image" else 1 for i in mine]
    firsts = np.cumsum([0, *num_pictures]).tolist()
    if len(mine) == 1 or len(runs) == firsts[-1]:
        counts = [sum(runs)] if len(mine) == 1 else [sum(runs[a:b]) for a, b in pairwise(firsts)]
        return counts, [_seen_px(loaded, inputs, kind, first) for first in firsts[:-1]]
    apart = [alone(i) for i in mine]
    counts = [sum(token == placeholder for token in own_ids) for own_ids, _ in apart]
    return counts, [_seen_px(loaded, own, kind, 0) for _, own in apart]


def _seen_px(loaded: Loaded, inputs: dict[str, Any], kind: Kind, index: int) -> tuple[int, int]:
    if kind == "audio":
        return (0, 0)
    return _clip_px(loaded, inputs) if kind == "video" else _picture_px(inputs, index)


def _picture_px(inputs: dict[str, Any], index: int) -> tuple[int, int]:
    """(width, height) of what the vision tower reads of a picture: the last two axes of its pixels (a tile's, where
    tiled). A list has one array per picture; one array for all means that all have one size."""
    mask = inputs.get("pixel_attention_mask")
    if mask is not None and index < mask.shape[1]:
        # Padded to the largest picture: (1, pictures, height, width), true where there are pixels.
        seen = np.array(mask[0][index])
        return (int(seen.any(axis=0).sum()), int(seen.any(axis=1).sum()))
    pixels = inputs.get("pixel_values")
    if isinstance(pixels, list):
        pixels = pixels[index] if index < len(pixels) else None
    shape: tuple[int, ...] = getattr(pixels, "shape", ())
    return (int(shape[-1]), int(shape[-2])) if len(shape) >= 3 else (0, 0)


def _clip_px(loaded: Loaded, inputs: dict[str, Any]) -> tuple[int, int]:
    """(width, height) of a native clip's frames, from the patch positions (clips, frames, patches, (x, y))."""
    positions = inputs.get("video_position_ids")
    if positions is None:
        return (0, 0)
    patch = int((loaded.config.get("vision_config") or {}).get("patch_size", 16))
    last = np.array(positions[0]).reshape(-1, 2).max(axis=0) + 1
    return (int(last[0]) * patch, int(last[1]) * patch)


def shared(receipts: tuple[MediaReceipt, ...], media: tuple[Media, ...], resize_ms: float) -> tuple[MediaReceipt, ...]:
    """The receipts with the processor's milliseconds, shared by decoded pixels."""
    sizes = [medium.pixels.size or 1 for medium in media]
    pairs = zip(receipts, sizes, strict=True)
    return tuple(replace(receipt, resize_ms=resize_ms * size / sum(sizes)) for receipt, size in pairs)


def largest(receipts: tuple[MediaReceipt, ...], parts: list[Part]) -> str:
    """A sentence that names the medium with the most tokens, for a prompt that is too long; "" without media."""
    if not receipts:
        return ""
    tokens, param = max((receipt.tokens, part.param) for receipt, part in zip(receipts, parts, strict=True))
    return f" {param} has {tokens} of them; a smaller picture or fewer frames cost less."


def encoded(prompt: Prompt, first: int, encoding: Encoding | None) -> tuple[MediaReceipt, ...]:
    """The receipts, with what the vision tower did for each. first: tokens whose KV was reused.

    Families without a feature store share the milliseconds by tokens.
    """
    if encoding is None:
        return prompt.receipts
    reused = [bool(prompt.spans) and span.end <= first for span in prompt.spans] or [False] * len(prompt.receipts)
    if encoding.uses is None:
        total = sum(r.tokens for r, gone in zip(prompt.receipts, reused, strict=True) if not gone)
        shares = [0.0 if gone else r.tokens / total for r, gone in zip(prompt.receipts, reused, strict=True)]
        pairs = zip(prompt.receipts, shares, strict=True)
        return tuple(replace(receipt, encode_ms=encoding.ms * share) for receipt, share in pairs)
    uses = used(prompt, first, encoding)
    return tuple(
        replace(receipt, features=use.features, encode_ms=use.ms)
        for receipt, use in zip(prompt.receipts, uses, strict=True)
    )


def used(prompt: Prompt, first: int, encoding: Encoding | None) -> list[Use]:
    """What each medium took from the feature store; an empty Use where its KV was reused, or there is no store."""
    receipts, uses = prompt.receipts, (encoding.uses if encoding else None) or ()
    out = [Use()] * len(receipts)
    left = iter(uses)
    # The tower is asked for all pictures, then for all clips.
    for i in sorted(range(len(out)), key=lambda i: receipts[i].kind != "image"):
        # Nothing was asked of the tower for what is reused, unless the inputs could not be cut behind it.
        is_reused = bool(prompt.spans) and prompt.spans[i].end <= first
        if not (is_reused and len(uses) < len(out)):
            out[i] = next(left, Use())
    return out
