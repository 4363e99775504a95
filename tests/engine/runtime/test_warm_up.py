"""warm_up: the first pictures of a model are read before anybody waits, within a bounded time, and changes nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.cache.features import FeatureStore
from engine.config import EngineConfig, ModelSpec
from engine.models import registry
from engine.models.vision_tower import MAX_PATCHES
from engine.runtime.loading import warm_up as warm_up_module
from engine.runtime.loading.warm_up import SIDES_PX, WarmUp
from engine.runtime.memory_use.encoder_memory import EncoderMemory
from tests.engine.drive import ask, chat
from tests.pictures import picture

TinyModel = Callable[..., Path]


class Run:
    """A warm-up of a tiny model, and between how many layers it was asked whether to end."""

    def __init__(self, folder: Path, *, num_layers: int | None = None) -> None:
        self.asked = 0
        loaded = registry.load(EngineConfig(model=ModelSpec(str(folder))))
        warm_up = WarmUp()

        def between_layers() -> None:
            self.asked += 1
            warm_up.between_layers()

        self.num_layers = loaded.adapter.interleave(lambda: warm_up.is_on, between_layers)
        self.found = warm_up.run(loaded, FeatureStore(1), self.num_layers if num_layers is None else num_layers)
        assert not warm_up.is_on


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO, logger="engine.runtime.loading.warm_up")
    return lambda: [record.getMessage() for record in caplog.records if "warm-up" in record.getMessage()]


@pytest.mark.parametrize("family", ["qwen3_vl", "pixtral"])
def test_a_warm_up_reads_its_pictures_through_all_layers(
    tiny_model: TinyModel, family: str, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm_up_module, "MEASURE_S", warm_up_module.MAX_S)
    run = Run(tiny_model(family))
    assert run.asked == (1 + len(SIDES_PX)) * run.num_layers > 1
    assert said() == []


def test_a_warm_up_that_takes_too_long_ends_between_two_layers(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, said: Any
) -> None:
    monkeypatch.setattr(warm_up_module, "MAX_S", 0.0)
    run = Run(tiny_model("qwen3_vl"))
    assert run.asked == 1 < run.num_layers
    assert len(said()) == 1 and "was ended" in said()[0]


def test_a_tower_that_cannot_be_stopped_is_not_begun(tiny_model: TinyModel) -> None:
    run = Run(tiny_model("qwen3_vl"), num_layers=0)
    assert run.asked == 0


async def test_answers_are_the_same_without_a_whole_warm_up(
    tiny_model: TinyModel, engine_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = chat(picture("red"), "What?", max_tokens=6)
    whole = await ask(await engine_for(tiny_model("qwen3_vl"), max_queue=77), request)
    monkeypatch.setattr(warm_up_module, "MAX_S", 0.0)
    cut = await ask(await engine_for(tiny_model("qwen3_vl"), max_queue=76), request)
    assert cut.text == whole.text


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("[malloc] Unable to allocate"), ValueError("no")])
def test_a_picture_that_fails_fails_no_load(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, said: Any, error: Exception
) -> None:
    """Nothing is known of the tower then."""
    read, sides = warm_up_module._read, []

    def failing(loaded: Any, side_px: int) -> Any:
        sides.append(side_px)
        if side_px == SIDES_PX[1]:
            raise error
        return read(loaded, side_px)

    monkeypatch.setattr(warm_up_module, "_read", failing)
    run = Run(tiny_model("qwen3_vl"))
    assert sides[-1] == SIDES_PX[1] and len(said()) == 1
    assert run.found == EncoderMemory()
    monkeypatch.setattr(warm_up_module, "_read", read)
    monkeypatch.setattr(warm_up_module, "_most_tokens", lambda loaded: int(None))  # type: ignore[call-overload]
    assert Run(tiny_model("qwen3_vl")).found == EncoderMemory(), "nor do numbers that a configuration lacks"


def test_only_a_tower_that_remembers_reads_in_calls_of_a_bounded_size(tiny_model: TinyModel) -> None:
    """Without its features kept, all pictures of a prompt go in one call."""
    loaded = registry.load(EngineConfig(model=ModelSpec(str(tiny_model("qwen3_vl")))))
    assert warm_up_module._most_tokens(loaded) is None
    loaded.adapter.cache_vision_features(FeatureStore(1))
    assert warm_up_module._most_tokens(loaded) == MAX_PATCHES // 2**2
