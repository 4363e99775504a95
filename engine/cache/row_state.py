"""What a row needs beside its KV while it decodes, in the shape of a cache layer. Engine thread only."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import mlx.core as mx


class RowState:
    """M-RoPE deltas of a batch's rows, (rows,) ints; behaves as a cache layer for mlx-lm's batcher and holds no KV.

    again: per row, what its model wants at every step beside the token, for families that decode one row at a time."""

    nbytes = 0

    def __init__(self, deltas: Sequence[int] = (0,), again: Sequence[dict[str, Any]] = ()) -> None:
        self.deltas = list(deltas)
        self.again = list(again) or [{} for _ in self.deltas]

    @property
    def state(self) -> list[mx.array]:
        return []

    @classmethod
    def merge(cls, caches: Sequence[RowState]) -> RowState:
        return cls(
            [delta for cache in caches for delta in cache.deltas], [again for cache in caches for again in cache.again]
        )

    def filter(self, keep: Any) -> None:
        places = [int(i) for i in keep]
        self.deltas, self.again = [self.deltas[i] for i in places], [self.again[i] for i in places]

    def extend(self, other: RowState) -> None:
        self.deltas = self.deltas + other.deltas
        self.again = self.again + other.again

    def extract(self, index: int) -> RowState:
        return RowState(self.deltas[index : index + 1], self.again[index : index + 1])

    def prepare(self, **_: Any) -> None:
        """Right padding of a co-prefill: rows are prefilled alone here, nothing to do."""

    def finalize(self) -> None:
        """The end of a co-prefill: nothing to do."""

    def size(self) -> int:
        return 0

    def empty(self) -> bool:
        return False

    def is_trimmable(self) -> bool:
        return True

    def trim(self, n: int) -> int:
        return n

    def trim_rows(self, nums: Sequence[int]) -> None:
        """The last tokens of each row are taken off (engine.cache.ragged)."""

    # What engine.cache.tensors does with the layers that this is the last of, told to it.

    def forked(self) -> RowState:
        """That of a copy of a row."""
        return RowState(self.deltas, copy.deepcopy(self.again))

    def widened(self, num_rows: int) -> RowState:
        """That of so many rows that all begin with this one."""
        return RowState(self.deltas * num_rows, self.again * num_rows)

    def ragged(self) -> RowState:
        """That of the row in a batch whose rows may each go on from another length."""
        return RowState(self.deltas, self.again)

    def branched(self, stems: Sequence[int], lengths: Sequence[int]) -> RowState:
        """That of rows that go on from these, each behind so many tokens of its stem."""
        return RowState([self.deltas[i] for i in stems], [self.again[i] for i in stems])

    def was_cut(self, spans: Sequence[tuple[int, int]], payloads: Sequence[Any]) -> None:
        """Copies were made of these token ranges."""

    def was_joined(self, parts: Sequence[tuple[Any, int]]) -> None:
        """The layers were filled with the first n tokens of each of these payloads."""
