"""Many rows that go on from one prompt, and rows that go on from those: the model's logits at chosen places of them.

    prompt, in the cache ──> stems, one pass ──> tails, one pass; each behind its stem

Tails need a mask that is not plainly causal. Where there can be none (Adapter.can_branch), each is a stem of its own.

Engine thread only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from engine.cache import tensors
from engine.models.adapter import Adapter


@dataclass(frozen=True, slots=True)
class Tail:
    """Token ids that are read behind others. places: of those behind which logits are wanted, ascending."""

    ids: tuple[int, ...]
    places: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stem:
    """The same, behind a prompt; and more that are read behind it, each for itself. There may be no places then."""

    ids: tuple[int, ...]
    places: tuple[int, ...]
    tails: tuple[Tail, ...] = ()


def score(adapter: Adapter, stems: Sequence[Stem], cache: list[Any], num_shared: int) -> mx.array:
    """Logits (places, vocabulary) in float32, evaluated: those of a stem, then of its tails, then of the next stem.

    cache: one row's KV of the num_shared tokens of the prompt; it is left as it is. There are tails only where the
    adapter can branch. Rows are padded behind their last token, which no token before it sees.
    """
    logits = _one_by_one(adapter, stems, cache) if adapter.serial else _branched(adapter, stems, cache, num_shared)
    mx.clear_cache()
    return logits


def _branched(adapter: Adapter, stems: Sequence[Stem], cache: list[Any], num_shared: int) -> mx.array:
    wide = tensors.widened(cache, len(stems))
    behind_stems = _read(adapter, stems, wide, mx.array([[num_shared]]))
    tails = [tail for stem in stems for tail in stem.tails]
    if not tails:
        return behind_stems
    numbers = [number for number, stem in enumerate(stems) for _ in stem.tails]
    lengths = [len(stems[number].ids) for number in numbers]
    first = num_shared + mx.array(lengths)[:, None]
    behind_tails = _read(adapter, tails, tensors.branched(wide, numbers, lengths), first)
    in_order, at_stem, at_tail = [], 0, 0
    for stem in stems:
        end_stem, end_tail = at_stem + len(stem.places), at_tail + sum(len(tail.places) for tail in stem.tails)
        in_order += [behind_stems[at_stem:end_stem], behind_tails[at_tail:end_tail]]
        at_stem, at_tail = end_stem, end_tail
    return mx.concatenate([logits for logits in in_order if logits.shape[0]])


def _read(adapter: Adapter, rows: Sequence[Stem | Tail], cache: list[Any], first: mx.array) -> mx.array:
    width = max(len(row.ids) for row in rows)
    ids = mx.array([[*row.ids, *[0] * (width - len(row.ids))] for row in rows])
    places = [number * width + place for number, row in enumerate(rows) for place in row.places]
    return adapter.logits_at(ids, places, cache, first)


def _one_by_one(adapter: Adapter, stems: Sequence[Stem], cache: list[Any]) -> mx.array:
    """For families whose attention has no mask: a row at a time, token by token."""
    found = []
    for stem in stems:
        own = tensors.fork(cache)
        behind = [adapter(mx.array([[token]]), own)[0, -1] for token in stem.ids]
        wanted = mx.stack([behind[place] for place in stem.places]).astype(mx.float32)
        mx.eval(wanted)  # or the KV of all rows would be there at once
        found.append(wanted)
    return mx.concatenate(found)
