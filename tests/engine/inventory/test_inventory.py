"""Which models are found where, and what may be deleted."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from engine.errors import Conflict, Forbidden, ModelNotFound
from engine.inventory.inventory import Inventory, ModelHere
from tests.engine.inventory.folders import cached, write_model


def inventory(tmp_path: Path) -> Inventory:
    (tmp_path / "models").mkdir(exist_ok=True)
    return Inventory([tmp_path / "models"], tmp_path / "cache")


def by_name(found: Inventory) -> dict[str, ModelHere]:
    return {model.place.name: model for model in found.models()}


def test_each_place_is_searched(tmp_path: Path) -> None:
    here = inventory(tmp_path)
    write_model(tmp_path / "models" / "flat")
    write_model(tmp_path / "models" / "org" / "deep")
    (tmp_path / "models" / "empty" / "deeper").mkdir(parents=True)
    cached(tmp_path / "cache", "org/cached", write_model(tmp_path / "elsewhere"))
    found = by_name(here)
    assert set(found) == {"demo", "flat", "org/deep", "org/cached"}
    assert {model.place.origin for model in found.values()} == {"shipped", "folder", "hub"}
    assert all(model.problems == () for model in found.values())
    assert [name for name, model in found.items() if not model.can_delete] == ["demo"]


def test_a_folder_that_is_a_model_itself(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "one")
    found = by_name(Inventory([folder], tmp_path / "cache"))
    assert set(found) == {"demo", "one"} and not found["one"].can_delete


def test_a_folder_behind_two_ways_is_one_model(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "models" / "one")
    (tmp_path / "models" / "two").symlink_to(folder)
    assert set(by_name(inventory(tmp_path))) == {"demo", "one"}


def test_loops_of_links_and_files_in_the_way(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "loop").symlink_to(models / "loop")
    (models / "self").symlink_to(models)
    (models / "file").write_text("x")
    (models / "broken").symlink_to(models / "nowhere")
    write_model(models / "one")
    found = by_name(inventory(tmp_path))
    assert "one" in {Path(name).name for name in found}
    assert len(found) == 2


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    assert set(by_name(Inventory([tmp_path / "gone"], tmp_path / "cache"))) == {"demo"}


def test_weights_without_a_config_are_named(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "models" / "half")
    (folder / "config.json").unlink()
    assert by_name(inventory(tmp_path))["half"].problems == ("config.json is missing.",)


def test_a_download_that_was_not_finished_is_named(tmp_path: Path) -> None:
    blobs = tmp_path / "cache" / "models--org--half" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{'b' * 64}.incomplete").write_bytes(b"half")
    half = by_name(inventory(tmp_path))["org/half"]
    assert half.problems == ("It was not downloaded to the end: one file is half there.",)
    assert half.can_delete


def test_a_newer_revision_that_is_half_there_does_not_harm(tmp_path: Path) -> None:
    snapshot = cached(tmp_path / "cache", "org/cached", write_model(tmp_path / "elsewhere"))
    (snapshot.parent.parent / "blobs" / f"{'b' * 64}.incomplete").write_bytes(b"half")
    assert by_name(inventory(tmp_path))["org/cached"].problems == ()


def test_a_blob_that_is_missing_in_the_cache_is_named(tmp_path: Path) -> None:
    snapshot = cached(tmp_path / "cache", "org/cached", write_model(tmp_path / "elsewhere", shards=2))
    (snapshot / "model-00002-of-00002.safetensors").resolve().unlink()
    assert "model-00002-of-00002.safetensors is missing." in by_name(inventory(tmp_path))["org/cached"].problems


def test_data_sets_in_the_cache_are_no_models(tmp_path: Path) -> None:
    cached(tmp_path / "cache", "org/data", write_model(tmp_path / "elsewhere"))
    (tmp_path / "cache" / "models--org--data").rename(tmp_path / "cache" / "datasets--org--data")
    assert set(by_name(inventory(tmp_path))) == {"demo"}


def test_what_changed_is_read_again(tmp_path: Path) -> None:
    here = inventory(tmp_path)
    folder = write_model(tmp_path / "models" / "one")
    assert by_name(here)["one"].checkpoint.context_tokens == 8192
    write_model(folder, {"max_position_embeddings": 64_000})
    assert by_name(here)["one"].checkpoint.context_tokens == 64_000


def test_two_threads_may_look_at_once(tmp_path: Path) -> None:
    """What one of them has read may be replaced by what the other one has at any moment."""

    class Forgetful(dict[Path, Any]):
        def __setitem__(self, folder: Path, found: Any) -> None:
            """The other one has replaced it."""

    here = inventory(tmp_path)
    write_model(tmp_path / "models" / "one")
    here._read = Forgetful()
    assert set(by_name(here)) == {"demo", "one"}


def test_deleting_a_folder(tmp_path: Path) -> None:
    here = inventory(tmp_path)
    folder = write_model(tmp_path / "models" / "one")
    freed = here.delete(str(folder))
    assert freed > 4096 and not folder.exists()
    with pytest.raises(ModelNotFound):
        here.delete(str(folder))


def test_deleting_from_the_cache(tmp_path: Path) -> None:
    here = inventory(tmp_path)
    model = write_model(tmp_path / "elsewhere")
    cached(tmp_path / "cache", "org/cached", model)
    files_bytes = sum(path.stat().st_size for path in model.iterdir()) + len("a" * 40)
    assert here.delete("org/cached") == files_bytes
    assert set(by_name(here)) == {"demo"}
    assert not (tmp_path / "cache" / "models--org--cached").exists()


def test_deleting_what_is_half_there(tmp_path: Path) -> None:
    here = inventory(tmp_path)
    blobs = tmp_path / "cache" / "models--org--half" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{'b' * 64}.incomplete").write_bytes(b"half")
    assert here.delete("org/half") == 4
    assert not blobs.parent.exists()


def test_what_may_not_be_deleted(tmp_path: Path) -> None:
    outside = write_model(tmp_path / "outside")
    models = tmp_path / "models"
    models.mkdir()
    (models / "link").symlink_to(outside)
    here = inventory(tmp_path)
    for source in ("demo", str(models / "link")):
        with pytest.raises(Forbidden, match="not deleted from here"):
            here.delete(source)
    for source in (str(outside), str(models), "/", "../outside", f"{models}/link/../../outside", ""):
        with pytest.raises(ModelNotFound):
            here.delete(source)
    assert outside.is_dir() and models.is_dir()


def test_a_loaded_model_stays(tmp_path: Path) -> None:
    here = inventory(tmp_path)
    folder = write_model(tmp_path / "models" / "one")
    with pytest.raises(Conflict, match="Unload it first"):
        here.delete(str(folder), in_use=[str(folder)])
    shutil.move(folder, tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    with pytest.raises(Forbidden):
        here.delete(str(folder))
