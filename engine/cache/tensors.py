"""Cut KV into blocks, join blocks into KV. The one file that touches the inside of MLX's caches; engine thread only.

MLX's attention reads contiguous KV, so a block is a copy and a hit is a copy back: block-granular prefix sharing, not
paged attention. Copies cost a memory read and write; what they save is the model's forward pass.
"""

from __future__ import annotations

import copy
import json
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx_lm.models import cache as text_layers
from mlx_lm.models.cache import KVCache as TextKV
from mlx_vlm.models import cache as vision_layers
from mlx_vlm.models.cache import KVCache as VisionKV

from engine.cache.ragged import RaggedKV
from engine.cache.row_state import RowState

# Both libraries have a class of their own, with the same inside.
_PLAIN = (TextKV, VisionKV)

# Layers that can be made again from their own state and meta_state.
_WHOLE = {
    f"{where.__name__}.{kind}": getattr(where, kind)
    for where in (text_layers, vision_layers)
    for kind in ("KVCache", "RotatingKVCache", "ArraysCache")
}

_PARTS = ("keys", "values")


class Payload(list[tuple[mx.array, mx.array]]):
    """Per layer keys and values, each (1, kv_heads, tokens, head_dim), contiguous and evaluated."""


def is_plain(cache: Sequence[Any]) -> bool:
    """Whether every layer is plain KV, so that any token range of it stands alone (no sliding window, no state)."""
    kinds = {type(layer) for layer in cache if not isinstance(layer, RowState)}
    return bool(kinds) and kinds <= set(_PLAIN)


def cut(cache: Sequence[Any], spans: Sequence[tuple[int, int]]) -> list[Payload]:
    """Copies of the token ranges [start, end) of one row's KV, one payload per range, evaluated in one go."""
    payloads = [
        Payload(
            (mx.contiguous(layer.keys[..., start:end, :]), mx.contiguous(layer.values[..., start:end, :]))
            for layer in _layers(cache)
        )
        for start, end in spans
    ]
    mx.eval([array for payload in payloads for pair in payload for array in pair])
    for row in _states(cache):
        row.was_cut(spans, payloads)
    return payloads


def join(parts: Sequence[tuple[Payload, int]], cache: Sequence[Any]) -> None:
    """Fill one row's empty KV with the first n tokens of each payload, in order, evaluated."""
    layers = _layers(cache)
    for i, layer in enumerate(layers):
        keys = mx.concatenate([payload[i][0][..., :n, :] for payload, n in parts], axis=2)
        values = mx.concatenate([payload[i][1][..., :n, :] for payload, n in parts], axis=2)
        layer.keys, layer.values, layer.offset = keys, values, keys.shape[2]
    mx.eval([(layer.keys, layer.values) for layer in layers])
    for row in _states(cache):
        row.was_joined(parts)


def _layers(cache: Sequence[Any]) -> list[Any]:
    return [layer for layer in cache if isinstance(layer, _PLAIN)]


def _states(cache: Sequence[Any]) -> list[RowState]:
    return [layer for layer in cache if isinstance(layer, RowState)]


def num_tokens(cache: Sequence[Any]) -> int:
    """Tokens whose KV one row holds, where all its layers are plain; their arrays may be longer."""
    return min(int(layer.offset) for layer in _layers(cache))


def bytes_per_token(cache: Sequence[Any]) -> dict[int | None, int]:
    """KV bytes of one token of one row, by how many tokens the layers keep: None for those that keep all, else the size
    of their window. Layers whose size does not depend on the prompt are not in it. cache: a row's, with something in
    it."""
    sizes: dict[int | None, int] = {}
    for layer in cache:
        if getattr(layer, "keys", None) is not None:
            kept = getattr(layer, "max_size", None) or getattr(layer, "chunk_size", None)
            num_bytes = (layer.keys.nbytes + layer.values.nbytes) // layer.keys.shape[-2]
            sizes[kept] = sizes.get(kept, 0) + num_bytes
    return sizes


def fork(cache: Sequence[Any]) -> list[Any]:
    """A row's layers once more, with arrays of their own: what is written to either is not seen by the other."""
    return [_forked(layer) for layer in cache]


def _forked(layer: Any) -> Any:
    if isinstance(layer, RowState):
        return layer.forked()
    out = copy.copy(layer)
    vars(out).update({name: _own(value) for name, value in vars(layer).items()})
    return out


def ragged(cache: Sequence[Any]) -> list[Any]:
    """A row's layers, plain KV with something in it, as those of a batch whose rows may each go on from another length.
    Until they are merged with others, which copies them, they hold the row's own arrays."""
    return [
        layer.ragged()
        if isinstance(layer, RowState)
        else RaggedKV(layer.keys, layer.values, [layer.offset], type(layer))
        for layer in cache
    ]


def alone(cache: Sequence[Any]) -> list[Any]:
    """The layers of a row that has left a batch, perhaps before it was merged into it: plain again."""
    is_ragged = any(isinstance(layer, RaggedKV) for layer in cache)
    return [layer.extract(0) for layer in cache] if is_ragged else list(cache)


def trim_rows(cache: Sequence[Any], nums: Sequence[int]) -> None:
    """Take its last tokens off each row of such a batch."""
    if any(nums):
        for layer in cache:
            layer.trim_rows(nums)


def widened(cache: Sequence[Any], num_rows: int) -> list[Any]:
    """A row's layers as those of so many rows that all begin with it, for one pass. The row's own stay as they are.

    Plain KV is not copied before it is read, and then for one layer at a time.
    """
    return [_wide(layer, num_rows) for layer in cache]


def _wide(layer: Any, num_rows: int) -> Any:
    if isinstance(layer, RowState):
        return layer.widened(num_rows)
    if type(layer) in _PLAIN:
        kind = _SharedTextKV if type(layer) is TextKV else _SharedVisionKV
        shared: Any = kind.__new__(kind)
        shared.keys, shared.values, shared.offset = layer.keys, layer.values, layer.offset
        return shared
    out = copy.copy(layer)
    vars(out).update({name: _repeated(value, num_rows) for name, value in vars(layer).items()})
    return out


def _repeated(value: Any, num_rows: int) -> Any:
    if isinstance(value, mx.array):
        return mx.repeat(value, num_rows, axis=0) if value.ndim > 1 else mx.array(value)
    if isinstance(value, list | tuple):
        return type(value)(_repeated(part, num_rows) for part in value)
    return _wide(value, num_rows) if hasattr(value, "update_and_fetch") else value


class _SharedTextKV(TextKV):
    """One row's KV, before that of several rows in one pass. own: what these rows added, (rows, ...) each."""

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        self.own = keys, values
        return _behind_shared(self, keys, values)


class _SharedVisionKV(VisionKV):
    """The same for mlx-vlm's class."""

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        self.own = keys, values
        return _behind_shared(self, keys, values)


def branched(wide: Sequence[Any], stems: Sequence[int], lengths: Sequence[int]) -> list[Any]:
    """After a pass over rows (`widened`, plain KV only): the layers of new rows, each of which goes on from one of
    those, its stem, behind so many of that one's tokens. For one pass."""
    rows, width = mx.array(list(stems)), max(lengths)
    ends = mx.array(list(lengths))
    return [
        layer.branched(stems, lengths)
        if isinstance(layer, RowState)
        else BranchedKV(layer, [own[rows, :, :width] for own in layer.own], ends)
        for layer in wide
    ]


class BranchedKV:
    """The KV of rows in one pass: that of one shared row, then each row's own, padded behind `ends` (rows,), then what
    the pass adds. offset: (rows,) tokens before the pass, as in a batch's cache."""

    def __init__(self, shared: Any, own: Sequence[mx.array], ends: mx.array) -> None:
        self._shared = shared
        self._own = own
        self._ends = ends
        self.offset = shared.offset + ends

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        own = [mx.concatenate([own, new], axis=2) for own, new in zip(self._own, (keys, values), strict=True)]
        return _behind_shared(self._shared, own[0], own[1])

    def make_mask(self, num_queries: int, **_: Any) -> mx.array:
        """(rows, 1, queries, keys): all that is shared, the row's own up to its end, and the pass up to the query."""
        width, at = self._own[0].shape[2], mx.arange(num_queries)
        size = (self._ends.shape[0], 1, num_queries)
        return mx.concatenate(
            [
                mx.ones((*size, self._shared.offset), mx.bool_),
                mx.broadcast_to((mx.arange(width) < self._ends[:, None])[:, None, None], (*size, width)),
                mx.broadcast_to(at[:, None] >= at, (*size, num_queries)),
            ],
            axis=-1,
        )


@dataclass(frozen=True, slots=True)
class KVParts:
    """Keys and values of rows that begin alike, in two parts: (1, kv_heads, tokens, head_dim) of what they share, and
    (rows, kv_heads, tokens, head_dim) of what each has behind it."""

    shared: tuple[mx.array, mx.array]
    own: tuple[mx.array, mx.array]


_parts: dict[int, tuple[weakref.ref[mx.array], weakref.ref[mx.array], KVParts]] = {}
"""By the id of the keys, for as long as they are there."""


def parts_of(keys: mx.array, values: mx.array) -> KVParts | None:
    """The parts that these were joined from, None where they were not. Who computes with the parts never makes the
    whole, in which what is shared is copied for each row: MLX computes what is asked for only."""
    whole = _parts.get(id(keys))
    return whole[2] if whole is not None and whole[0]() is keys and whole[1]() is values else None


def _behind_shared(layer: Any, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
    """What each row has, (rows, ...), behind the KV that a layer of one row holds."""
    shared = layer.keys[..., : layer.offset, :], layer.values[..., : layer.offset, :]
    whole = _behind(shared[0], keys), _behind(shared[1], values)
    number = id(whole[0])
    gone = weakref.ref(whole[0], lambda _: _parts.pop(number, None))
    _parts[number] = (gone, weakref.ref(whole[1]), KVParts(shared, (keys, values)))
    return whole


def _behind(shared: mx.array, own: mx.array) -> mx.array:
    """(1, kv_heads, tokens, head_dim) before (rows, ...), in each row."""
    return mx.concatenate([mx.broadcast_to(shared, (own.shape[0], *shared.shape[1:])), own], axis=2)


def _own(value: Any) -> Any:
    if isinstance(value, mx.array):
        return mx.array(value)
    return [_own(part) for part in value] if isinstance(value, list) else value


def num_bytes(payload: Payload) -> int:
    return sum(layer_bytes(payload))


def layer_bytes(payload: Payload) -> list[int]:
    return [keys.nbytes + values.nbytes for keys, values in payload]


def to_arrays(payload: Payload) -> dict[str, mx.array]:
    """A payload's arrays by name, as a file keeps them."""
    return {f"{i}.{part}": array for i, pair in enumerate(payload) for part, array in zip(_PARTS, pair, strict=True)}


def from_arrays(arrays: Mapping[str, mx.array]) -> Payload:
    """The payload of which these are the arrays. Raises KeyError when one is missing."""
    return Payload((arrays[f"{i}.keys"], arrays[f"{i}.values"]) for i in range(len(arrays) // len(_PARTS)))


def serialize(layers: Sequence[Any]) -> tuple[dict[str, mx.array], str] | None:
    """A row's layers as named arrays, and everything else about them as JSON. Returns None when they hold more."""
    arrays: dict[str, mx.array] = {}
    facts: list[Any] = []
    for layer in layers:
        name = f"{type(layer).__module__}.{type(layer).__name__}"
        if isinstance(layer, RowState):
            facts.append(layer.deltas)
        elif name in _WHOLE and all(getattr(layer, pad, None) is None for pad in ("left_padding", "lengths")):
            facts.append([name, _without(layer.state, arrays), getattr(layer, "meta_state", None)])
        else:
            return None
    return arrays, json.dumps(facts)


def deserialize(arrays: Mapping[str, mx.array], facts: str) -> list[Any]:
    """The layers that `serialize` described, made of these very arrays. Raises KeyError, ValueError or TypeError."""
    layers: list[Any] = []
    for entry in json.loads(facts):
        if not entry or not isinstance(entry[0], str):
            layers.append(RowState(entry))
            continue
        name, state, meta = entry
        layer = _WHOLE[name].__new__(_WHOLE[name])
        layer.state = _with(state, arrays)
        if meta is not None:
            layer.meta_state = meta
        layers.append(layer)
    return layers


def _without(state: Any, arrays: dict[str, mx.array]) -> Any:
    """A layer's state with the names of its arrays in their places."""
    if isinstance(state, mx.array):
        name = str(len(arrays))
        arrays[name] = state
        return {"array": name}
    return [_without(part, arrays) for part in state] if isinstance(state, list | tuple) else state


def _with(state: Any, arrays: Mapping[str, mx.array]) -> Any:
    if isinstance(state, dict):
        return arrays[state["array"]]
    return [_with(part, arrays) for part in state] if isinstance(state, list) else state
