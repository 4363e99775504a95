"""What mlx-vlm has wrong about Gemma 3n, set right. Engine thread only.

Its last layers look at the KV of earlier ones, and turn their queries by the place where that ends. The earlier layer
has already put the chunk in, so that is the end of the chunk, not its beginning: answers depend on how a prompt is cut,
and every place is off by one at least.

Embeddings of texts are scaled where the decoder makes them itself, and not where pictures are put in beside them. In
the published model they always are, and what stands for a picture or a sound never is
(https://github.com/huggingface/transformers/blob/main/src/transformers/models/gemma3n/modeling_gemma3n.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx


class _BeforeChunk:
    """A cache layer as it was before so many tokens, for whoever asks where it ends."""

    def __init__(self, layer: Any, num_tokens: int) -> None:
        self._layer = layer
        self._num_tokens = num_tokens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    @property
    def offset(self) -> Any:
        return self._layer.offset - self._num_tokens


class _InPlace:
    """The attention of such a layer, with its queries where they belong; else as it was."""

    def __init__(self, attention: Any) -> None:
        self._attention = attention

    def __getattr__(self, name: str) -> Any:
        return getattr(self._attention, name)

    def __call__(self, x: Any, mask: Any = None, cache: Any = None) -> Any:
        return self._attention(x, mask, None if cache is None else _BeforeChunk(cache, x.shape[1]))


def place_queries(layers: Any) -> None:
    """Do so in all layers of a decoder that share KV."""
    for layer in layers:
        if layer.self_attn.is_kv_shared_layer:
            layer.self_attn = _InPlace(layer.self_attn)


def scaled(model: Any, ids: Sequence[int], embeds: mx.array) -> mx.array:
    """A prompt's embeddings (1, tokens, hidden), those of texts at the scale at which the decoder makes them."""
    first_of_pictures = model.config.vision_config.vocab_offset
    is_text = mx.array([[token < first_of_pictures] for token in ids])
    return mx.where(is_text, embeds * model.config.text_config.hidden_size**0.5, embeds)
