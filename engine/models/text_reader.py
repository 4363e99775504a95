"""Vectors and scores of texts: passes over their tokens, in which nothing is written. Engine thread only.

Texts that fit go side by side, each padded behind its last token, which no token before it sees. A longer one goes
alone, chunk by chunk, with its KV.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from engine.models.adapter import Adapter
from engine.models.head import max_places
from engine.models.text_modules import TextModules


class LongText:
    """A text that is read chunk by chunk. num_read: of its tokens; found: what they came to so far, (1, width)."""

    def __init__(self, ids: tuple[int, ...], cache: list[Any]) -> None:
        self.ids = ids
        self.cache = cache
        self.num_read = 0
        self.found: mx.array | None = None


class TextReader:
    """Reads texts as the model's modules say: each becomes a vector, or the difference of two logits behind it."""

    def __init__(self, adapter: Adapter, modules: TextModules, num_ids: int) -> None:
        self._adapter = adapter
        self._modules = modules
        self._max_rows = 1 if adapter.serial else max_places(num_ids)

    def fitting(self, lengths: Sequence[int], num_tokens: int) -> int:
        """How many of these texts, the shortest first, one pass reads in at most num_tokens tokens with padding; 0
        where the first alone has more."""
        fits = (n for n in range(len(lengths), 0, -1) if n <= self._max_rows and n * lengths[n - 1] <= num_tokens)
        return next(fits, 0)

    def read(self, texts: Sequence[tuple[int, ...]]) -> NDArray[np.float32]:
        """Short texts, in one pass -> (texts, width), or (texts, 1) for scores."""
        cache, lengths = self._adapter.make_cache(), [len(ids) for ids in texts]
        rows = mx.array([[*ids, *[0] * (max(lengths) - len(ids))] for ids in texts])
        found = self._scores(rows, lengths, cache) if self._modules.tokens else self._sums(rows, lengths, cache)
        return self._finished(found, lengths)

    def begin(self, ids: tuple[int, ...]) -> LongText:
        """A text that is too long for one pass."""
        return LongText(ids, self._adapter.make_cache())

    def go_on(self, text: LongText, num_tokens: int) -> NDArray[np.float32] | None:
        """Read the next tokens of a long text -> as `read`, with its last ones."""
        start, end = text.num_read, min(len(text.ids), text.num_read + num_tokens)
        chunk, is_last = mx.array([text.ids[start:end]]), end == len(text.ids)
        if self._modules.tokens and is_last:
            text.found = self._scores(chunk, [end - start], text.cache, start)
        else:
            text.found = self._joined(text.found, self._sums(chunk, [end - start], text.cache))
            with self._adapter.awaited():
                mx.eval(text.found, [layer.state for layer in text.cache])
        text.num_read = end
        return self._finished(text.found, [len(text.ids)]) if is_last else None

    def _sums(self, rows: mx.array, lengths: Sequence[int], cache: list[Any]) -> mx.array:
        """Of each row the states that count, (rows, width) in float32: the first one, the last one, or the sum."""
        states = self._adapter.states(rows, cache).astype(mx.float32)
        if self._modules.pooling == "cls":
            return states[:, 0]
        if self._modules.pooling == "mean":
            counts = mx.arange(states.shape[1])[None] < mx.array(list(lengths))[:, None]
            return mx.where(counts[..., None], states, 0.0).sum(axis=1)
        return states[mx.arange(len(lengths)), mx.array(list(lengths)) - 1]

    def _scores(self, rows: mx.array, lengths: Sequence[int], cache: list[Any], first: int = 0) -> mx.array:
        """Of each row the logit of one token behind it less that of the other, (rows, 1)."""
        width = rows.shape[1]
        places = [row * width + length - 1 for row, length in enumerate(lengths)]
        logits = self._adapter.logits_at(rows, places, cache, mx.array([[first]]))
        yes, no = self._modules.tokens or (0, 0)
        return (logits[:, yes] - logits[:, no])[:, None]

    def _joined(self, before: mx.array | None, now: mx.array) -> mx.array:
        if before is None or self._modules.pooling in (None, "lasttoken"):
            return now
        return before + now if self._modules.pooling == "mean" else before

    def _finished(self, found: mx.array, lengths: Sequence[int]) -> NDArray[np.float32]:
        if self._modules.pooling == "mean":
            found = found / mx.array(list(lengths))[:, None]
        with self._adapter.awaited():
            out = np.array(found.astype(mx.float32))
        mx.clear_cache()
        return out
