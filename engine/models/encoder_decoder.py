"""Models of which an encoder reads the prompt and a decoder writes the answer: Florence-2. Engine thread only.

The decoder has KV of its own answer alone, and looks at what the encoder made of the prompt at every step. Both travel
in the row's RowState; there is no KV of a prompt that another could use.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx


class EncoderDecoder:
    """One of mlx-vlm."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(self, ids: mx.array, again: dict[str, Any], arguments: dict[str, Any]) -> mx.array:
        """Logits (1, 1, vocabulary). The first call of a row has its whole prompt, and arguments where it has a
        picture; every other one a token. again: the row's, which is filled here."""
        decoder = self._model.language_model
        if not again:
            arguments = arguments or self._model.get_input_embeddings(ids).to_dict()
            arguments = {name: value for name, value in arguments.items() if value is not None}
            again["cache"] = decoder.make_cache()
        else:
            arguments = {"cross_attention_states": again["states"]}
        out = decoder(ids, cache=again["cache"], **arguments)
        again["states"] = out.cross_attention_states
        logits: mx.array = out.logits
        return logits
