"""What a vision model makes of a prompt before it is read: an embedding for each token, and what goes with it. Engine
thread only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from engine.models.vision_tower import Use

# Cut along the token axis; everything else in mlx-vlm's InputEmbeddingsFeatures passes whole.
_PER_TOKEN = ("inputs_embeds", "visual_pos_masks", "per_layer_inputs", "mm_token_type_ids")


@dataclass(frozen=True, slots=True)
class Encoding:
    """What the vision tower did for a prompt, in ms. uses: per medium that was not reused, pictures before clips; None
    for families whose features are not kept."""

    ms: float = 0.0
    uses: tuple[Use, ...] | None = None


class Embeddings:
    """A prompt's embeddings, as mlx-vlm's get_input_embeddings gives them: inputs_embeds (1, tokens, hidden) and,
    by family, position_ids (3, 1, tokens), visual_pos_masks (1, tokens), deepstack_visual_embeds (per layer, (visual
    tokens, hidden)).

    They may begin at token `first` of the prompt, when the KV before it is there already.
    """

    def __init__(self, arrays: dict[str, Any], first: int = 0) -> None:
        deltas = arrays.pop("rope_deltas", None)
        self.rope_delta = 0 if deltas is None else int(np.array(deltas).reshape(-1)[0])
        self._first = first
        self._arrays = arrays
        masks = arrays.get("visual_pos_masks")
        self._is_visual = None if masks is None else np.array(masks).reshape(-1)
        self.encoding = Encoding()

    def with_positions(self, position_ids: mx.array, rope_deltas: mx.array) -> Embeddings:
        """The same embeddings with the whole prompt's positions in place of their own."""
        arrays = self._arrays | {"position_ids": position_ids[..., self._first :], "rope_deltas": rope_deltas}
        return Embeddings(arrays, self._first)

    def with_array(self, name: str, array: mx.array) -> Embeddings:
        """The same with one more array."""
        return Embeddings(self._arrays | {name: array}, self._first)

    def rows(self, places: mx.array) -> mx.array:
        """The embeddings of the tokens at these places, (places, hidden)."""
        rows: mx.array = self._arrays["inputs_embeds"][0, places]
        return rows

    def placed(self, rows: mx.array, start: int) -> Embeddings:
        """The same with rows (tokens, hidden) as the embeddings of the prompt's tokens from `start` on; those before
        where these begin are left out."""
        rows = rows[max(0, self._first - start) :]
        start = max(0, start - self._first)
        embeds = self._arrays["inputs_embeds"]
        parts = [embeds[:, :start], rows[None].astype(embeds.dtype), embeds[:, start + len(rows) :]]
        return Embeddings(self._arrays | {"inputs_embeds": mx.concatenate(parts, axis=1)}, self._first)

    def patched(self, other: Embeddings, where: mx.array) -> Embeddings:
        """These embeddings with the other's at the tokens of `where`, (1, tokens) bool."""
        embeds = mx.where(where[..., None], other._arrays["inputs_embeds"], self._arrays["inputs_embeds"])
        return Embeddings(self._arrays | {"inputs_embeds": embeds} | self._all_deepstack(other), self._first)

    def _all_deepstack(self, other: Embeddings) -> dict[str, Any]:
        """Deepstack features of both, in the order of their tokens; they have no visual token in common."""
        if self._is_visual is None or other._is_visual is None:
            return {}
        places = np.concatenate([np.flatnonzero(self._is_visual), np.flatnonzero(other._is_visual)])
        order = mx.array(np.argsort(places))
        pairs = zip(self._arrays["deepstack_visual_embeds"], other._arrays["deepstack_visual_embeds"], strict=True)
        return {
            "visual_pos_masks": mx.array(self._is_visual | other._is_visual)[None],
            "deepstack_visual_embeds": [mx.concatenate(list(pair))[order] for pair in pairs],
        }

    @property
    def num_tokens(self) -> int:
        return self._first + int(self._arrays["inputs_embeds"].shape[1])

    def only(self, name: str) -> dict[str, Any]:
        """One of the arrays as a keyword argument."""
        return {name: self._arrays[name]}

    def window(self, start: int, end: int) -> dict[str, Any]:
        """Keyword arguments for the tokens [start, end) of the prompt."""
        start, end = start - self._first, end - self._first
        out = {name: value for name, value in self._arrays.items() if name not in _PER_TOKEN}
        out |= {name: self._arrays[name][:, start:end] for name in _PER_TOKEN if name in self._arrays}
        if "position_ids" in out:
            out["position_ids"] = out["position_ids"][..., start:end]
        if self._is_visual is not None and "deepstack_visual_embeds" in out:
            layers = out["deepstack_visual_embeds"]
            if getattr(layers, "ndim", 0) == 4:  # qwen3_omni_moe: (1, tokens, layers, hidden), a row for every token
                return out | {"deepstack_visual_embeds": layers[:, start:end]}
            # Else they are compact: one row per visual token, so cut by how many came before.
            first, last = int(self._is_visual[:start].sum()), int(self._is_visual[:end].sum())
            out["deepstack_visual_embeds"] = [layer[first:last] for layer in layers]
        return out
