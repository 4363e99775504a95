"""cpu: what stands in MLX's place on a Linux CPU gives MLX's results, only to the thread that asked, and is used.

That an engine answers with it as the stock libraries do without it is checked in test_batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import KVCache as TextKV

from engine.cache import tensors
from engine.models import cpu
from tests.conftest import EngineFor
from tests.engine.drive import ask, chat
from tests.engine.test_device import linux_cpu

HEADS, WIDTH = 12, 16
SHAPES = [
    # rows, heads of k, queries, keys: decoding, a step after a draft, prompts, chunks behind others
    *((1, 6, 1, 700), (16, 6, 1, 300), (3, 12, 1, 300), (2, 1, 5, 300)),
    *((1, 6, 32, 32), (1, 1, 130, 130), (1, 6, 300, 300), (1, 12, 512, 600), (1, 6, 100, 1000), (2, 6, 130, 400)),
]
MASKS = ["none", "causal", "bool", "added", "by_head", "hidden_rows"]

pytestmark = linux_cpu
Run = Callable[[Callable[[], Any]], Any]


@pytest.fixture
def on_thread() -> Iterator[Run]:
    """Run a function on a thread that computes as the engine's does."""
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(cpu.use).result()
        yield lambda function: pool.submit(function).result(timeout=60)
        pool.submit(mx.clear_streams).result()


def worst_difference(shape: tuple[int, int, int, int], mask: str, num_shared: int = 0) -> float:
    """Between our attention and MLX's. num_shared: tokens that all rows begin with, and that are there once."""
    rows, kv_heads, queries, keys = shape
    mx.random.seed(7)
    q = mx.random.normal((rows, HEADS, queries, WIDTH)) * 2
    k, v = (mx.random.normal((rows, kv_heads, keys, WIDTH)) * 2 for _ in range(2))
    if num_shared:
        layer = TextKV()
        layer.update_and_fetch(k[:1, :, :num_shared], v[:1, :, :num_shared])
        (wide,) = tensors.widened([layer], rows)
        k, v = wide.update_and_fetch(k[:, :, num_shared:], v[:, :, num_shared:])
    given = {
        "none": None,
        "causal": "causal",
        "bool": mx.random.uniform(shape=(rows, 1, queries, keys)) > 0.3,
        "added": mx.random.normal((queries, keys)) * 3,
        "by_head": mx.where(mx.random.uniform(shape=(1, HEADS, 1, keys)) > 0.3, 0.0, -mx.inf),
        "hidden_rows": mx.arange(queries)[:, None] + mx.zeros((1, keys)) > 0,
    }[mask]
    ours = cpu.attention(q, k, v, scale=WIDTH**-0.5, mask=given)
    theirs = cpu._mlx_attention(q, k, v, scale=WIDTH**-0.5, mask=given)
    assert ours.shape == theirs.shape
    return float(mx.abs(ours - theirs).max())


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attention_is_mlxs_own(on_thread: Run, shape: tuple[int, int, int, int], mask: str) -> None:
    assert on_thread(lambda: worst_difference(shape, mask)) < 2e-5


ALIKE = [
    # the same, and of the keys those that all rows share
    *(((16, 6, 1, 300), 290), ((5, 12, 9, 300), 291), ((7, 6, 40, 1100), 1060), ((3, 1, 40, 130), 10)),
    *(((2, 6, 700, 1400), 700), ((1, 6, 40, 400), 300), ((40, 2, 3, 100), 64)),
]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(("shape", "num_shared"), ALIKE, ids=str)
def test_rows_that_begin_alike_get_mlxs_own(
    on_thread: Run, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int, int], num_shared: int, mask: str
) -> None:
    pieces = count_pieces(monkeypatch, "_shared_piece")
    assert on_thread(lambda: worst_difference(shape, mask, num_shared)) < 4e-5
    assert pieces


def test_sabotage_what_rows_share_left_out_is_seen(on_thread: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    piece = cpu._shared_piece
    nothing = mx.zeros_like
    monkeypatch.setattr(cpu, "_shared_piece", lambda q, shared, *rest: piece(q, tuple(map(nothing, shared)), *rest))
    assert on_thread(lambda: worst_difference((7, 6, 40, 1100), "causal", 1060)) > 0.1


def test_what_rows_share_is_not_copied_for_each(on_thread: Run) -> None:
    rows, num_shared, keys = 64, 4000, 4010
    of_others = set(tensors._parts)

    def peak_bytes() -> int:
        shared, own = (1, 2, num_shared, 64), (rows, 2, keys - num_shared, 64)
        layer = TextKV()
        layer.update_and_fetch(mx.zeros(shared), mx.zeros(shared))
        q = mx.zeros((rows, 2, 2, 64))
        mx.eval(q, layer.keys, layer.values)
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        (wide,) = tensors.widened([layer], rows)
        k, v = wide.update_and_fetch(mx.zeros(own), mx.zeros(own))
        mx.eval(mx.fast.scaled_dot_product_attention(q, k, v, scale=0.1))
        return mx.get_peak_memory() - before

    assert on_thread(peak_bytes) < rows * num_shared * 2 * 64 * 4 / 4, "less than a quarter of the keys alone"
    assert set(tensors._parts) <= of_others, "and of what is gone nothing is kept"


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sabotage_a_cut_shifted_by_one_is_seen(
    on_thread: Run, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int, int]
) -> None:
    part = cpu.Cut.of
    monkeypatch.setattr(cpu, "_MIN_PIECE_NUMBERS", 1)
    monkeypatch.setattr(cpu.Cut, "of", lambda cut, x: part(cut, mx.roll(x, 1, cut.axis)))
    assert on_thread(lambda: worst_difference(shape, "bool")) > 0.01


def test_sigmoid_is_mlxs_own(on_thread: Run) -> None:
    far = mx.array([0.0, -0.0, 1e-9, 88.0, -88.0, 104.0, -104.0, 1e9, -1e9, 3e38, -3e38, mx.inf, -mx.inf])
    x = mx.concatenate([far, mx.random.normal((99, 100)).flatten() * 20])
    mx.eval(x)
    assert on_thread(lambda: float(mx.abs(mx.sigmoid(x) - cpu._mlx_sigmoid(x)).max())) < 3e-7
    assert on_thread(lambda: bool(mx.isnan(mx.sigmoid(mx.full((5000,), mx.nan))).all()))


def test_who_did_not_ask_and_other_types_get_mlxs_own(on_thread: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = count_pieces(monkeypatch)
    assert mx.fast.scaled_dot_product_attention is cpu.attention
    assert mx.sigmoid is cpu.sigmoid
    x = mx.random.normal((1, 4, 64, 64))

    def call(x: mx.array, **settings: Any) -> None:
        mx.eval(mx.fast.scaled_dot_product_attention(x, x, x, scale=0.1, **settings))

    call(x)
    on_thread(lambda: call(x.astype(mx.bfloat16)))
    on_thread(lambda: call(x, sinks=mx.zeros(4)))
    on_thread(lambda: call(x[:, :, :8]))
    assert not pieces
    on_thread(lambda: call(x))
    assert pieces


Q, KV = (2, 4, 64, 16), (2, 2, 80, 16)
WRONG: list[tuple[Any, ...]] = [
    # shapes of q, k, v, mask: width, rows of k, rows of v, heads of v, keys of v, more axes; then masks
    *((Q, (2, 2, 80, 8), KV, None), (Q, (1, 2, 80, 16), KV, None), (Q, KV, (1, 2, 80, 16), None)),
    *((Q, KV, (2, 1, 80, 16), None), (Q, KV, (2, 2, 64, 16), None), (Q[1:], KV, KV, None)),
    *((Q, KV, KV, "foo"), (Q, KV, KV, (80, 64)), (Q, KV, KV, (3, 1, 1, 80)), (Q, KV, KV, (1, 1, 1, 64, 80))),
]


@pytest.mark.parametrize(("q", "k", "v", "mask"), WRONG, ids=str)
def test_what_mlx_refuses_it_still_refuses(on_thread: Run, q: Any, k: Any, v: Any, mask: Any) -> None:
    def call() -> None:
        given = mx.zeros(mask) if isinstance(mask, tuple) else mask
        mx.eval(mx.fast.scaled_dot_product_attention(mx.zeros(q), mx.zeros(k), mx.zeros(v), scale=1.0, mask=given))

    with pytest.raises(ValueError):
        on_thread(call)


def test_plain_numbers_and_settings_are_taken_as_by_mlx(on_thread: Run) -> None:
    for call in (on_thread, lambda function: function()):
        assert call(lambda: float(mx.sigmoid(0.0))) == 0.5
        assert call(lambda: float(mx.sigmoid(mx.zeros(5000), stream=mx.cpu).max())) == 0.5
        with pytest.raises(TypeError):
            call(lambda: mx.sigmoid(mx.zeros(5000), wrong=None))


def test_a_long_context_is_cut_finer(on_thread: Run) -> None:
    """All pieces of a chunk may be in memory at once: not much more than MLX holds."""
    q, k = mx.zeros((1, 4, 256, 16)), mx.zeros((1, 2, 16384, 16))
    mx.eval(q, k)

    def peak_bytes(attention: Any) -> int:
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        mx.eval(attention(q, k, k, scale=0.1, mask="causal"))
        return mx.get_peak_memory() - before

    assert on_thread(lambda: peak_bytes(cpu.attention)) < 1.5 * on_thread(lambda: peak_bytes(cpu._mlx_attention))


async def test_an_engine_computes_with_it(
    engine_for: EngineFor, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = count_pieces(monkeypatch)
    engine = await engine_for(tiny_model("llama"))
    await ask(engine, chat("A prompt of some length. " * 20, max_tokens=2, reuse=False))
    assert pieces


def count_pieces(monkeypatch: pytest.MonkeyPatch, name: str = "_piece") -> list[str]:
    calls: list[str] = []
    piece = getattr(cpu, name)

    def counted(*args: Any) -> mx.array:
        calls.append(name)
        return piece(*args)

    monkeypatch.setattr(cpu, name, counted)
    return calls
