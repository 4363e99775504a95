"""Decoders of which some layers look at the picture (cross-attention): Llama 3.2 Vision. Engine thread only.

Such a layer keeps no KV: it wants the picture's features at every step. Where there is no picture it must do nothing,
as in the published model (https://arxiv.org/abs/2407.21783, section 7); mlx-vlm instead lets it look at the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

FEATURES = "cross_attention_states"
_ROWS = "full_text_row_masked_out_mask"


class Across:
    """Of one language model of mlx-vlm."""

    def __init__(self, language_model: Any) -> None:
        self._places = frozenset(language_model.config.cross_attention_layers)
        self._width = int(language_model.config.hidden_size)
        self._dtype = language_model.model.norm.weight.dtype

    def own(self, layers: Sequence[Any]) -> list[Any]:
        """Of an empty cache for all layers, those of the layers that keep KV."""
        return [layer for place, layer in enumerate(layers) if place not in self._places]

    def all_layers(self, own: Sequence[Any]) -> list[Any]:
        """The same for the model, which counts all its layers: None for one that keeps nothing."""
        rest = iter(own)
        return [None if place in self._places else next(rest) for place in range(len(own) + len(self._places))]

    def seen(self, again: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """What the model is given for one row at a step. again: see RowState."""
        return again[0] or self._nothing()

    def _nothing(self) -> dict[str, Any]:
        """Features that add nothing, and the mask of every token that shuts the rest of the layer."""
        return {FEATURES: mx.zeros((1, 1, self._width), self._dtype), _ROWS: mx.zeros((1, 1, 1, 1), self._dtype)}
