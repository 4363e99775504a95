"""head: the logits behind a chunk are its last token's, however it is cut; all heads but Molmo's are replaced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest

from engine.models import adapter, head, registry
from tests.engine.checkpoints import fresh, load
from tests.families import FAMILIES

TinyModel = Callable[..., Path]
IDS = [5, 9, 7, 3, 8, 4, 6]
QUANTIZED = ["qwen3_vl", "gemma3", "gemma2", "llama"]
WIDE = ["molmo"]  # its head has a name of its own, so its last token is read apart


def last(loaded: registry.Loaded, chunks: int) -> mx.array:
    """The logits behind IDS, (1, vocabulary), the rest of it read after so many chunks of two."""
    cache = loaded.adapter.make_cache()
    for i in range(chunks):
        loaded.adapter.prefill(IDS, (2 * i, 2 * i + 2), cache, None)
    return loaded.adapter.finish(IDS, 2 * chunks, cache, None)


@pytest.mark.parametrize(
    ("family", "dtype"), [*((name, "float32") for name in FAMILIES), *((name, "4bit") for name in QUANTIZED)]
)
def test_a_narrow_head_gives_the_logits_of_the_last_token(
    tiny_model: TinyModel, family: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load(tiny_model(family, dtype))
    last_only = [last(loaded, chunks) for chunks in ((0,) if loaded.family.whole_prompt else (1, 0, 3))]
    assert loaded.adapter._has_last_token_head == (family not in WIDE)
    monkeypatch.setattr(adapter, "use_last_token_head", lambda language_model: head.ReadPlaces())
    stock = fresh(tiny_model(family, dtype))
    expected = last(stock, 0)
    assert not stock.adapter._has_last_token_head
    assert all(logits.shape == expected.shape == (1, expected.shape[1]) for logits in last_only)
    assert all(mx.allclose(logits, expected, atol=2e-3 if dtype == "float32" else 0.1) for logits in last_only)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_sabotage_the_wrong_token_is_seen(tiny_model: TinyModel, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twin: the head sees the first token of the chunk, be it one of its own or the embeddings."""
    expected = last(fresh(tiny_model(family)), 1)
    monkeypatch.setattr(head, "_last", lambda x: x[:, :1])
    assert not mx.allclose(last(fresh(tiny_model(family)), 1), expected, atol=0.1)
