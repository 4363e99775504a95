"""Logits of a chunk's last token only: no caller wants the others, and a large vocabulary's cost more than the chunk.

MLX computes what is asked for, so a chunk whose logits nobody reads costs none. But a slice of a product is computed
from the whole product: the input of the head is what must be cut. Engine thread only.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx import nn

_NAMES = ("lm_head", "embed_tokens")
"""What mlx-lm and mlx-vlm call the head; embeddings are one, too, where weights are tied."""


def _last(x: mx.array) -> mx.array:
    """(rows, tokens, width) -> (rows, 1, width)."""
    return x[:, -1:]


class LastTokenHead:
    """Stands in for a head, or for embeddings used as one: other attributes are the layer's own."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def __call__(self, x: mx.array) -> mx.array:
        """Token ids (rows, tokens) -> embeddings of all; or hidden (rows, tokens, width) -> logits (rows, 1, vocab)."""
        out: mx.array = self._layer(_last(x) if x.ndim == 3 else x)
        return out

    def as_linear(self, x: mx.array) -> mx.array:
        """Hidden (rows, tokens, width) -> logits (rows, 1, vocabulary)."""
        logits: mx.array = self._layer.as_linear(_last(x))
        return logits


def use_last_token_head(language_model: nn.Module) -> None:
    """Let its head see the last token only, where it has one of the usual name. Call it once; the layers it hides are
    no longer among the model's parameters."""
    for module in language_model.modules():
        for name in _NAMES:
            layer = module.get(name)
            if isinstance(layer, nn.Module):
                module[name] = LastTokenHead(layer)
