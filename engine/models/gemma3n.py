"""What mlx-vlm has wrong about Gemma 3n, set right. Engine thread only.

Its last layers look at the KV of earlier ones, and turn their queries by the place where that ends. The earlier layer
has already put the chunk in, so that is the end of the chunk, not its beginning: answers depend on how a prompt is cut,
and every place is off by one at least.

Embeddings of texts are scaled where the decoder makes them itself, and not where pictures are put in beside them. In
the published model they always are, and what stands for a picture or a sound never is. The marks before and behind a
medium have embeddings in tables of their own, which mlx-vlm asks only where it puts in media in the same pass; here
each of several sounds has a pass of its own
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


def corrected(model: Any, ids: Sequence[int], embeds: mx.array) -> mx.array:
    """A prompt's embeddings (1, tokens, hidden): texts at the scale at which the decoder makes them, marks from the
    tables of their medium."""
    tokens = mx.array([list(ids)])
    is_text = (tokens < model.embed_vision.vocab_offset)[..., None]
    embeds = mx.where(is_text, embeds * model.config.text_config.hidden_size**0.5, embeds)
    is_soft = (tokens == model.config.image_token_id) | (tokens == model.config.audio_token_id)
    for table, end in ((model.embed_vision, model.embed_audio.vocab_offset), (model.embed_audio, model.vocab_size)):
        is_mark = (tokens >= table.vocab_offset) & (tokens < end) & ~is_soft
        marks = table(input_ids=mx.where(is_mark, tokens, table.vocab_offset))
        embeds = mx.where(is_mark[..., None], marks.astype(embeds.dtype), embeds)
    return embeds
