"""What the Models tab is told, in plain values."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from engine import device
from engine.hub.download import DownloadState
from engine.hub.search import HubModel
from engine.inventory.checkpoint_facts import Checkpoint
from engine.inventory.inventory import Inventory, ModelHere
from engine.inventory.memory_fit import MachineMemory
from engine.inventory.places import ModelPlace
from engine.types import CacheStats, Json, ModelCard, ModelState, Snapshot
from tests.engine.inventory.folders import write_model
from workbench.models.listing import Here, download_json, hit_json, memory, models_json

GB = 1024**3
MACHINE = MachineMemory(16 * GB, 0.9, 4 * GB)
CARD = ModelCard("demo", "/secret/place", "qwen3_vl", "float32", 10**6, GB, 4096, vision=True)


def ready(name: str = "demo", source: str = "demo") -> ModelState:
    return ModelState(name, source, stage="ready", is_default=True, num_bytes=GB, card=CARD)


def here(found: list[ModelHere] | None, *states: ModelState) -> Here:
    stats = CacheStats(kv_bytes=GB, feature_bytes=GB // 2)
    snapshot = Snapshot("ready", device.describe(), models=(CARD,), states=states, caches=(stats,))
    return Here(found, states, snapshot, MACHINE)


def rows(value: Json) -> dict[str, Json]:
    return {row["name"]: row for row in value["models"]}


def test_what_is_here_and_what_is_loaded_are_one_list(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "models" / "one")
    found = list(Inventory([tmp_path / "models"], tmp_path / "cache").models())
    value = models_json(here(found, ready(), ModelState("one", str(folder))), manages=True)
    listed = rows(value)
    assert set(listed) == {"demo", "one"}
    assert (listed["demo"]["stage_words"], listed["demo"]["can_load"], listed["demo"]["can_delete"]) == (
        "loaded",
        False,
        False,
    )
    assert (listed["one"]["stage"], listed["one"]["can_load"], listed["one"]["can_delete"]) == ("known", True, True)
    assert str(folder) in listed["one"]["where"] and listed["one"]["fit"] == "yes"
    assert [one["name"] for one in value["choices"]] == ["demo", "one"]


def test_a_model_that_is_loaded_cannot_be_deleted(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "models" / "one")
    found = list(Inventory([tmp_path / "models"], tmp_path / "cache").models())
    row = rows(models_json(here(found, ready("one", str(folder))), manages=True))["one"]
    assert (row["can_delete"], row["can_load"], row["stage"]) == (False, False, "ready")


def test_a_visitor_sees_loaded_models_alone_chooses_from_all_and_hears_of_no_place(tmp_path: Path) -> None:
    write_model(tmp_path / "models" / "one")
    found = list(Inventory([tmp_path / "models"], tmp_path / "cache").models())
    value = models_json(here(found, ready(), ModelState("private", "org/private")), manages=False)
    assert set(rows(value)) == {"demo"}
    assert [(one["name"], one["stage"]) for one in value["choices"]] == [("demo", "ready"), ("private", "known")]
    assert "private" not in str({**value, "choices": []}) and "org/private" not in str(value)
    assert str(tmp_path) not in str(value) and "/secret" not in str(value)


def test_a_visitor_is_not_told_the_path_of_a_loaded_model() -> None:
    value = models_json(here([], ready("mine", "/home/somebody/models/mine")), manages=False)
    assert "/home/somebody" not in str(value)


def test_what_is_wrong_is_named_and_not_offered() -> None:
    broken = Checkpoint(model_type="qwen3", problems=("config.json is missing.",))
    model = ModelHere(ModelPlace("org/x", "org/x", Path("/x"), "hub"), broken, Path("/x"), can_delete=True)
    row = rows(models_json(here([model]), manages=True))["org/x"]
    assert row["problems"] == ["config.json is missing."]
    assert (row["can_load"], row["can_resume"], row["fit_words"]) == (False, True, "")


def test_a_model_that_is_too_large() -> None:
    large = Checkpoint(model_type="qwen3", weight_bytes=60 * GB)
    model = ModelHere(ModelPlace("org/x", "org/x", Path("/x"), "hub"), large, Path("/x"))
    row = rows(models_json(here([model]), manages=True))["org/x"]
    assert row["fit"] == "no" and "60 GB" in row["fit_words"]


def test_a_model_that_only_the_engine_knows_is_judged_as_one_on_the_disk() -> None:
    blind = replace(CARD, id="words", vision=False, described_by="demo")
    words = ModelState("words", "org/words", stage="ready", num_bytes=GB, card=blind)
    states = (ready(), words, ModelState("large", "org/large", num_bytes=60 * GB), ModelState("new", "org/new"))
    listed = rows(models_json(here([], *states), manages=True))
    assert (listed["demo"]["fit"], listed["demo"]["fit_words"]) == ("yes", "fits, with 4,096 tokens of context")
    assert listed["large"]["fit"] == "no" and "60 GB" in listed["large"]["fit_words"]
    assert (listed["new"]["fit"], listed["new"]["fit_words"]) == ("unknown", "")
    assert listed["words"]["takes"] == "text, pictures", "what another model describes to it"


def test_loading_shows_how_far() -> None:
    state = ModelState("one", "org/one", stage="loading", done_bytes=GB, total_bytes=4 * GB)
    row = rows(models_json(here(None, state), manages=True))["one"]
    assert (row["progress"], row["stage_words"], row["can_load"]) == (0.25, "loading, 1.0 GB of 4.0 GB", False)


def test_memory_by_model_and_kind() -> None:
    told = memory(here([], ready()))
    (model,) = told["models"]
    assert [part["kind"] for part in model["parts"]] == ["weights", "kv", "features"]
    assert model["size"] == "2.5 GB" and told["words"] == "2.5 GB of 14 GB that models may take here"
    assert abs(sum(part["share"] for part in model["parts"]) - 2.5 / 14.4) < 1e-3


def test_an_adapter_is_shown_as_one_and_its_base_is_counted_once() -> None:
    base = replace(CARD, base="weights")
    card = replace(base, id="demo:art", num_bytes=GB + 1024**2, adapter_bytes=1024**2)
    art = ModelState("demo:art", "demo", stage="ready", card=card, parent="demo", adapter_path="/secret/adapter")
    found = list(Inventory().models())[:1]  # the one that ships
    seen = here(found, art, replace(ready(), card=base))
    snapshot = replace(seen.snapshot, models=(base, card), caches=(CacheStats(), CacheStats()))
    value = models_json(replace(seen, snapshot=snapshot), manages=True)
    listed = rows(value)
    assert set(listed) == {"demo", "demo:art"}, "the adapter is taken for its base"
    assert (listed["demo:art"]["where"], listed["demo:art"]["size"]) == ("LoRA adapter of demo", "1 MB")
    assert "ships with" in listed["demo"]["where"] and listed["demo"]["choice"] == "demo"
    assert value["choices"][0]["about"].startswith("LoRA adapter of demo · qwen3_vl")
    parts = [model["parts"][0]["words"] for model in memory(replace(seen, snapshot=snapshot))["models"]]
    assert parts == ["weights 1.0 GB", "weights 1 MB"]
    one = models_json(here(found, replace(ready(), adapter_path="/secret/adapter")), manages=True)
    assert rows(one)["demo"]["where"].endswith(" · with a LoRA adapter") and "/secret" not in json.dumps([value, one])


def test_a_download_in_words() -> None:
    state = DownloadState("org/x", "downloading", 2 * GB, 4 * GB, 100 * 1024**2, 20.6, "model.safetensors")
    told = download_json(state)
    assert told["words"] == "downloading · 2.0 GB of 4.0 GB · 100 MB/s · 21 s left"
    assert (told["progress"], told["file"], told["can_resume"]) == (0.5, "model.safetensors", False)
    paused = download_json(DownloadState("org/x", "paused", GB, 4 * GB))
    assert (paused["words"], paused["can_resume"], paused["is_running"]) == ("paused · 1.0 GB of 4.0 GB", True, False)


def test_a_hit_of_the_hub() -> None:
    hit = HubModel("org/x", "qwen3_vl", "Qwen3-VL", ("image", "video"), 3 * GB, 1200, 4, is_gated=True, is_mlx=True)
    told = hit_json(hit, MACHINE, ["org/other"])
    assert told["facts"].startswith("Qwen3-VL · text, pictures, clips · 3.0 GB") and "gated" in told["facts"]
    assert (told["fit"], told["is_here"]) == ("yes", False)
    assert hit_json(hit, MACHINE, ["org/x"])["is_here"]
    refused = hit_json(HubModel("org/y", "mllama", weight_bytes=GB, refused="it reads"), MACHINE, [])
    assert refused["fit"] == "no" and "cannot run here" in refused["fit_words"]
