"""What is left to encode behind a reused prefix: the processor's arrays of the later media. Engine thread only."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.models.grids import ARRAY_NAMES, grids_of
from engine.types.prompt import Prompt


def media_from(prompt: Prompt, first: int) -> dict[str, Any] | None:
    """The inputs of the media that begin at or after token `first`, or None when this family's cannot be told apart.

    Families that pack patches by grid can be cut; others encode all their pictures again.
    """
    known = {name for names in ARRAY_NAMES.values() for name in names} | {"attention_mask"}
    is_packed = any(grids in prompt.inputs for _, grids in ARRAY_NAMES.values())
    if not is_packed or not prompt.spans or set(prompt.inputs) - known or not grids_of(prompt):
        return None
    out: dict[str, Any] = {}
    for kind, (patches, grids) in ARRAY_NAMES.items():
        if grids not in prompt.inputs:
            continue
        media = [placed for placed in prompt.media if placed.media.kind == kind]
        skipped = [placed for placed in media if placed.span and placed.span.start < first]
        if len(skipped) == len(media):
            continue
        grid = prompt.inputs[grids]
        sizes = np.array(grid).prod(axis=1).tolist()
        done = sum(size for placed, size in zip(skipped, sizes, strict=False) if placed.has_pixels)
        out |= {patches: prompt.inputs[patches][done:], grids: grid[len(skipped) :]}
    return out
