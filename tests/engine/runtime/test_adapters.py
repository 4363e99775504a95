"""LoRA adapters, each as one more model: answers as the library gives with that adapter, the base as without, weights
in memory once, and KV and features that nobody shares."""

from __future__ import annotations

import asyncio
import gc
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from engine.config import CacheConfig, EngineConfig, ModelSpec
from engine.errors import EngineError, Unavailable
from engine.models import lora, registry
from engine.models.checkpoint import base_fingerprint
from engine.types import added_bytes
from tests import adapters, tiny
from tests.engine.drive import ask, chat
from tests.engine.oracle import TIE, Oracle
from tests.engine.runtime.test_models import running, state
from tests.pictures import picture
from tests.waiting import until

TinyModel = Callable[..., Path]
SMALL_BLOCKS = CacheConfig(block_tokens=4)


@dataclass(frozen=True)
class Adapted:
    """A tiny model and its adapters, by name."""

    folder: Path
    adapters: dict[str, Path]
    vision: bool
    dtype: str

    @property
    def base(self) -> ModelSpec:
        return ModelSpec(str(self.folder), name="base")

    @property
    def specs(self) -> tuple[ModelSpec, ...]:
        return (self.base, *(self.base.with_adapter(name, str(folder)) for name, folder in self.adapters.items()))

    def oracle(self, name: str) -> Oracle:
        """The library with the adapter of a model's name, or without one."""
        _, _, adapter = name.partition(":")
        return Oracle.load(self.folder, vision=self.vision, adapter=self.adapters.get(adapter))

    def asked(self, name: str, *more: Any) -> Any:
        pieces = (*((picture("red"),) if self.vision else ()), "What do you see, and why?", *more)
        return chat(*pieces, model=name, max_tokens=10)


def make(folder: Path, models_dir: Path, *, vision: bool, dtype: str) -> Adapted:
    """ "one" adapts what the library chooses, "two" is DoRA, "eyes" is in the vision tower."""
    to = models_dir / f"adapters-{folder.name}"
    found = {
        "one": adapters.write(folder, to / "one", vision=vision, seed=1),
        "two": adapters.write(folder, to / "two", vision=vision, seed=2, kind="dora"),
    }
    if vision:
        tower = ["vision_tower.blocks.0.attn.qkv", "vision_tower.blocks.1.mlp.linear_fc1"]
        found["eyes"] = adapters.write(folder, to / "eyes", vision=True, seed=3, layers=tower)
    return Adapted(folder, found, vision, dtype)


@pytest.fixture(scope="module", params=["llama-float32", "qwen3-4bit", "qwen3_vl-float32"])
def adapted(request: pytest.FixtureRequest, tiny_model: TinyModel, models_dir: Path) -> Adapted:
    family, dtype = request.param.split("-")
    return make(tiny_model(family, dtype), models_dir, vision=family.endswith("_vl"), dtype=dtype)


@pytest.fixture(scope="module")
def text(tiny_model: TinyModel, models_dir: Path) -> Adapted:
    return make(tiny_model("llama"), models_dir, vision=False, dtype="float32")


@pytest.fixture(scope="module")
def seer(tiny_model: TinyModel, models_dir: Path) -> Adapted:
    return make(tiny_model("qwen3_vl"), models_dir, vision=True, dtype="float32")


async def check(adapted: Adapted, answers: Iterable[tuple[Any, Any]]) -> None:
    """Each answer is what the library says with the same adapter."""
    for request, answer in answers:
        oracle = adapted.oracle(request.model)
        regrets = oracle.regrets(request.messages, answer.token_ids)
        assert max(regrets) < TIE[adapted.dtype], f"{request.model} answers otherwise than the library: {regrets}"


# -- which one answers -------------------------------------------------------------------------------------------------


async def test_each_adapter_answers_as_the_library_does_with_it(adapted: Adapted) -> None:
    """In turn, and all at once; the base as if there were none."""
    requests = [adapted.asked(spec.served_name) for spec in adapted.specs]
    async with running(adapted.specs, cache=SMALL_BLOCKS) as engine:
        in_turn = [await ask(engine, request) for request in requests]
        await check(adapted, zip(requests, in_turn, strict=True))
        assert len({answer.token_ids for answer in in_turn}) == len(requests), "they change nothing"
        at_once = [
            replace(adapted.asked(request.model, str(i)), max_tokens=8) for i in range(3) for request in requests
        ]
        answers = await asyncio.gather(*(ask(engine, request) for request in at_once))
        await check(adapted, zip(at_once, answers, strict=True))
        again = [await ask(engine, request) for request in requests]
        assert [answer.token_ids for answer in again] == [answer.token_ids for answer in in_turn]
        assert all(answer.done.usage.cached_tokens for answer in again), "each finds its own KV again"


async def test_an_adapter_by_itself_and_one_loaded_with_the_model(text: Adapted) -> None:
    """Asked for before its base is in memory; and as the only model there is (--adapter-path)."""
    base, one, _ = text.specs
    request = text.asked(one.served_name)
    async with running((one, base)) as engine:  # the first one alone is loaded at the start
        assert [card.id for card in engine.snapshot().models] == ["base:one"]
        first = await ask(engine, request)
        plain = await ask(engine, text.asked("base"))
        await check(text, [(request, first), (text.asked("base"), plain)])
        assert added_bytes(engine.snapshot().models)[1] == 0
    async with running((replace(base, adapter_path=one.adapter_path),)) as engine:
        assert (await ask(engine, replace(request, model="base"))).token_ids == first.token_ids


async def test_sabotage_an_adapter_that_is_left_out_is_seen(text: Adapted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "add_lora", lambda *_, **__: None)
    request = text.asked("base:one")
    async with running(text.specs) as engine:
        answer = await ask(engine, request)
        with pytest.raises(AssertionError, match="base:one answers otherwise than the library"):
            await check(text, [(request, answer)])


# -- what they share, and what not -------------------------------------------------------------------------------------


async def test_an_adapter_costs_no_second_base(models_dir: Path) -> None:
    folder = tiny.sized("text", 768, 6, models_dir)  # so that its memory can be told from noise
    wide = make(folder, models_dir, vision=False, dtype="float32")
    async with running(wide.specs) as engine:
        await ask(engine, wide.asked("base"))
        gc.collect()
        before_bytes = mx.get_active_memory()
        size = state(engine, "base").num_bytes
        assert size > 100_000_000
        for name in ("base:one", "base:two"):
            await ask(engine, wide.asked(name))
        cards = engine.snapshot().models
        own = [card.adapter_bytes for card in cards]
        assert own[0] == 0 < min(own[1:]) < max(own) < size / 20
        assert [card.num_bytes - card.adapter_bytes for card in cards] == [size] * 3
        assert sum(added_bytes(cards)) == size + sum(own)
        gc.collect()
        assert mx.get_active_memory() - before_bytes < size / 4, "a base is in memory twice"
        await engine.unload_model("base")
        await until(lambda: len(engine.snapshot().models) == 2, "it is still shown")
        request = wide.asked("base:one", "again")
        await check(wide, [(request, await ask(engine, request))])
        for name in ("base:one", "base:two"):
            await engine.unload_model(name)
        gc.collect()
        await until(lambda: mx.get_active_memory() < before_bytes - 0.9 * size, "the last one keeps the base in memory")


async def test_sabotage_a_base_that_is_loaded_again_is_seen(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora.BaseWeights, "give_to", lambda *_: None)
    with pytest.raises(AssertionError, match="a base is in memory twice"):
        await test_an_adapter_costs_no_second_base(models_dir)


async def test_room_is_made_for_the_adapter_alone(text: Adapted, tiny_model: TinyModel) -> None:
    """Within the memory of one base, its adapters come beside it; as one of the most that may be loaded they count
    with it; another model has to wait for all of them."""
    other = ModelSpec(str(tiny_model("qwen3")), name="other")
    for limit in ({"max_loaded_models": 1}, {"max_models_bytes": 1_000_000}):
        async with running((*text.specs, other), **limit) as engine:
            for spec in text.specs:
                await ask(engine, text.asked(spec.served_name))
            assert [card.id for card in engine.snapshot().models] == ["base", "base:one", "base:two"], limit
            await ask(engine, chat("Hello", model="other", max_tokens=2))
            assert [card.id for card in engine.snapshot().models] == ["other"], limit


def on_disk(folder: Path) -> dict[str, Any]:
    return {"cache": replace(SMALL_BLOCKS, disk_folder=folder)}


async def test_stored_kv_and_features_are_of_one_adapter_alone(seer: Adapted, tmp_path: Path) -> None:
    """Also on disk, where all of them keep it in one folder, and after a restart."""
    requests = [seer.asked(spec.served_name) for spec in seer.specs]
    expected = None
    for _ in range(2):
        async with running(seer.specs, **on_disk(tmp_path)) as engine:
            answers = [await ask(engine, request) for request in requests]
            reused = [answer.done.usage.cached_tokens for answer in answers]
            await check(seer, zip(requests, answers, strict=True))
        if expected is None:
            assert reused == [0] * len(requests), "one adapter found what is another's"
        else:
            assert min(reused) > 0 and [answer.token_ids for answer in answers] == expected
        expected = [answer.token_ids for answer in answers]


async def test_sabotage_keys_without_the_adapter_are_seen(
    seer: Adapted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "fingerprint", base_fingerprint)
    with pytest.raises(AssertionError, match="answers otherwise than the library"):
        for spec in seer.specs:  # one after the other: what is in memory is apart in any case
            async with running((spec,), **on_disk(tmp_path)) as engine:
                request = seer.asked(spec.served_name)
                await check(seer, [(request, await ask(engine, request))])


# -- adapters that cannot be used --------------------------------------------------------------------------------------


def config_without(folder: Path, key: str) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    del config["lora_parameters"][key]
    (folder / "adapter_config.json").write_text(json.dumps(config))


def weights_of(folder: Path, change: Callable[[dict[str, mx.array]], dict[str, mx.array]]) -> None:
    file = str(folder / "adapters.safetensors")
    found: Any = mx.load(file)
    mx.eval(list(found.values()))
    mx.save_safetensors(file, change(dict(found)))


def cut(folder: Path) -> None:
    file = folder / "adapters.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def of_peft(folder: Path) -> None:
    (folder / "adapters.safetensors").rename(folder / "adapter_model.safetensors")


def full(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"fine_tune_type": "full"}')


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (shutil.rmtree, r"adapter_config\.json is missing"),
    "no config": (lambda folder: (folder / "adapter_config.json").unlink(), r"adapter_config\.json is missing"),
    "no JSON": (lambda folder: (folder / "adapter_config.json").write_text("{"), r"adapter_config\.json is not JSON"),
    "no weights": (lambda folder: (folder / "adapters.safetensors").unlink(), r"adapters\.safetensors is missing"),
    "cut off": (cut, r"adapters\.safetensors has .* of "),
    "of PEFT": (of_peft, r"adapter_model\.safetensors is PEFT's"),
    "all weights": (full, r"fine_tune_type is 'full'"),
    "no rank": (lambda folder: config_without(folder, "rank"), r"adapter_config\.json says no 'rank'"),
    "other layers": (
        lambda folder: weights_of(folder, lambda found: {f"other.{name}": one for name, one in found.items()}),
        r"adapters\.safetensors has other\..* no layer for",
    ),
    "half of it": (
        lambda folder: weights_of(folder, lambda found: dict(list(found.items())[::2])), r"adapters\.safetensors lacks"
    ),
    "other shapes": (
        lambda folder: weights_of(folder, lambda found: {name: one[:-1] for name, one in found.items()}),
        r"has the shape .*, and this model needs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("vision", [False, True], ids=["text", "vision"])
async def test_an_adapter_that_is_broken_is_an_error_of_its_own_requests(
    text: Adapted, seer: Adapted, tmp_path: Path, vision: bool
) -> None:
    """All of them in one engine, before a whole one is asked for."""
    adapted = seer if vision else text
    broken: list[ModelSpec] = []
    for name, (spoil, _) in BROKEN.items():
        folder = shutil.copytree(adapted.adapters["one"], tmp_path / name.replace(" ", "-"))
        spoil(folder)
        broken.append(adapted.base.with_adapter(folder.name, str(folder)))
    async with running((adapted.base, *broken, adapted.specs[1])) as engine:
        for spec, (_, reason) in zip(broken, BROKEN.values(), strict=True):
            with pytest.raises(Unavailable, match=reason) as caught:
                await ask(engine, adapted.asked(spec.served_name))
            assert str(tmp_path) not in caught.value.message
            assert spec.served_name in caught.value.message and caught.value.code == "model_load_failed"
            assert state(engine, spec.served_name).stage == "failed"
        for other in ("base", "base:one"):
            request = adapted.asked(other)
            await check(adapted, [(request, await ask(engine, request))])


@pytest.mark.parametrize("vision", [False, True], ids=["text", "vision"])
async def test_an_adapter_of_another_model(
    text: Adapted, seer: Adapted, tiny_model: TinyModel, models_dir: Path, vision: bool
) -> None:
    """Of a wider one of the same family, and of one that the other library loads."""
    wider = tiny.sized("vision" if vision else "text", 96, 2, models_dir)
    others = (
        adapters.write(wider, models_dir / f"wider-{vision}", vision=vision, seed=1),
        (text if vision else seer).adapters["one"],
    )
    base = (seer if vision else text).base
    specs = [base.with_adapter(f"other{i}", str(folder)) for i, folder in enumerate(others)]
    async with running((base, *specs)) as engine:
        for spec in specs:
            with pytest.raises(Unavailable, match=f"adapter of {spec.served_name} cannot be used"):
                await ask(engine, chat("Hello", model=spec.served_name))
        await ask(engine, chat("Hello", model="base", max_tokens=2))


def test_what_does_not_belong_to_the_layers_is_told() -> None:
    made = {"a.lora_a": mx.zeros((4, 2)), "a.lora_b": mx.zeros((2, 4))}
    assert lora.mismatch(made, made) is None
    assert "names no layer" in str(lora.mismatch(made, {}))
    assert "b.lora_a" in str(lora.mismatch(made | {"b.lora_a": mx.zeros(1)}, made))
    many = {f"b{i}.lora_a": mx.zeros(1) for i in range(9)}
    assert "and 6 more" in str(lora.mismatch(made | many, made))


# -- names -------------------------------------------------------------------------------------------------------------


def test_names_of_adapters() -> None:
    base = ModelSpec("demo", name="base", aliases=("gpt",))
    one = base.with_adapter("one", "/a", short=True)
    config = EngineConfig(model=base, more_models=(one,))
    for name in ("base:one", "gpt:one", "one"):
        assert config.find(name) is one
    for name in ("base", "gpt", "demo", None):
        assert config.find(name) is base
    with pytest.raises(EngineError, match="base:two"):
        config.find("base:two")
    with pytest.raises(EngineError, match="'one'"):
        EngineConfig(model=base, more_models=(one, ModelSpec("org/x", name="one")))
