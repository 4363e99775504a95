"""Where each medium lies in a prompt, and the cache ids that follow from it. Pure Python.

    ids        user \n <pad> <pad> <pad> What is this ?
    cache ids  user \n  -h    -h    -h   What is this ?        h from the medium's decoded pixels

Equal cache ids mean equal model input: token for token, and pixel for pixel.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.types.prompt import Span, media_id


def locate(ids: Sequence[int], placeholders: Sequence[int], tokens: Sequence[int]) -> tuple[Span, ...]:
    """The span of each medium, from its placeholder id and token count (one per medium, in the prompt's order).

    Returns () when the counts do not add up to the placeholders that are there: then nothing is known for sure.
    """
    positions = {p: [i for i, token in enumerate(ids) if token == p] for p in set(placeholders)}
    if any(
        len(found) != sum(n for p, n in zip(placeholders, tokens, strict=True) if p == kind)
        for kind, found in positions.items()
    ):
        return ()
    spans = []
    for placeholder, count in zip(placeholders, tokens, strict=True):
        mine, positions[placeholder] = positions[placeholder][:count], positions[placeholder][count:]
        spans.append(Span(mine[0], mine[-1] + 1))
    return tuple(spans)


def cache_ids(
    ids: Sequence[int], placeholders: Sequence[int], spans: Sequence[Span], contents: Sequence[str]
) -> list[int]:
    """ids with every placeholder replaced by a negative id of its medium's content (hex sha256 per medium).

    Without spans every placeholder stands for all media together: nothing of them is shared by part, nothing wrongly.
    Returns [] when there are media but no placeholder to carry them: such a prompt must not be cached.
    """
    everything = media_id("".join(contents))
    wanted = set(placeholders)
    if contents and not any(token in wanted for token in ids):
        return []
    out = [everything if token in wanted else token for token in ids]
    for placeholder, span, content in zip(placeholders, spans, contents, strict=False):
        own = media_id(content)
        for i in range(span.start, span.end):
            if ids[i] == placeholder:
                out[i] = own
    return out
