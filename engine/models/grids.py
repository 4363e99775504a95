"""What the processor made of media it has read: a grid of patches each. Engine thread only.

Of a picture whose KV is there the model needs to know where it lies and how large it is, not its pixels. So media that
were read before stand in a prompt with their grids only, without decoding, resizing, normalizing and cutting them once
more: of a clip of dozens of frames, or a chat of dozens of screenshots, that is most of the time to the next answer's
first token. For families that pack
patches by grid (Family.packed); of others nothing is noted, so nothing is found.
"""

from __future__ import annotations

import numpy as np
from cachetools import LRUCache

from engine.types import Kind
from engine.types.media import Media
from engine.types.prompt import Prompt

Grid = tuple[int, int, int]
"""Patches in time, height and width."""

ARRAY_NAMES: dict[Kind, tuple[str, str]] = {
    "image": ("pixel_values", "image_grid_thw"),
    "video": ("pixel_values_videos", "video_grid_thw"),
}
"""(patches, grids) per kind of medium, as Qwen-style processors name them: patches of all media in one array (sum of
t*h*w, dim), one grid (t, h, w) per medium."""

_MAX_GRIDS = 4096


def grids_of(prompt: Prompt) -> list[tuple[Kind, Grid]]:
    """Kind and grid of each medium of a prompt, in its order; [] where the processor did not give one to each."""
    kinds = [placed.media.kind for placed in prompt.media]
    rows = {
        kind: np.array(prompt.inputs.get(grids, [])).reshape(-1, 3).tolist() for kind, (_, grids) in ARRAY_NAMES.items()
    }
    if any(kinds.count(kind) != len(rows.get(kind, ())) for kind in set(kinds)):
        return []
    in_order = {kind: iter(of_kind) for kind, of_kind in rows.items()}
    return [(kind, (t, h, w)) for kind in kinds for t, h, w in [next(in_order[kind])]]


class Grids:
    """By tenant and content, least recently used first: one tenant's media are no quicker to read for another's."""

    def __init__(self) -> None:
        self._held: LRUCache[tuple[str, Kind, str], Grid] = LRUCache(_MAX_GRIDS)

    def note(self, tenant: str, prompt: Prompt) -> None:
        """Remember the grids of a prompt's media, where the processor gave one to each."""
        for placed, (kind, grid) in zip(prompt.media, grids_of(prompt), strict=False):
            self._held[tenant, kind, placed.content] = grid

    def clear(self) -> None:
        self._held.clear()

    def find(self, tenant: str, media: tuple[Media, ...]) -> tuple[Grid | None, ...]:
        """The grid of each of these media, None where it is not known."""
        return tuple(self._held.get((tenant, medium.kind, medium.content)) for medium in media)
