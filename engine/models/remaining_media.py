"""What is left to encode behind a reused prefix: the processor's arrays of the later media. Engine thread only."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import numpy as np

from engine.models.grids import ARRAY_NAMES
from engine.types.prompt import Prompt


def media_from(prompt: Prompt, first: int) -> dict[str, Any] | None:
    """The inputs of the media that begin at or after token `first`, or None when this family's cannot be told apart.

    Families that pack patches by grid can be cut; others encode all their pictures again.
    """
    known = {name for names in ARRAY_NAMES.values() for name in names} | {"attention_mask"}
    is_packed = any(grids in prompt.inputs for _, grids in ARRAY_NAMES.values())
    if not is_packed or not prompt.spans or set(prompt.inputs) - known:
        return None
    out: dict[str, Any] = {}
    for kind, (patches, grids) in ARRAY_NAMES.items():
        if grids not in prompt.inputs:
            continue
        starts = [placed.span.start for placed in prompt.media if placed.span and placed.media.kind == kind]
        skipped = sum(start < first for start in starts)
        if skipped == len(starts):
            continue
        grid = prompt.inputs[grids]
        ends = [0, *accumulate(np.array(grid).prod(axis=1).tolist())]
        out |= {patches: prompt.inputs[patches][ends[skipped] :], grids: grid[skipped:]}
    return out
