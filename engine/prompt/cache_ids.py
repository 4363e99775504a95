"""Where each medium lies in a prompt, and the cache ids that follow from it. Pure Python.

    ids        user \n <pad> <pad> <pad> What is this ?
    cache ids  user \n  -h    -h    -h   What is this ?        h from the medium's decoded pixels

Equal cache ids mean equal model input: token for token, and pixel for pixel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from engine.types.prompt import PlacedMedia, Span, media_id


def locate(ids: Sequence[int], media: Sequence[PlacedMedia]) -> tuple[PlacedMedia, ...]:
    """The media with the span of each, from its placeholder id and token count. media: in the prompt's order.

    Without spans when the counts do not add up to the placeholders that are there: then nothing is known for sure.
    """
    counts: Counter[int] = Counter()
    for placed in media:
        counts[placed.placeholder] += placed.tokens
    positions = {placeholder: [i for i, token in enumerate(ids) if token == placeholder] for placeholder in counts}
    if any(len(positions[placeholder]) != count for placeholder, count in counts.items()):
        return tuple(media)
    remaining = {placeholder: iter(at) for placeholder, at in positions.items()}
    out = []
    for placed in media:
        own = [next(remaining[placed.placeholder]) for _ in range(placed.tokens)]
        out.append(replace(placed, span=Span(own[0], own[-1] + 1)))
    return tuple(out)


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
    out = [together if token in placeholders else token for token in ids]
    for placed in media if told_apart else ():
        if placed.span is not None:
            own = media_id(placed.content)
            for i in range(placed.span.start, placed.span.end):
                if ids[i] == placed.placeholder:
                    out[i] = own
    return out
