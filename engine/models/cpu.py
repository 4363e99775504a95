"""Attention and sigmoid on a Linux CPU, faster than MLX's own. Engine thread only.

MLX's CPU backend computes exp one number at a time except on Apple's processors, and each operation on one core: over
half of reading a prompt is spent there. Its `power` is the C library's and takes a third of the time, so exp(x) is
2^(x log2 e) here; attention is cut into pieces that alternate between as many streams as there are cores; heads that
share keys read them once, and so do rows that begin alike; and a causal piece leaves out the keys behind its last
query. Results are MLX's to the rounding of float32.

`use` puts them in MLX's place for the thread that calls it: the models call MLX by name and take no other function, so
this is the project's one patch of a library. Other threads (a library measured beside the engine), other types than
float32 and small arrays get MLX's own.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import mlx.core as mx

from engine.cache.tensors import KVParts, parts_of
from engine.device import num_usable_cores

_LOG2_E = math.log2(math.e)
_LOWEST = float(mx.finfo(mx.float32).min)

_MIN_NUMBERS = 4096
"""Of exponentials in a call; below it the calls cost more than what they compute."""

_MIN_PIECE_NUMBERS = 16384
"""What a piece must hold to be worth another stream."""

_MIN_QUERIES = 32
"""From so many on attention is cut by queries."""

_PIECE_QUERIES = (16, 128)
_MAX_PIECE_NUMBERS = 1 << 20
"""At least and at most so many queries in such a piece, by the scores that the pieces hold in memory at once."""

_MAX_STREAMS = 8

_ROWS, _KV_HEADS, _QUERIES = 0, 1, 3
"""Axes of scores, (rows, kv_heads, group, queries, keys)."""

_NO_MATTER = ("sinks", "stream", "force_fused")
"""Settings of MLX's functions that change nothing while they are not given."""


@dataclass(frozen=True, slots=True)
class Cut:
    """[start, end) of an axis of q."""

    axis: int
    start: int
    end: int

    def of(self, x: mx.array) -> mx.array:
        """This part of x; all of it where it is broadcast."""
        return x if x.shape[self.axis] == 1 else x[(*[slice(None)] * self.axis, slice(self.start, self.end))]


_mlx_attention: Callable[..., mx.array] = mx.fast.scaled_dot_product_attention
_mlx_sigmoid: Callable[..., mx.array] = mx.sigmoid


class _Thread(threading.local):
    num_streams = 0
    other_streams: tuple[mx.Stream, ...] = ()


_thread = _Thread()


def use() -> bool:
    """Compute with these on this thread from now on. False, and nothing changes, on a Mac and where MLX has a GPU."""
    if sys.platform == "darwin" or mx.default_device() != mx.Device(mx.cpu):
        return False
    _thread.num_streams = min(_MAX_STREAMS, num_usable_cores())
    mx.fast.scaled_dot_product_attention = attention
    mx.sigmoid = sigmoid
    return True


def sigmoid(x: mx.array, **settings: Any) -> mx.array:
    """1 / (1 + e^-x), any shape, as mx.sigmoid."""
    if not (_is_ours(x, **settings) and x.size >= _MIN_NUMBERS):
        return _mlx_sigmoid(x, **settings)
    return mx.reciprocal(1.0 + mx.power(2.0, x * -_LOG2_E))


def attention(
    q: mx.array, k: mx.array, v: mx.array, *, scale: float, mask: mx.array | str | None = None, **settings: Any
) -> mx.array:
    """softmax(scale q k^T + mask) v, as mx.fast.scaled_dot_product_attention.

    q: (rows, heads, queries, d); k, v: (rows, kv_heads, keys, d), kv_heads dividing heads; mask: None, "causal" (the
    last query sees the last key), bool, or to be added; it broadcasts to (rows, heads, queries, keys).
    """
    if not (_is_ours(q, k, v, **settings) and _is_plain(q, k, v, mask)):
        return _mlx_attention(q, k, v, scale=scale, mask=mask, **settings)
    num_rows, num_heads, num_queries, width = q.shape
    num_kv = k.shape[1]
    # The heads that share keys lie in one matrix product, (group, queries) by keys.
    group = num_heads // num_kv
    q = (q * (float(scale) * _LOG2_E)).reshape(num_rows, num_kv, group, num_queries, width)
    if isinstance(mask, mx.array):
        mask = _grouped(mask, num_kv, group)
    parts = parts_of(k, v)
    if parts is not None:
        return _of_parts(q, parts, mask).reshape(num_rows, num_heads, num_queries, v.shape[-1])
    pieces = []
    cuts = _cuts(q.shape, k.shape[2])
    for cut, stream in zip(cuts, _streams(len(cuts)), strict=False):
        with mx.stream(stream):
            pieces.append(_piece(q, k, v, mask, cut))
    return mx.concatenate(pieces, cuts[0].axis).reshape(num_rows, num_heads, num_queries, v.shape[-1])


def _is_ours(*arrays: Any, **settings: Any) -> bool:
    """Whether this thread asked for it, the arrays are float32, and no setting is given."""
    return (
        _thread.num_streams > 0
        and all(isinstance(x, mx.array) and x.dtype == mx.float32 for x in arrays)
        and all(name in _NO_MATTER and not isinstance(x, mx.array) and not x for name, x in settings.items())
    )


def _is_plain(q: mx.array, k: mx.array, v: mx.array, mask: mx.array | str | None) -> bool:
    """Whether attention is large enough to gain, and of shapes that MLX takes; what it refuses, it shall say."""
    if not q.ndim == k.ndim == v.ndim == 4 or q.size == 0:
        return False
    rows, heads, queries, width = q.shape
    keys = k.shape[2]
    whole = (rows, heads, queries, keys)
    if isinstance(mask, mx.array):
        fits = mask.ndim <= len(whole) and mask.dtype in (mx.bool_, mx.float32)
        broadcasts = all(n in (1, m) for n, m in zip(mask.shape[::-1], whole[::-1], strict=False))
    else:
        fits, broadcasts = mask in (None, "causal"), True
    same = k.shape == (rows, v.shape[1], v.shape[2], width) and v.shape[0] == rows and heads % k.shape[1] == 0
    return fits and broadcasts and same and queries <= keys and math.prod(whole) >= _MIN_NUMBERS


def _grouped(mask: mx.array, num_kv: int, group: int) -> mx.array:
    """A mask by (rows, heads, queries, keys) as one by (rows, kv_heads, group, queries, keys)."""
    mask = mask.reshape(*[1] * (4 - mask.ndim), *mask.shape)
    return mask[:, :, None] if mask.shape[1] == 1 else mask.reshape(mask.shape[0], num_kv, group, *mask.shape[2:])


def _cuts(shape: tuple[int, ...], num_keys: int) -> list[Cut]:
    """Where to cut attention with queries of this shape."""
    *others, num_queries, _ = shape
    num_streams = _thread.num_streams
    numbers = math.prod(others) * num_keys
    if num_queries >= _MIN_QUERIES:
        axis, (least, most) = _QUERIES, _PIECE_QUERIES
        size = max(least, min(most, _MAX_PIECE_NUMBERS // numbers))
        num_pieces = num_streams * -(-num_queries // (size * num_streams))
    else:
        axis = _ROWS if shape[_ROWS] >= shape[_KV_HEADS] else _KV_HEADS
        num_pieces = min(num_streams, 1 + numbers * num_queries // _MIN_PIECE_NUMBERS)
    size = -(-shape[axis] // num_pieces)
    return [Cut(axis, start, min(start + size, shape[axis])) for start in range(0, shape[axis], size)]


def _streams(num_pieces: int) -> Iterator[mx.Stream]:
    """Streams in turns, the caller's first (mlx-lm's batcher has its own): a single piece waits for no other.

    The rest is made when it is needed: a stream's thread lives as long as the process.
    """
    if num_pieces > 1 and not _thread.other_streams:
        _thread.other_streams = tuple(mx.new_stream(mx.cpu) for _ in range(_thread.num_streams - 1))
    return cycle((mx.default_stream(mx.cpu), *_thread.other_streams))


def _piece(q: mx.array, k: mx.array, v: mx.array, mask: mx.array | str | None, cut: Cut) -> mx.array:
    """Attention of a piece of q, (rows, kv_heads, group, queries, d) scaled already; mask as _grouped makes it, or
    "causal"."""
    if isinstance(mask, str):
        num_queries, num_keys = q.shape[_QUERIES], k.shape[2]
        first, last = (cut.start, cut.end) if cut.axis == _QUERIES else (0, num_queries)
        num_seen = num_keys - num_queries + last
        k, v = k[:, :, :num_seen], v[:, :, :num_seen]
        mask = mx.arange(num_seen - (last - first), num_seen)[:, None] >= mx.arange(num_seen)
    elif mask is not None:
        mask = cut.of(mask)
    q = cut.of(q)
    if cut.axis != _QUERIES:
        k, v = cut.of(k), cut.of(v)
    rows, kv_heads, group, queries, _ = q.shape
    scores = q.reshape(rows, kv_heads, group * queries, -1) @ k.swapaxes(-1, -2)
    scores = scores.reshape(rows, kv_heads, group, queries, -1)
    scores = _masked(scores, mask)
    weights = mx.power(2.0, scores - mx.max(scores, axis=-1, keepdims=True))
    out = weights.reshape(rows, kv_heads, group * queries, -1) @ v
    return out.reshape(rows, kv_heads, group, queries, -1) / mx.sum(weights, axis=-1, keepdims=True)


def _masked(scores: mx.array, mask: mx.array | None) -> mx.array:
    if mask is None:
        return scores
    return mx.where(mask, scores, _LOWEST) if mask.dtype == mx.bool_ else scores + mx.maximum(mask * _LOG2_E, _LOWEST)


def _of_parts(q: mx.array, parts: KVParts, mask: mx.array | str | None) -> mx.array:
    """Attention of rows that begin alike, whose KV is not copied; q and the result as in _piece."""
    rows, kv_heads, group, queries, _ = q.shape
    masks = _masks(mask, queries, parts)
    numbers = kv_heads * group * (parts.shared[0].shape[2] + parts.own[0].shape[2])  # of scores, for each query
    num_queries = min(queries, max(_PIECE_QUERIES[0], _MAX_PIECE_NUMBERS // numbers))
    num_rows = min(-(-rows // _thread.num_streams), max(1, _MAX_PIECE_NUMBERS // (numbers * num_queries)))
    row_cuts = [Cut(_ROWS, start, min(start + num_rows, rows)) for start in range(0, rows, num_rows)]
    for_all_streams = -(-queries * len(row_cuts) // _thread.num_streams)
    num_queries = min(num_queries, max(_PIECE_QUERIES[0], for_all_streams))
    cuts = [Cut(_QUERIES, start, min(start + num_queries, queries)) for start in range(0, queries, num_queries)]
    streams = _streams(len(row_cuts) * len(cuts))
    done = []
    for row in row_cuts:
        pieces = []
        for cut in cuts:
            with mx.stream(next(streams)):
                own = row.of(parts.own[0]), row.of(parts.own[1])
                seen = [None if mask is None else cut.of(row.of(mask)) for mask in masks]
                pieces.append(_shared_piece(cut.of(row.of(q)), parts.shared, own, seen))
        done.append(mx.concatenate(pieces, _QUERIES))
    return mx.concatenate(done, _ROWS)


def _masks(mask: mx.array | str | None, num_queries: int, parts: KVParts) -> tuple[mx.array | None, mx.array | None]:
    """What is seen of the shared keys, and of each row's own; None for all of them."""
    num_shared, num_own = parts.shared[0].shape[2], parts.own[0].shape[2]
    if isinstance(mask, str):
        causal = mx.arange(num_own - num_queries, num_own)[:, None] >= mx.arange(num_own)
        return None, causal[None, None, None]
    if mask is None or mask.shape[-1] == 1:
        return mask, mask
    return mask[..., :num_shared], mask[..., num_shared:]


def _shared_piece(
    q: mx.array,
    shared: tuple[mx.array, mx.array],
    own: tuple[mx.array, mx.array],
    masks: Sequence[mx.array | None],
) -> mx.array:
    """_piece for such rows. All of them are multiplied with what they share in one product for each head."""
    rows, kv_heads, group, queries, width = q.shape
    q = q.swapaxes(0, 1)
    kinds = []
    for part, mask, num in ((shared, masks[0], rows * group), (own, masks[1], group)):
        keys, values = (x.swapaxes(0, 1) for x in part)  # (kv_heads, rows or 1, tokens, d)
        scores = q.reshape(kv_heads, -1, num * queries, width) @ keys.swapaxes(-1, -2)
        scores = scores.reshape(kv_heads, rows, group, queries, -1)
        kinds.append((_masked(scores, None if mask is None else mask.swapaxes(0, 1)), values, num))
    highest = mx.maximum(*(mx.max(scores, axis=-1, keepdims=True) for scores, _, _ in kinds))
    out = total = mx.array(0.0)
    for scores, values, num in kinds:
        weights = mx.power(2.0, scores - highest)
        total = total + mx.sum(weights, axis=-1, keepdims=True)
        of_part = weights.reshape(kv_heads, -1, num * queries, weights.shape[-1]) @ values
        out = out + of_part.reshape(kv_heads, rows, group, queries, -1)
    return (out / total).swapaxes(0, 1)
