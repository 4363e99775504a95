"""branching: the logits behind rows that share a prompt are those behind the same tokens read alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from engine.cache import tensors
from engine.models import branching, registry
from engine.models.branching import Stem, Tail
from tests.engine.checkpoints import fresh, load
from tests.families import FAMILIES

TinyModel = Callable[..., Path]
PROMPT = [5, 9, 7, 3, 8, 4, 6]
WITHOUT_PLACES = [
    Stem((11, 12, 13), (), (Tail((14,), (0,)), Tail((15, 16, 17), (0, 2)))),
    Stem((11, 18), (), (Tail((19, 20), (1,)),)),
]
MIXED = [*WITHOUT_PLACES, Stem((21,), (0,)), Stem((22, 23), (0, 1), (Tail((24,), (0,)),))]
APART = [Stem((11, 12, 13), (0, 2)), Stem((14,), (0,)), Stem((15, 16), (1,))]
BRANCHING = [
    ("llama", "float32"),
    ("llama", "4bit"),
    ("gemma2", "float32"),
    ("gemma2", "4bit"),
    ("qwen3_vl", "float32"),
    ("deepseek_vl_v2", "float32"),
]
OTHERS = [("gemma3", "float32"), ("gemma3", "4bit"), ("qwen3_5", "float32")]


def paths(stems: list[Stem]) -> list[tuple[int, ...]]:
    """The tokens behind which logits are wanted, in the order in which they are given."""
    out: list[tuple[int, ...]] = []
    for stem in stems:
        out += [stem.ids[: place + 1] for place in stem.places]
        out += [stem.ids + tail.ids[: place + 1] for tail in stem.tails for place in tail.places]
    return out


def check(loaded: registry.Loaded, stems: list[Stem]) -> None:
    adapter, cache = loaded.adapter, loaded.adapter.make_cache()
    adapter.prefill(PROMPT, (0, len(PROMPT)), cache, None)
    found = branching.score(adapter, stems, cache, len(PROMPT))
    alone = []
    for path in paths(stems):
        alone.append(adapter.finish([*PROMPT, *path], 0, adapter.make_cache(), None))
    expected = mx.concatenate(alone).astype(mx.float32)
    assert found.shape == expected.shape and found.dtype == mx.float32
    is_exact = loaded.card.dtype == "float32"
    assert mx.allclose(found, expected, atol=2e-3 if is_exact else 0.2), "not the logits of the row alone"


@pytest.mark.parametrize(("family", "dtype"), BRANCHING)
@pytest.mark.parametrize("stems", [WITHOUT_PLACES[:1], WITHOUT_PLACES, MIXED], ids=["one", "none", "mixed"])
def test_rows_that_branch(tiny_model: TinyModel, family: str, dtype: str, stems: list[Stem]) -> None:
    """Also where nothing is read behind a stem itself: a question with many options has such rows."""
    loaded = load(tiny_model(family, dtype))
    assert loaded.adapter.can_branch
    check(loaded, stems)


@pytest.mark.parametrize(("family", "dtype"), OTHERS)
def test_rows_that_stand_apart(tiny_model: TinyModel, family: str, dtype: str) -> None:
    loaded = load(tiny_model(family, dtype))
    assert not loaded.adapter.can_branch
    check(loaded, APART)


def test_sabotage_a_tail_that_sees_the_padding_of_its_stem_is_seen(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twin: the shorter of two stems counts as long as the other."""
    branched = tensors.branched
    monkeypatch.setattr(
        tensors, "branched", lambda wide, rows, lengths: branched(wide, rows, [max(lengths) for _ in lengths])
    )
    with pytest.raises(AssertionError, match="not the logits of the row alone"):
        check(load(tiny_model("llama")), WITHOUT_PLACES)


@pytest.mark.parametrize("family", FAMILIES)
def test_whether_a_family_can_branch_is_known_before_its_first_token(tiny_model: TinyModel, family: str) -> None:
    loaded = load(tiny_model(family))
    if loaded.family.whole_prompt:
        return
    cache = loaded.adapter.make_cache()
    loaded.adapter.prefill(PROMPT, (0, len(PROMPT)), cache, None)
    assert loaded.adapter.can_branch == (tensors.is_plain(cache) and not loaded.adapter.serial)


def test_rows_of_a_family_without_a_mask_are_computed_one_after_the_other(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is evaluated before the KV of the next one is made."""
    loaded = fresh(tiny_model("llama"))
    adapter = loaded.adapter
    adapter.serial, adapter.can_branch = True, False
    check(loaded, APART)
    cache = adapter.make_cache()
    adapter.prefill(PROMPT, (0, len(PROMPT)), cache, None)
    events: list[str] = []
    fork, evaluate = tensors.fork, mx.eval

    def forked(layers: Any) -> Any:
        events.append("fork")
        return fork(layers)

    def evaluated(*arrays: Any) -> None:
        events.append("eval")
        evaluate(*arrays)

    monkeypatch.setattr(tensors, "fork", forked)
    monkeypatch.setattr(mx, "eval", evaluated)
    branching.score(adapter, APART, cache, len(PROMPT))
    assert events == ["fork", "eval"] * len(APART)
