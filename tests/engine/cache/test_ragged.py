"""ragged: rows of a batch that end where they end. Each goes on as it would alone, whatever the others keep."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.generate import GenerationBatch, PromptProcessingBatch
from mlx_lm.models.cache import KVCache as TextKV
from mlx_vlm.models.cache import KVCache as VisionKV

from engine.cache import tensors
from engine.cache.ragged import RaggedKV
from engine.cache.row_state import RowState

HEADS, WIDTH = 2, 4


def kv(row: int, places: Sequence[int]) -> mx.array:
    """(1, heads, tokens, width), of which each number says whose it is."""
    return mx.broadcast_to(
        mx.array([1000.0 * row + place for place in places])[None, None, :, None], (1, HEADS, len(places), WIDTH)
    )


def alone(row: int, num_tokens: int, kind: Any = TextKV) -> list[Any]:
    layer = kind()
    layer.update_and_fetch(kv(row, range(num_tokens)), -kv(row, range(num_tokens)))
    return [layer, RowState()]


def batch(*lengths: int, kind: Any = TextKV) -> list[Any]:
    rows = [tensors.ragged(alone(row, num, kind)) for row, num in enumerate(lengths)]
    return [layers[0].merge(layers) for layers in zip(*rows, strict=True)]


def read(layer: RaggedKV, num_tokens: int, rows: Sequence[int] | None = None) -> tuple[mx.array, mx.array]:
    """A pass over so many tokens of each: their places are those behind its end."""
    rows = range(len(layer.lengths)) if rows is None else rows
    new = mx.concatenate([kv(row, range(end, end + num_tokens)) for row, end in zip(rows, layer.lengths, strict=True)])
    return layer.update_and_fetch(new, -new)


def check(layer: RaggedKV, rows: Sequence[int], lengths: Sequence[int]) -> None:
    """Of each row its own tokens, in order, and a mask that shows no others."""
    assert layer.lengths == list(lengths) == layer.offset.tolist()
    mask = np.array(layer.make_mask(2))
    assert mask.shape == (len(rows), 1, 2, max(lengths) + 2)
    for at, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        one = layer.extract(at)
        assert one.offset == one.keys.shape[2] == length
        assert mx.array_equal(one.keys, kv(row, range(length))), f"row {row} has other tokens"
        assert mx.array_equal(one.values, -kv(row, range(length)))
        for query in range(2):
            seen = np.flatnonzero(mask[at, 0, query]).tolist()
            assert seen == list(range(length + 1 + query)), f"the mask of row {row} shows other places"


@pytest.mark.parametrize("kind", [TextKV, VisionKV])
def test_rows_keep_different_numbers_of_tokens(kind: Any) -> None:
    cache = batch(5, 3, 5, kind=kind)
    layer = cache[0]
    check(layer, [0, 1, 2], [5, 3, 5])
    keys, values = read(layer, 4)
    assert keys.shape == values.shape == (3, HEADS, 9, WIDTH)
    tensors.trim_rows(cache, [0, 3, 4])
    check(layer, [0, 1, 2], [9, 4, 5])
    read(layer, 1)
    check(layer, [0, 1, 2], [10, 5, 6])
    tensors.trim_rows(cache, [10 - 6, 0, 1])
    read(layer, 2)
    check(layer, [0, 1, 2], [8, 7, 7])
    assert type(layer.extract(1)) is kind and tensors.is_plain([layer.extract(1), RowState()])


def test_a_window_is_of_each_row() -> None:
    """As mlx-lm's cache of a batch has it, for a row by itself."""
    layer, (one, _) = batch(6, 3)[0], alone(0, 6)
    mask = layer.make_mask(2, return_array=True, window_size=4)
    expected = TextKV.merge([one]).make_mask(2, window_size=4)
    assert mx.array_equal(mask[:1], expected)
    assert [np.flatnonzero(seen).tolist() for seen in np.array(mask)[1, 0]] == [[0, 1, 2, 3], [1, 2, 3, 4]]


def test_rows_come_and_go() -> None:
    cache, more = batch(5, 3), [tensors.ragged(alone(2, 300)), tensors.ragged(alone(3, 1))]
    layer = cache[0]
    read(layer, 3)
    layer.trim_rows([2, 0])
    for ours, other in zip(cache, [layers[0].merge(layers) for layers in zip(*more, strict=True)], strict=True):
        ours.extend(other)
    check(layer, [0, 1, 2, 3], [6, 6, 300, 1])
    read(layer, 300)
    check(layer, [0, 1, 2, 3], [306, 306, 600, 301])
    num_bytes = layer.nbytes
    for ours in cache:
        ours.filter([0, 3])
    check(layer, [0, 3], [306, 301])
    assert layer.nbytes < num_bytes / 2, "places of the row that left are kept"
    read(layer, 1, [0, 3])
    check(layer, [0, 3], [307, 302])


def test_a_row_by_itself_is_left_as_it_is() -> None:
    row = alone(0, 4)
    ours = tensors.ragged(row)
    read(ours[0], 3)
    assert row[0].offset == 4 and tensors.num_tokens(row) == 4
    check(ours[0], [0], [7])
    left = tensors.alone(ours)
    assert tensors.is_plain(left) and left[0].offset == 7
    assert tensors.alone(row)[0] is row[0]


def test_sabotage_an_end_that_the_mask_forgets_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def of_the_longest(self: RaggedKV, num_queries: int, **_: Any) -> mx.array:
        places = mx.arange(self.size() + num_queries) <= self.size() + mx.arange(num_queries)[:, None]
        return mx.broadcast_to(places, (len(self.lengths), 1, *places.shape))

    monkeypatch.setattr(RaggedKV, "make_mask", of_the_longest)
    with pytest.raises(AssertionError, match="the mask of row 1 shows other places"):
        test_rows_keep_different_numbers_of_tokens(TextKV)


def test_what_the_batcher_does_with_a_layer() -> None:
    """All that mlx-lm's batcher asks of the layers of rows that bring one token; an upgrade must fail here."""
    source = inspect.getsource(GenerationBatch) + inspect.getsource(PromptProcessingBatch)
    for asked in (
        "c.extract(idx)",
        "c.filter(keep)",
        "_extend_cache(",
        "_merge_caches(",
        "copy.deepcopy(self.prompt_cache)",
    ):
        assert asked in source
    assert "if not tokens:" in inspect.getsource(PromptProcessingBatch.prompt), "so nothing is prepared or finalized"
