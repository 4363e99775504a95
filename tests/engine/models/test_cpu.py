"""cpu: what stands in MLX's place on a Linux CPU gives MLX's results, only to the thread that asked, and is used.

That an engine answers with it as the stock libraries do without it is checked in test_batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlx.core as mx
import pytest

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


def worst_difference(shape: tuple[int, int, int, int], mask: str) -> float:
    """Between our attention and MLX's."""
    rows, kv_heads, queries, keys = shape
    mx.random.seed(7)
    q = mx.random.normal((rows, HEADS, queries, WIDTH)) * 2
    k, v = (mx.random.normal((rows, kv_heads, keys, WIDTH)) * 2 for _ in range(2))
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


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sabotage_a_cut_shifted_by_one_is_seen(
    on_thread: Run, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int, int]
) -> None:
    part = cpu.Cut.of
    monkeypatch.setattr(cpu, "_MIN_PIECE_NUMBERS", 1)
    monkeypatch.setattr(cpu.Cut, "of", lambda cut, x: part(cut, mx.roll(x, 1, cut.axis)))
    assert on_thread(lambda: worst_difference(shape, "bool")) > 0.01


@pytest.mark.parametrize(("ours", "theirs"), [(cpu.sigmoid, cpu._mlx_sigmoid), (cpu.tanh, cpu._mlx_tanh)])
def test_sigmoid_and_tanh_are_mlxs_own(on_thread: Run, ours: Any, theirs: Any) -> None:
    far = mx.array([0.0, -0.0, 1e-9, 88.0, -88.0, 104.0, -104.0, 1e9, -1e9, 3e38, -3e38, mx.inf, -mx.inf])
    x = mx.concatenate([far, mx.random.normal((99, 100)).flatten() * 20])
    mx.eval(x)
    assert on_thread(lambda: float(mx.abs(ours(x) - theirs(x)).max())) < 3e-7
    assert on_thread(lambda: bool(mx.isnan(ours(mx.full((5000,), mx.nan))).all()))


def test_who_did_not_ask_and_other_types_get_mlxs_own(on_thread: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = count_pieces(monkeypatch)
    assert mx.fast.scaled_dot_product_attention is cpu.attention
    assert mx.sigmoid is cpu.sigmoid
    assert mx.tanh is cpu.tanh
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


def test_wrong_shapes_are_refused_as_by_mlx(on_thread: Run) -> None:
    q, k = mx.zeros((1, 4, 64, 64)), mx.zeros((1, 4, 64, 32))
    with pytest.raises(ValueError):
        on_thread(lambda: mx.eval(mx.fast.scaled_dot_product_attention(q, k, k, scale=1.0)))


async def test_an_engine_computes_with_it(
    engine_for: EngineFor, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = count_pieces(monkeypatch)
    engine = await engine_for(tiny_model("llama"))
    await ask(engine, chat("A prompt of some length. " * 20, max_tokens=2, reuse=False))
    assert pieces


def count_pieces(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []
    piece = cpu._piece

    def counted(*args: Any) -> mx.array:
        calls.append("piece")
        return piece(*args)

    monkeypatch.setattr(cpu, "_piece", counted)
    return calls
