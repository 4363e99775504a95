"""KV of rows that decode together and need not be equally long behind a pass. Engine thread only.

    row 0  │ t t t t t t t · · · │     each row begins at place 0 and has an end of its own
    row 1  │ t t t · · · · · · · │     what is behind a row's end, no token of it sees

A pass writes behind the end of each row. Tokens that a row does not keep are taken off by moving its end back, and the
next pass writes over them: no KV is moved, and nothing has to be closed up. mlx-lm's own cache of a batch ends all rows
at one place, so there a row that keeps fewer tokens than another would have to be moved as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx


class RaggedKV:
    """One layer's KV of several rows; behaves as mlx-lm's BatchKVCache for its batcher and for models.

    keys, values: (rows, kv_heads, places, head_dim). lengths: of each row, in tokens. offset: the same, (rows,), as
    models ask for it. kind: of the layer that one row has by itself.
    """

    step = 256
    """Places by which it grows."""

    def __init__(self, keys: mx.array, values: mx.array, lengths: Sequence[int], kind: type[Any]) -> None:
        self.keys, self.values = keys, values
        self._kind = kind
        self._end_at(lengths)

    def _end_at(self, lengths: Sequence[int]) -> None:
        self.lengths = list(lengths)
        self.offset = mx.array(self.lengths)

    # What a model asks for in a pass.

    def make_mask(self, num_queries: int, *, window_size: int | None = None, **_: Any) -> mx.array:
        """(rows, 1, queries, keys): of each row what it has, and the pass up to the query; of a layer with a window,
        the last of them."""
        last = (self.offset[:, None] + mx.arange(num_queries))[:, None, :, None]
        places = mx.arange(self.size() + num_queries)
        mask = places <= last
        return mask if window_size is None else mask & (places > last - window_size)

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Put (rows, kv_heads, tokens, head_dim) behind the end of each row. Returns what all have, up to the end of
        the longest."""
        num_tokens, end = keys.shape[2], self.size() + keys.shape[2]
        if end > self.keys.shape[2]:
            self._give_places(-(-end // self.step) * self.step)
        if min(self.lengths) == self.size():
            self.keys[..., end - num_tokens : end, :] = keys
            self.values[..., end - num_tokens : end, :] = values
        else:
            rows = mx.arange(len(self.lengths))[:, None]
            places = self.offset[:, None] + mx.arange(num_tokens)
            self.keys[rows, :, places] = keys.swapaxes(1, 2)
            self.values[rows, :, places] = values.swapaxes(1, 2)
        self._end_at([length + num_tokens for length in self.lengths])
        return self.keys[..., :end, :], self.values[..., :end, :]

    def _give_places(self, num_places: int) -> None:
        self.keys, self.values = _with_places(self.keys, num_places), _with_places(self.values, num_places)

    # What is done with rows between two passes.

    def trim_rows(self, nums: Sequence[int]) -> None:
        """Take its last tokens off each row."""
        self._end_at([length - num for length, num in zip(self.lengths, nums, strict=True)])

    @classmethod
    def merge(cls, caches: Sequence[RaggedKV]) -> RaggedKV:
        """One with the rows of all of these, which stay as they are."""
        num_places = max(cache.size() for cache in caches)
        return cls(
            mx.concatenate([_with_places(cache.keys, num_places) for cache in caches]),
            mx.concatenate([_with_places(cache.values, num_places) for cache in caches]),
            [length for cache in caches for length in cache.lengths],
            caches[0]._kind,
        )

    def extend(self, other: RaggedKV) -> None:
        num_places = max(self.keys.shape[2], other.keys.shape[2])
        self._give_places(num_places)
        other._give_places(num_places)
        self.keys = mx.concatenate([self.keys, other.keys])
        self.values = mx.concatenate([self.values, other.values])
        self._end_at(self.lengths + other.lengths)

    def filter(self, keep: Sequence[int]) -> None:
        """Only these rows stay, in this order."""
        kept = [int(row) for row in keep]
        if kept == list(range(len(self.lengths))):
            return
        self._end_at([self.lengths[row] for row in kept])
        # Behind a long row that leaves, places are given back.
        rows, num_places = mx.array(kept), -(-self.size() // self.step) * self.step
        self.keys, self.values = self.keys[rows, :, :num_places], self.values[rows, :, :num_places]

    def extract(self, row: int) -> Any:
        """A row's tokens as the layer of one row, with arrays of its own."""
        layer, end = self._kind(), self.lengths[row]
        layer.keys = mx.contiguous(self.keys[row : row + 1, :, :end])
        layer.values = mx.contiguous(self.values[row : row + 1, :, :end])
        layer.offset = end
        return layer

    @property
    def state(self) -> tuple[mx.array, mx.array]:
        return self.keys, self.values

    def size(self) -> int:
        """Tokens of the longest row."""
        return max(self.lengths)

    def empty(self) -> bool:
        return False

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes


def _with_places(array: mx.array, num_places: int) -> mx.array:
    """(rows, kv_heads, places, head_dim) with so many places: cut, or zeros behind them."""
    array = array[:, :, :num_places]
    missing = num_places - array.shape[2]
    return mx.pad(array, [(0, 0), (0, 0), (0, missing), (0, 0)]) if missing else array
