"""Contract with both libraries' KVCache: what engine.cache.tensors reads and writes in them means what it thinks."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import KVCache as TextKV
from mlx_lm.models.cache import RotatingKVCache
from mlx_vlm.models.cache import KVCache as VisionKV

from engine.cache import tensors
from engine.cache.row_state import RowState

LAYERS = 2


def kv(tokens: int, start: int = 0) -> tuple[mx.array, mx.array]:
    """Keys and values (1, 2, tokens, 4) that tell their position."""
    positions = mx.arange(start, start + tokens).reshape(1, 1, tokens, 1)
    keys = mx.broadcast_to(positions, (1, 2, tokens, 4)).astype(mx.float32)
    return keys, -keys


def filled(kind: Any, tokens: int) -> list[Any]:
    """One row's cache after a prefill of so many tokens."""
    cache = [kind() for _ in range(LAYERS)]
    for layer in cache:
        layer.update_and_fetch(*kv(tokens))
    return [*cache, RowState()]


@pytest.mark.parametrize("kind", [TextKV, VisionKV])
def test_cut_takes_the_tokens_that_were_put_in(kind: Any) -> None:
    first, second = tensors.cut(filled(kind, 10), [(0, 4), (4, 10)])
    assert len(first) == len(second) == LAYERS
    for payload, (start, end) in ((first, (0, 4)), (second, (4, 10))):
        for keys, values in payload:
            wanted_keys, wanted_values = kv(end - start, start)
            assert mx.array_equal(keys, wanted_keys) and mx.array_equal(values, wanted_values)


@pytest.mark.parametrize("kind", [TextKV, VisionKV])
def test_a_joined_cache_goes_on_as_if_it_had_been_computed(kind: Any) -> None:
    first, second = tensors.cut(filled(kind, 10), [(0, 4), (4, 10)])
    joined = [*(kind() for _ in range(LAYERS)), RowState()]
    tensors.join([(first, 4), (second, 3)], joined)
    for layer in joined[:LAYERS]:
        assert layer.offset == 7
        keys, values = layer.update_and_fetch(*kv(5, start=7))
        wanted_keys, wanted_values = kv(12)
        assert layer.offset == 12
        assert mx.array_equal(keys, wanted_keys) and mx.array_equal(values, wanted_values)


def test_a_cut_is_a_copy() -> None:
    cache = filled(TextKV, 4)
    (payload,) = tensors.cut(cache, [(0, 4)])
    cache[0].keys[...] = 99
    assert mx.array_equal(payload[0][0], kv(4)[0])


def test_only_plain_kv_can_be_cut() -> None:
    assert tensors.is_plain(filled(TextKV, 1)) and tensors.is_plain(filled(VisionKV, 1))
    assert not tensors.is_plain([TextKV(), RotatingKVCache(max_size=8)])
    assert not tensors.is_plain([]) and not tensors.is_plain([RowState()])


def test_bytes_are_counted() -> None:
    (payload,) = tensors.cut(filled(TextKV, 4), [(0, 4)])
    assert tensors.num_bytes(payload) == LAYERS * 2 * (1 * 2 * 4 * 4) * 4
