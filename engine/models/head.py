"""Logits of a chunk's last token only: no caller wants the others, and a large vocabulary's cost more than the chunk.
Decisions (Adapter.logits_at) want those of a few places of each row instead.

MLX computes what is asked for, so a chunk whose logits nobody reads costs none. But a slice of a product is computed
from the whole product: the input of the head is what must be cut. Engine thread only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
from mlx import nn

MAX_LOGITS_BYTES = 256 * 1024**2
"""What the logits of one pass may take where those of many places are asked for."""

_BYTES_PER_LOGIT = 8
"""In float32, and the log-probabilities beside them."""

_NAMES = ("lm_head", "embed_tokens")
"""What mlx-lm and mlx-vlm call the head; embeddings are one, too, where weights are tied."""


def max_places(num_ids: int) -> int:
    """At how many places one pass may compute logits, each of so many token ids: as many as MAX_LOGITS_BYTES has room
    for, and at least one."""
    return max(1, MAX_LOGITS_BYTES // (_BYTES_PER_LOGIT * num_ids))


def _last(x: mx.array) -> mx.array:
    """(rows, tokens, width) -> (rows, 1, width)."""
    return x[:, -1:]


class ReadPlaces:
    """Which tokens a model's head computes logits of: the last of each row, unless a pass asks for others.

    keeps_read: `read` is what the last pass has come to before its head, (rows, tokens, width), until it is taken."""

    def __init__(self) -> None:
        self._asked: mx.array | None = None
        self.was_asked = False
        self.keeps_read = False
        self.read: mx.array | None = None

    @contextmanager
    def at(self, places: Sequence[int]) -> Iterator[None]:
        """In one pass: those at these places of its (rows × tokens), as one row; there may be none. was_asked then says
        whether the head was there to obey."""
        # An empty list alone would become floats, which are no index.
        self._asked, self.was_asked = mx.array(list(places), mx.int32), False
        try:
            yield
        finally:
            self._asked = None

    def of(self, x: mx.array) -> mx.array:
        """(rows, tokens, width) -> (rows, 1, width), or (1, places, width)."""
        if self.keeps_read:
            self.read = x
        if self._asked is None:
            return _last(x)
        self.was_asked = True
        return x.reshape(1, -1, x.shape[-1])[:, self._asked]


class NarrowHead:
    """Stands in for a head, or for embeddings used as one: other attributes are the layer's own."""

    def __init__(self, layer: Any, places: ReadPlaces) -> None:
        self._layer = layer
        self._places = places

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def __call__(self, x: mx.array) -> mx.array:
        """Token ids (rows, tokens) -> embeddings of all; or hidden (rows, tokens, width) -> logits of the places."""
        out: mx.array = self._layer(self._places.of(x) if x.ndim == 3 else x)
        return out

    def as_linear(self, x: mx.array) -> mx.array:
        """Hidden (rows, tokens, width) -> logits of the places."""
        logits: mx.array = self._layer.as_linear(self._places.of(x))
        return logits


def use_last_token_head(language_model: nn.Module) -> ReadPlaces:
    """Let its head see the last token only, or the places asked for, where it has one of the usual name. Call it once;
    the layers it hides are no longer among the model's parameters."""
    places = ReadPlaces()
    for module in language_model.modules():
        for name in _NAMES:
            layer = module.get(name)
            if isinstance(layer, nn.Module):
                module[name] = NarrowHead(layer, places)
    return places
