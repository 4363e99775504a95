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
from engine.errors import ContextOverflow, MemoryExceeded
from engine.models import mlx_memory, registry
from engine.models.mlx_memory import peak_of
from engine.runtime.estimates.work import EncoderWork, Work, work_of
from engine.runtime.loading import warm_up as warm_up_module
from engine.runtime.loading.warm_up import WarmUp
from engine.runtime.memory_use.encoder_memory import EncoderMemory
from engine.runtime.memory_use.memory import ModelMemory
from engine.runtime.memory_use.request_memory import ENCODER_MARGIN, RequestMemory
from engine.types import Option, Part, TypedQuestion
from tests.engine.drive import ask, chat
from tests.engine.prompt.test_receipts import built
from tests.pictures import picture

TinyModel = Callable[..., Path]
FACTOR = ENCODER_MARGIN
"""A prediction is no further from what MLX then takes than the margin that a refusal leaves."""


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


def test_of_one_picture_alone_nothing_is_known() -> None:
    """Whatever it took may be fixed: a small one took 154 MB, a large one 162."""
    small, large = (picture_of(4), 154_000_000), (picture_of(729), 162_000_000)
    for measured in ([], [small], [(EncoderWork(), 0), large]):
        assert EncoderMemory.of(measured).peak_bytes(picture_of(500)) == 0
    found = EncoderMemory.of([small, large])
    assert 154_000_000 < found.peak_bytes(picture_of(400)) < 162_000_000 == found.peak_bytes(picture_of(729))
    assert found.peak_bytes(EncoderWork()) == 0, "nothing is read"


def test_two_pictures_of_one_size_give_what_the_cheaper_one_took() -> None:
    found = EncoderMemory.of([(picture_of(50), 4000), (picture_of(50), 5000)])
    assert found.peak_bytes(picture_of(500)) == 40_000


def test_a_cost_that_grows_faster_than_attention_is_not_made_larger_yet() -> None:
    found = EncoderMemory.of([(picture_of(10), 10), (picture_of(100), 100_000)])
    assert found.peak_bytes(picture_of(100)) == 100_000


def test_a_tower_that_reads_in_calls_takes_what_the_largest_takes() -> None:
    found = EncoderMemory(100.0, most_tokens=100)
    assert found.peak_bytes(EncoderWork(1000, 100, 10_000, 10)) == 10_000
    assert found.peak_bytes(EncoderWork(1000, 4, 250_000, 250)) == 25_000
    apart = EncoderMemory(0.0, 1.0, most_tokens=0)
    assert apart.peak_bytes(EncoderWork(130, 4, 100**2 + 3 * 10**2, 100)) == 100**2, "the largest, all of it"


# -- held against MLX --------------------------------------------------------------------------------------------------


@pytest.fixture
def roomy(tiny_model: TinyModel, tmp_path: Path) -> Path:
    """A Qwen3-VL whose pictures may have a thousand tokens, and whose tower has as many heads for its width as real
    ones have: with two, attention is lost in what MLX's allocator rounds up."""
    folder = shutil.copytree(tiny_model("qwen3_vl"), tmp_path / "roomy")
    for name, part, setting in (
        ("preprocessor_config", None, {"max_pixels": 2**20}),
        ("config", "vision_config", {"num_heads": 8}),
    ):
        path = folder / f"{name}.json"
        found = json.loads(path.read_text())
        (found[part] if part else found).update(setting)
        path.write_text(json.dumps(found))
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


@pytest.mark.parametrize("family", ["qwen3_vl", "idefics3", "glm4v"])
def test_the_prediction_is_what_mlx_takes(roomy: Path, tiny_model: TinyModel, family: str) -> None:
    """Small and large pictures, one and several."""
    folder = roomy if family == "qwen3_vl" else tiny_model(family)
    found = ratios(folder, [[(128, 128)], [(512, 512)], [(1024, 1024)], [(256, 256)] * 6])
    assert all(1 / FACTOR < ratio < FACTOR for ratio in found), found


def test_sabotage_attention_left_out_is_seen(roomy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twin: so much for each token and no more. On a CPU a large picture takes several times that."""
    of = EncoderMemory.of
    monkeypatch.setattr(EncoderMemory, "of", lambda measured, most: replace(of(measured, most), per_pair=0.0))
    (ratio,) = ratios(roomy, [[(1024, 1024)]])
    assert ratio < 1 / FACTOR


# -- KV with windows ---------------------------------------------------------------------------------------------------


NUM_TOKENS = 3000


def kv_of_gemma3(tiny_model: TinyModel) -> tuple[ModelMemory, int]:
    """What is known of a Gemma 3, most of whose layers have a sliding window; and the bytes of its KV for a prompt."""
    adapter = registry.load(EngineConfig(model=ModelSpec(str(tiny_model("gemma3"))))).adapter
    sizes = mlx_memory.token_sizes(adapter)
    windows = tuple((kept, num_bytes) for kept, num_bytes in sizes.items() if kept is not None)
    cache = adapter.make_cache()
    for start in range(0, NUM_TOKENS, 500):
        adapter.prefill([5] * NUM_TOKENS, (start, start + 500), cache, None)
    adapter.prefill([5] * (NUM_TOKENS + 1), (NUM_TOKENS, NUM_TOKENS + 1), cache, None)  # a window is cut to its size
    taken = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache if getattr(layer, "keys", None) is not None)
    return ModelMemory(0, sum(sizes.values()), windows=windows), taken


def test_a_sliding_window_keeps_what_it_can_see(tiny_model: TinyModel) -> None:
    memory, taken = kv_of_gemma3(tiny_model)
    assert memory.windows
    assert memory.kv_bytes(NUM_TOKENS) <= taken < 1.2 * memory.kv_bytes(NUM_TOKENS)


def test_sabotage_a_window_that_keeps_everything_is_seen(tiny_model: TinyModel) -> None:
    """Twin: as if it forgot nothing."""
    memory, taken = kv_of_gemma3(tiny_model)
    assert replace(memory, windows=()).kv_bytes(NUM_TOKENS) > 1.5 * taken


# -- refused -----------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused_with_the_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where only twice a tower's prediction would not fit, it is tried."""
    monkeypatch.setattr(mlx_memory, "device_bytes", lambda: 16 * 2**30)
    memory = RequestMemory(ModelMemory(8 * 2**30, 2**20), EncoderMemory(2**20))
    small = Work(1000, encoder=picture_of(100))
    assert memory.check(small, [1000]) == ""
    assert "17.23 GiB of 16 GiB" in memory.check(replace(small, encoder=picture_of(8192)), [1000])
    with pytest.raises(MemoryExceeded) as refused:
        memory.check(replace(small, encoder=picture_of(16384)), [1000])
    assert refused.value.code == "memory_exceeded"
    for number in ("8 GiB", "1,000 tokens 1.227 GiB", "reading its media 16 GiB", "25.23 GiB of 16 GiB", "Smaller"):
        assert number in refused.value.message
    with pytest.raises(MemoryExceeded, match=r"KV of its 1,000 tokens 9\.81"):
        memory.check(Work(1000), [1000] * 8)


async def test_a_picture_that_does_not_fit_costs_nobody_else(
    roomy: Path, engine_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what it would cost says so, before it is sent."""
    engine = await engine_for(roomy)
    large = chat(picture(size=(1024, 1024)), "What?", max_tokens=3)
    num_bytes = engine.snapshot().model.num_bytes
    monkeypatch.setattr(mlx_memory, "device_bytes", lambda: num_bytes + 16 * 2**20)
    for refusing in (ask(engine, large), engine.preflight(large)):
        with pytest.raises(MemoryExceeded, match="reading its media"):
            await refusing
    assert (await ask(engine, chat(picture(size=(64, 64)), "What?", max_tokens=3))).token_ids
    smaller = await engine.fit(large)
    assert smaller is not None and smaller != large
    assert (await ask(engine, smaller)).token_ids, "made smaller, it is answered"


async def test_a_prompt_that_is_too_long_is_told_by_what_is_left(
    tiny_model: TinyModel, engine_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little memory there is: what it takes in no context is nobody's question."""
    engine = await engine_for(tiny_model("qwen3_vl"), max_model_len=60)
    monkeypatch.setattr(mlx_memory, "device_bytes", lambda: 1)
    long = chat("word " * 100, max_tokens=3)
    assert (await engine.preflight(long)).left < 0
    with pytest.raises(ContextOverflow):
        await ask(engine, long)
    assert await engine.fit(long) is None


async def test_questions_need_memory_for_one_copy_of_what_they_share(
    tiny_model: TinyModel, engine_for: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twin: an answer to the same prompt in four choices does not fit."""
    engine = await engine_for(tiny_model("qwen3"))
    prompt, asked = chat("word " * 500, max_tokens=3), engine.snapshot().model
    loaded = registry.load(EngineConfig(model=ModelSpec(str(tiny_model("qwen3")))))
    token_bytes = sum(mlx_memory.token_sizes(loaded.adapter).values())
    monkeypatch.setattr(mlx_memory, "device_bytes", lambda: asked.num_bytes + 2000 * token_bytes)
    question = TypedQuestion("choice", (Part("text", text="Which?"),), (Option("a"), Option("b")), "questions[0]")
    decided = await engine.decide(prompt, [question])
    assert sum(decided.answers[0].probabilities) == pytest.approx(1.0)
    with pytest.raises(MemoryExceeded):
        await ask(engine, replace(prompt, n=4))
