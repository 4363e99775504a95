"""Where text goes on behind media in M-RoPE positions, by their grids alone. Engine thread only.

A medium of many tokens takes few positions, so behind it a token's position is its number plus a shift. All shifts of a
prompt add up to what decoding needs (the "rope delta"), and to the positions of text behind all media. mlx-vlm works
them out token by token, which of a chat with dozens of pictures takes longer than all else; so what each grid shifts is
read off its answer once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from cachetools import LRUCache

from engine.models.grids import Grid, grids_of
from engine.types import Kind
from engine.types.prompt import Prompt

_MAX_SHIFTS = 4096


class RopeShifts:
    """Shifts by kind and grid, least recently used first. There is nothing of a medium's content in them."""

    def __init__(self) -> None:
        self._held: LRUCache[tuple[Kind, Grid], int] = LRUCache(_MAX_SHIFTS)

    def learn(self, prompt: Prompt, positions: np.ndarray[Any, Any], delta: int) -> None:
        """positions: int (3, tokens), of the whole prompt; delta: its rope delta. Nothing is learnt where shifts do not
        add up to it."""
        keys, spans = grids_of(prompt), prompt.spans
        if not keys or len(spans) != len(keys) or spans[-1].end >= positions.shape[1]:
            return
        ahead = positions[0] - np.arange(positions.shape[1])
        shifts = [int(ahead[span.end] - (ahead[span.start - 1] if span.start else 0)) for span in spans]
        if sum(shifts) == delta:
            self._held.update(zip(keys, shifts, strict=True))

    def delta(self, prompt: Prompt) -> int | None:
        """The prompt's rope delta; None where a grid is not known."""
        shifts = [shift for key in grids_of(prompt) if (shift := self._held.get(key)) is not None]
        return sum(shifts) if shifts and len(shifts) == len(prompt.media) else None
