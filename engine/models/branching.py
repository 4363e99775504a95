"""Many rows that go on from one prompt, and rows that go on from those: the model's logits at chosen places of them.

    prompt, in the cache ──> stems, one pass ──> tails, one pass; each behind its stem

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
    """The same, behind a prompt; and more that are read behind it, each for itself."""

    ids: tuple[int, ...]
    places: tuple[int, ...]
    tails: tuple[Tail, ...] = ()

    def rows(self) -> list[Tail]:
        """Itself, and each tail with it before: rows that stand alone."""
        own = [Tail(self.ids, self.places)] if self.places else []
        first = len(self.ids)
        return own + [Tail(self.ids + t.ids, tuple(first + place for place in t.places)) for t in self.tails]


def score(adapter: Adapter, stems: Sequence[Stem], cache: list[Any], num_shared: int) -> mx.array:
    """Logits (places, vocabulary) in float32, evaluated: those of a stem, then of its tails, then of the next stem.

    cache: one row's KV of the num_shared tokens of the prompt; it is left as it is.
    Rows are padded behind their last token, which no token before it sees; so stems need no mask that is not plainly
    causal, and work for every kind of cache layer. Tails need one: where they cannot have it, each is read together
    with its stem.
    """
    if adapter.serial:
        logits = _one_by_one(adapter, [row for stem in stems for row in stem.rows()], cache)
    elif tensors.is_plain(cache):
        logits = _branched(adapter, stems, cache, num_shared)
    else:
        rows = [row for stem in stems for row in stem.rows()]
        logits = _read(adapter, rows, tensors.widened(cache, len(rows)), mx.array([[num_shared]]))
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


def _one_by_one(adapter: Adapter, rows: Sequence[Tail], cache: list[Any]) -> mx.array:
    """For families whose attention has no mask: a row at a time, token by token."""
    found = []
    for row in rows:
        own = tensors.fork(cache)
        behind = [adapter(mx.array([[token]]), own)[0, -1] for token in row.ids]
        found += [behind[place] for place in row.places]
    logits = mx.stack(found).astype(mx.float32)
    mx.eval(logits)
    return logits
