"""Cut KV into blocks, join blocks into KV. The one file that touches the inside of MLX's caches; engine thread only.

MLX's attention reads contiguous KV, so a block is a copy and a hit is a copy back: block-granular prefix sharing, not
paged attention. Copies cost a memory read and write; what they save is the model's forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import KVCache as TextKV
from mlx_vlm.models.cache import KVCache as VisionKV

from engine.models.adapter import RowState

# Both libraries have a class of their own, with the same inside.
_PLAIN = (TextKV, VisionKV)

_PARTS = ("keys", "values")

Payload = list[tuple[mx.array, mx.array]]
"""Per layer keys and values, each (1, kv_heads, tokens, head_dim), contiguous and evaluated."""


def is_plain(cache: Sequence[Any]) -> bool:
    """Whether every layer is plain KV, so that any token range of it stands alone (no sliding window, no state)."""
    kinds = {type(layer) for layer in cache} - {RowState}
    return bool(kinds) and kinds <= set(_PLAIN)


def cut(cache: Sequence[Any], spans: Sequence[tuple[int, int]]) -> list[Payload]:
    """Copies of the token ranges [start, end) of one row's KV, one payload per range, evaluated in one go."""
    payloads = [
        [
            (mx.contiguous(layer.keys[..., start:end, :]), mx.contiguous(layer.values[..., start:end, :]))
            for layer in _layers(cache)
        ]
        for start, end in spans
    ]
    mx.eval([array for payload in payloads for pair in payload for array in pair])
    return payloads


def join(parts: Sequence[tuple[Payload, int]], cache: Sequence[Any]) -> None:
    """Fill one row's empty KV with the first n tokens of each payload, in order, evaluated."""
    layers = _layers(cache)
    for i, layer in enumerate(layers):
        keys = mx.concatenate([payload[i][0][..., :n, :] for payload, n in parts], axis=2)
        values = mx.concatenate([payload[i][1][..., :n, :] for payload, n in parts], axis=2)
        layer.keys, layer.values, layer.offset = keys, values, keys.shape[2]
    mx.eval([(layer.keys, layer.values) for layer in layers])


def _layers(cache: Sequence[Any]) -> list[Any]:
    return [layer for layer in cache if isinstance(layer, _PLAIN)]


def num_tokens(cache: Sequence[Any]) -> int:
    """Tokens whose KV one row holds, where all its layers are plain; their arrays may be longer."""
    return min(int(layer.offset) for layer in _layers(cache))


def bytes_per_token(cache: Sequence[Any]) -> int:
    """KV of one token of one row, over all layers that grow with the prompt. cache: a row's, with something in it."""
    layers = [layer for layer in cache if getattr(layer, "keys", None) is not None]
    return sum((layer.keys.nbytes + layer.values.nbytes) // layer.keys.shape[-2] for layer in layers)


def num_bytes(payload: Payload) -> int:
    return sum(layer_bytes(payload))


def layer_bytes(payload: Payload) -> list[int]:
    return [keys.nbytes + values.nbytes for keys, values in payload]


def named(payload: Payload) -> dict[str, mx.array]:
    """A payload's arrays by name, as a file keeps them."""
    return {f"{i}.{part}": array for i, pair in enumerate(payload) for part, array in zip(_PARTS, pair, strict=True)}


def unnamed(arrays: Mapping[str, mx.array]) -> Payload:
    """The payload of which these are the arrays. Raises KeyError when one is missing."""
    return [(arrays[f"{i}.keys"], arrays[f"{i}.values"]) for i in range(len(arrays) // len(_PARTS))]
