"""When the disks are looked through again: at first, and whenever a download ends, however fast that is."""

from __future__ import annotations

import asyncio
from typing import Any

from engine import device
from engine.config import EngineConfig
from engine.hub.download import DownloadState
from engine.types import Snapshot
from workbench.models.live import LiveModels


class CountedShelf:
    """Counts the searches; each waits until it is let go on."""

    def __init__(self) -> None:
        self.known = None
        self.downloads: tuple[DownloadState, ...] = ()
        self.num_looks = 0
        self.goes_on = asyncio.Event()

    async def models(self) -> tuple[()]:
        self.num_looks += 1
        await self.goes_on.wait()
        return ()


class QuietEngine:
    def __init__(self, shelf: CountedShelf) -> None:
        self.shelf, self.config = shelf, EngineConfig()

    def models(self) -> tuple[()]:
        return ()

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
    assert set(LiveModels(engine).news(manages=False)) == {"models"}
    await asyncio.sleep(0)
    assert shelf.num_looks == 0
