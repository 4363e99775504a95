"""Rope shifts: where text goes on behind media is what mlx-vlm works out token by token."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.config import EngineConfig, ModelSpec
from engine.models import registry
from engine.models.rope_shifts import RopeShifts
from engine.prompt.build import build_prompt
from engine.types import Request
from engine.types.prompt import Prompt
from tests.engine.drive import chat
from tests.engine.models.test_grids import PACKED, RED, TALL
from tests.engine.prompt.test_build import media_of

TinyModel = Callable[..., Path]


def load(folder: Path) -> registry.Loaded:
    return registry.load(EngineConfig(model=ModelSpec(str(folder))))


def built(loaded: registry.Loaded, request: Request) -> Prompt:
    return build_prompt(loaded, request, media_of(request))


def agrees(loaded: registry.Loaded, prompt: Prompt) -> None:
    """The shortcut's positions and delta are mlx-vlm's own."""
    positions, deltas = loaded.adapter._rope_index(prompt)
    first = prompt.spans[-1].end + 1
    found = loaded.adapter._positions_only(prompt, first)
    window = np.array(found.window(first, len(prompt.ids))["position_ids"])
    assert window.tolist() == np.array(positions)[..., first:].tolist(), "another position"
    assert found.rope_delta == int(np.array(deltas).reshape(-1)[0]), "another delta"


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often mlx-vlm was asked."""
    calls: list[int] = []
    learn = RopeShifts.learn
    monkeypatch.setattr(RopeShifts, "learn", lambda self, *args: (calls.append(1), learn(self, *args))[1])
    return calls


@pytest.mark.parametrize("family", PACKED)
def test_positions_are_those_of_mlx_vlm(
    tiny_model: TinyModel, family: str, clip_path: Path, upstream: list[int]
) -> None:
    """Of prompts that were never asked about, from grids that were."""
    loaded = load(tiny_model(family))
    loaded.adapter._rope_index(built(loaded, chat(RED, TALL, clip_path, "Known?")))
    for request in (
        chat(RED, "What is this, in many more words than before?"),
        chat("First", TALL, "then", RED, "then", TALL, "."),
        chat(clip_path, "and", RED, clip_path, "?"),
    ):
        prompt = built(loaded, request)
        upstream.clear()
        loaded.adapter._positions_only(prompt, prompt.spans[-1].end)
        assert upstream == []
        agrees(loaded, prompt)


def test_an_unknown_grid_is_asked_about(tiny_model: TinyModel, upstream: list[int]) -> None:
    loaded = load(tiny_model("qwen3_vl"))
    loaded.adapter._rope_index(built(loaded, chat(RED, "Known?")))
    upstream.clear()
    agrees(loaded, built(loaded, chat(RED, TALL, "New?")))
    assert upstream


def test_what_does_not_add_up_is_not_learnt(tiny_model: TinyModel) -> None:
    loaded = load(tiny_model("qwen3_vl"))
    prompt = built(loaded, chat(RED, "What?"))
    shifts = RopeShifts()
    positions, deltas = loaded.adapter._rope_index(prompt)
    wrong = int(np.array(deltas).reshape(-1)[0]) + 1
    shifts.learn(prompt, np.array(positions)[:, 0], wrong)
    assert shifts.delta(prompt) is None


def test_sabotage_of_a_shift_is_seen(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(tiny_model("qwen3_vl"))
    prompt = built(loaded, chat(RED, "What?"))
    agrees(loaded, prompt)
    right: Any = RopeShifts.delta
    monkeypatch.setattr(RopeShifts, "delta", lambda self, prompt: right(self, prompt) + 1)
    with pytest.raises(AssertionError, match="another position"):
        agrees(loaded, prompt)
