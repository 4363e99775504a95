"""Where each medium lies in a prompt, and the cache ids that follow from it. Numpy, no MLX.

    ids        user \n <pad> <pad> <pad> What is this ?
    cache ids  user \n  -h    -h    -h   What is this ?        h from the medium's decoded pixels

Equal cache ids mean equal model input: token for token, and pixel for pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from engine.types.prompt import PlacedMedia, Span, media_id


def locate(ids: Sequence[int], media: Sequence[PlacedMedia]) -> tuple[PlacedMedia, ...]:
    """The media with the span of each, from its placeholder id and token count. media: in the prompt's order.

    Without spans when the counts do not add up to the placeholders that are there: then nothing is known for sure.
    """
    tokens = np.asarray(ids)
    positions = {placeholder: np.flatnonzero(tokens == placeholder) for placeholder in {p.placeholder for p in media}}
    num_taken = dict.fromkeys(positions, 0)
    out = []
    for placed in media:
        first = num_taken[placed.placeholder]
        last = num_taken[placed.placeholder] = first + placed.tokens
        own = positions[placed.placeholder][first:last]
        if len(own):
            out.append(replace(placed, span=Span(int(own[0]), int(own[-1]) + 1)))
    adds_up = all(len(positions[placeholder]) == count for placeholder, count in num_taken.items())
    return tuple(out) if adds_up else tuple(media)


def cache_ids(ids: Sequence[int], media: Sequence[PlacedMedia], *, told_apart: bool = True) -> list[int]:
    """ids with every placeholder replaced by a negative id of its medium's content.

    Without spans, or where the model does not see the media apart from each other, every placeholder gets
    one id made from all media together: they are reused all or none, and never wrongly.
    Returns [] when there are media but no placeholder to carry them: such a prompt must not be cached.
    """
    placeholders = {placed.placeholder for placed in media}
    if media and placeholders.isdisjoint(ids):
        return []
    together = media_id("".join(placed.content for placed in media))
    tokens = np.asarray(ids, np.int64)
    out = np.where(np.isin(tokens, list(placeholders)), together, tokens)
    for placed in media if told_apart else ():
        if placed.span is not None:
            own = slice(placed.span.start, placed.span.end)
            out[own][tokens[own] == placed.placeholder] = media_id(placed.content)
    return cast(list[int], out.tolist())
