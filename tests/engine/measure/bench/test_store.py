"""Runs that are kept: named, listed, loaded, deleted; nothing half-written, nothing outside the folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.assets import data_folder
from engine.cli import bench
from engine.errors import BadRequest, ModelNotFound
from engine.measure.bench.plan import BenchSettings
from engine.measure.bench.run import Run
from engine.measure.bench.store import Store, table
from tests.engine.measure.bench.builders import RecordingTarget, words_suite


async def made(ttfts_s: tuple[float, ...] = (0.1,)) -> Any:
    run = Run([words_suite()], [RecordingTarget("a", [], ttfts_s)], BenchSettings(prompts=3, warmup=0))
    async for _ in run.events():
        pass
    return run.result()


async def test_save_list_load_delete(tmp_path: Path) -> None:
    store, result = Store(tmp_path / "new" / "folder"), await made()
    assert store.list() == ()
    store.save("before the change", result)
    store.save("a/../b %2e ü", result)
    assert {entry.name for entry in store.list()} == {"before the change", "a/../b %2e ü"}
    assert store.list()[0].suites == ("text",) and store.list()[0].num_points == 1 and store.list()[0].targets == ("a",)
    assert store.load("before the change") == json.loads(json.dumps(result.json()))
    assert all(file.parent == tmp_path / "new" / "folder" for file in tmp_path.rglob("*.json"))
    assert store.delete("before the change") and not store.delete("before the change")
    with pytest.raises(ModelNotFound, match="no kept run"):
        store.load("before the change")
    assert "a/../b" in table(store.list())


async def test_a_name_is_taken_once(tmp_path: Path) -> None:
    store, result = Store(tmp_path), await made()
    store.save("one", result)
    for wrong in ("one", "", " ", "x" * 61, "two\nlines"):
        with pytest.raises(BadRequest):
            store.save(wrong, result)
    for dots in ("..", "."):
        store.save(dots, result)
    assert {entry.name for entry in store.list()} == {"one", "..", "."}


async def test_files_that_are_no_runs_are_passed_over(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.save("one", await made())
    (tmp_path / "two.json").write_text("{")
    (tmp_path / "three.json").write_text("[]")
    assert [entry.name for entry in store.list()] == ["one"]


def test_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    monkeypatch.setattr(sys, "platform", "linux")
    assert data_folder() == Path("/data/mlx-workbench")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert data_folder().parts[-3:] == ("Library", "Application Support", "mlx-workbench")


async def test_kept_runs_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """B twice as slow as A, and both known to a few percent: worse, with 2 in the interval."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    Store().save("a", await made((0.1, 0.101, 0.102)))
    Store().save("b", await made((0.2, 0.202, 0.204)))
    assert bench(["--runs"]) == 0 and "started" in capsys.readouterr().out
    assert bench(["--compare", "a", "b"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "TTFT" in line]
    assert "2.000" in line and "worse" in line
    assert bench(["--compare", "a", "c"]) == 1 and bench(["--save", "a"]) == 1
