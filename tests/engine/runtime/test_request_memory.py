"""request_memory, encoder_memory: what reading pictures takes is predicted from two of them, and a request that cannot
fit is refused with the numbers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.cache.features import FeatureStore
from engine.config import EngineConfig, ModelSpec
from engine.errors import BadRequest
from engine.models import mlx_memory, registry
from engine.models.mlx_memory import peak_of
from engine.runtime import warm_up as warm_up_module
from engine.runtime.encoder_memory import EncoderMemory
from engine.runtime.memory import ModelMemory
from engine.runtime.request_memory import RequestMemory
from engine.runtime.warm_up import WarmUp
from engine.runtime.work import EncoderWork, Work, work_of
from tests.engine.drive import ask, chat
from tests.engine.prompt.test_receipts import built
from tests.pictures import picture

TinyModel = Callable[..., Path]
FACTOR = 2.0
"""A prediction is between half and twice what MLX then takes."""


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the larger picture may take longer than a load would wait for it."""
    monkeypatch.setattr(warm_up_module, "MAX_S", 60.0)
    monkeypatch.setattr(warm_up_module, "MEASURE_S", 60.0)


# -- the formula -------------------------------------------------------------------------------------------------------


def picture_of(tokens: float) -> EncoderWork:
    return EncoderWork(tokens, 1, tokens**2, tokens)


def test_two_pictures_give_both_terms() -> None:
    found = EncoderMemory.of([(picture_of(4), 4 * 100 + 16 * 3), (picture_of(64), 64 * 100 + 4096 * 3)])
    assert found.peak_bytes(picture_of(1000)) == 1000 * 100 + 1000**2 * 3
    two = EncoderWork(2000, 2, 2 * 1000**2, 1000)
    assert found.peak_bytes(two) == 2 * found.peak_bytes(picture_of(1000)), "pictures do not attend to each other"


def test_one_picture_or_two_of_one_size_give_tokens_alone() -> None:
    for measured in ([(picture_of(50), 5000)], [(picture_of(50), 4000), (picture_of(50), 5000)]):
        assert EncoderMemory.of(measured).peak_bytes(picture_of(500)) == 50_000
    assert EncoderMemory.of([]).peak_bytes(picture_of(500)) == 0


def test_a_tower_that_reads_in_calls_takes_what_the_largest_takes() -> None:
    found = EncoderMemory.of([(picture_of(50), 5000)], most_tokens=100)
    assert found.peak_bytes(EncoderWork(1000, 100, 10_000, 10)) == 10_000
    assert found.peak_bytes(EncoderWork(1000, 4, 250_000, 250)) == 25_000


# -- held against MLX --------------------------------------------------------------------------------------------------


@pytest.fixture
def roomy(tiny_model: TinyModel, tmp_path: Path) -> Path:
    """A Qwen3-VL whose pictures may have a thousand tokens."""
    folder = shutil.copytree(tiny_model("qwen3_vl"), tmp_path / "roomy")
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_pixels": 2**20}))
    return folder


def ratios(folder: Path, cases: list[list[tuple[int, int]]]) -> list[float]:
    """Of pictures of these sizes: what was predicted of what MLX took."""
    loaded = registry.load(EngineConfig(model=ModelSpec(str(folder))))
    warm_up = WarmUp()
    num_layers = loaded.adapter.interleave(lambda: warm_up.is_on, warm_up.between_layers)
    encoder = warm_up.run(loaded, FeatureStore(0), num_layers)
    found = []
    for sizes in cases:
        prompt = built(loaded, *(picture(size=size) for size in sizes), "x")
        work = work_of(prompt, 0, lambda placed: 1.0, packed=loaded.family.packed).encoder
        taken = peak_of(lambda prompt=prompt: loaded.adapter.embed(prompt, loaded.adapter.make_cache()))
        found.append(encoder.peak_bytes(work) / taken)
    return found


@pytest.mark.parametrize("family", ["qwen3_vl", "idefics3"])
def test_the_prediction_is_what_mlx_takes(roomy: Path, tiny_model: TinyModel, family: str) -> None:
    """Small and large pictures, one and several."""
    folder = roomy if family == "qwen3_vl" else tiny_model(family)
    found = ratios(folder, [[(128, 128)], [(512, 512)], [(1024, 1024)], [(256, 256)] * 6])
    assert all(1 / FACTOR < ratio < FACTOR for ratio in found), found


def test_sabotage_attention_left_out_is_seen(roomy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twin: so much for each token and no more. On a CPU a large picture takes several times that."""
    of = EncoderMemory.of
    monkeypatch.setattr(EncoderMemory, "of", lambda measured, most_tokens: of(measured[:1], most_tokens))
    (ratio,) = ratios(roomy, [[(1024, 1024)]])
    assert ratio < 1 / FACTOR


# -- refused -----------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused_with_the_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlx_memory, "device_bytes", lambda: 16 * 2**30)
    memory = RequestMemory(ModelMemory(8 * 2**30, 2**20), EncoderMemory(2**20))
    small = Work(1000, encoder=picture_of(100))
    memory.check(small, [1000])
    with pytest.raises(BadRequest) as refused:
        memory.check(replace(small, encoder=picture_of(8192)), [1000])
    assert refused.value.code == "memory_exceeded"
    for number in ("8 GiB", "1,000 tokens 1.227 GiB", "reading its media 8 GiB", "17.23 GiB of 16 GiB", "Smaller"):
        assert number in refused.value.message
    with pytest.raises(BadRequest, match=r"KV of its 1,000 tokens 9\.81"):
        memory.check(Work(1000), [1000] * 8)


async def test_a_picture_that_does_not_fit_costs_nobody_else(
    roomy: Path, engine_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what it would cost says so, before it is sent."""
    engine = await engine_for(roomy)
    large = chat(picture(size=(1024, 1024)), "What?", max_tokens=3)
    num_bytes = engine.snapshot().model.num_bytes
    monkeypatch.setattr(mlx_memory, "device_bytes", lambda: num_bytes + 64 * 2**20)
    for refusing in (ask(engine, large), engine.preflight(large)):
        with pytest.raises(BadRequest, match="reading its media"):
            await refusing
    assert (await ask(engine, chat(picture(size=(64, 64)), "What?", max_tokens=3))).token_ids
