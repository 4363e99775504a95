"""When the disks are looked through again: at first, and whenever a download ends, however fast that is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from engine import device
from engine.config import EngineConfig
from engine.hub.download import DownloadState
from engine.inventory.checkpoint_facts import Checkpoint
from engine.inventory.inventory import ModelHere
from engine.inventory.places import ModelPlace
from engine.types import ModelState, Snapshot
from workbench.models.live import LiveModels


class CountedShelf:
    """Counts the searches; each waits until it is let go on."""

    def __init__(self) -> None:
        self.known: tuple[ModelHere, ...] | None = None
        self.downloads: tuple[DownloadState, ...] = ()
        self.num_looks = 0
        self.goes_on = asyncio.Event()

    async def models(self) -> tuple[()]:
        self.num_looks += 1
        await self.goes_on.wait()
        return ()


class QuietEngine:
    def __init__(self, shelf: CountedShelf, *states: ModelState) -> None:
        self.shelf, self.config, self.states = shelf, EngineConfig(), states

    def models(self) -> tuple[ModelState, ...]:
        return self.states

    def snapshot(self) -> Snapshot:
        return Snapshot("ready", device.describe())


async def test_the_disks_are_searched_when_a_download_has_ended() -> None:
    shelf = CountedShelf()
    engine: Any = QuietEngine(shelf)
    live = LiveModels(engine)

    async def looks() -> int:
        live.news(manages=True)
        for _ in range(5):
            await asyncio.sleep(0)
        return shelf.num_looks

    assert await looks() == 1 and await looks() == 1
    shelf.downloads = (DownloadState("org/x", "paused"),)
    assert await looks() == 1, "one search at a time"
    shelf.goes_on.set()
    await looks()
    assert await looks() == 2, "what ended meanwhile was not looked for"
    shelf.downloads = (DownloadState("org/x", "done"),)  # resumed and done before anybody asked
    assert await looks() == 3
    assert await looks() == 3


async def test_a_visitor_makes_nobody_search() -> None:
    shelf = CountedShelf()
    engine: Any = QuietEngine(shelf)
    assert set(LiveModels(engine).news(manages=False)) == {"models", "memory"}
    await asyncio.sleep(0)
    assert shelf.num_looks == 0


async def test_where_links_lead_is_asked_once_after_each_look(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The disk is asked on the event loop, which every page's figures wait for."""
    asked: list[Path] = []
    resolve = Path.resolve

    def counted(path: Path, strict: bool = False) -> Path:
        asked.append(path)
        return resolve(path, strict)

    monkeypatch.setattr(Path, "resolve", counted)
    link = tmp_path / "link"
    shelf = CountedShelf()
    states = (ModelState("mine", str(link)), ModelState("other", "org/other"))
    engine: Any = QuietEngine(shelf, *states)
    live = LiveModels(engine)

    def listed() -> dict[str, str]:
        return {row["key"]: row["choice"] for row in live.news(manages=True)["models"]["models"]}

    for name in ("one", "two"):  # the link leads elsewhere by the second look
        folder = tmp_path / name
        folder.mkdir()
        link.unlink(missing_ok=True)
        link.symlink_to(folder)
        place = ModelPlace(str(folder), name, folder, "folder")
        shelf.known = (ModelHere(place, Checkpoint(model_type="qwen3"), folder),)
        asked.clear()
        for _ in range(3):
            assert listed() == {str(folder): "mine", "other": "other"}
        assert asked.count(link) == 1 and len(asked) <= len(states)
    shelf.goes_on.set()
