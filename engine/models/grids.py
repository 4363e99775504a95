"""What the processor made of media it has read: a grid of patches each. Engine thread only.

Of a picture whose KV is there the model needs to know where it lies and how large it is, not its pixels. So a prompt
about media that were read before is built from their grids, without resizing, normalizing and cutting them once more:
for a clip of dozens of frames that is most of the time to its second answer's first token. For families that pack
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

NAMES: dict[Kind, tuple[str, str]] = {
    "image": ("pixel_values", "image_grid_thw"),
    "video": ("pixel_values_videos", "video_grid_thw"),
}
"""(patches, grids) per kind of medium, as Qwen-style processors name them: patches of all media in one array (sum of
t*h*w, dim), one grid (t, h, w) per medium."""

_MAX_GRIDS = 4096


class Grids:
    """By tenant and content, least recently used first: one tenant's media are no quicker to read for another's."""

    def __init__(self) -> None:
        self._held: LRUCache[tuple[str, Kind, str], Grid] = LRUCache(_MAX_GRIDS)

    def note(self, tenant: str, prompt: Prompt) -> None:
        """Remember the grids of a prompt's media, where the processor gave one to each."""
        for kind, (_, grids) in NAMES.items():
            contents = [placed.content for placed in prompt.media if placed.media.kind == kind]
            rows = np.array(prompt.inputs.get(grids, [])).reshape(-1, 3).tolist()
            if len(rows) == len(contents):
                for content, (t, h, w) in zip(contents, rows, strict=True):
                    self._held[tenant, kind, content] = (t, h, w)

    def clear(self) -> None:
        self._held.clear()

    def find(self, tenant: str, media: tuple[Media, ...]) -> dict[Kind, list[Grid]] | None:
        """The grids of all these media, by kind and in their order; None when one of them is not known."""
        keys = [(tenant, medium.kind, medium.content) for medium in media]
        if not media or not all(key in self._held for key in keys):
            return None
        out: dict[Kind, list[Grid]] = {}
        for key in keys:
            out.setdefault(key[1], []).append(self._held[key])
        return out
