"""The one benchmark of this process, and the runs that are kept: every page sees the same. Event loop only.

Run.events() ──(task; a page that closes does not end it)──> Live ──(once a second, each page)──> charts and rows
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from engine.errors import BadRequest, EngineError, Unavailable
from engine.measure.bench import compare, files
from engine.measure.bench.about import about
from engine.measure.bench.events import Finished
from engine.measure.bench.plan import BenchSettings
from engine.measure.bench.run import Run
from engine.measure.bench.store import Store, StoredRun
from engine.measure.bench.suites import SUITES
from engine.measure.bench.targets import EngineTarget
from engine.types import Json
from workbench.bench.live import Live, Shown, kept

if TYPE_CHECKING:
    from engine.core import Engine
    from engine.measure.bench.result import Result
    from engine.measure.bench.stats import Ratio
    from engine.types import ModelCard

MEASURED = ("text", "image", "video", "cache", "concurrency")
"""Suites that ask the engine of this process; `startup` asks processes of its own, which is the command's business."""

Ratios = list[tuple[str, str, "Ratio"]]


class Bench:
    """Starts a run, holds what it tells, stops it, keeps it. live: the run that goes on, or the last; None before."""

    def __init__(self, engine: Engine, store: Store | None = None) -> None:
        self._engine = engine
        self._store = store or Store()
        self.live: Live | None = None
        self.entries: tuple[StoredRun, ...] = ()
        self.facts: Json = {}
        self._run: Run | None = None
        self._task: asyncio.Task[None] | None = None
        self._looking = asyncio.Lock()
        self._look: asyncio.Task[Json] | None = None
        self._loaded: dict[str, Shown] = {}
        self._ratios: dict[tuple[str, str], Ratios] = {}

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    def start(self, suite: str, settings: BenchSettings) -> None:
        """Begin. Raises BadRequest when one runs already or the model cannot do it, Unavailable without a model."""
        if self.running:
            raise BadRequest("A benchmark runs already; stop it first, or wait.")
        card = self._engine.snapshot().model
        if card is None:
            raise Unavailable("The model is not ready yet.")
        if suite not in MEASURED:
            raise BadRequest(f"There is no suite {suite!r} here. There are: {', '.join(MEASURED)}.", param="suite")
        if reason := cannot(suite, card):
            raise BadRequest(reason, param="suite")
        self.live = Live(suite, SUITES[suite].title, settings, time.monotonic())
        self._run = None
        self._task = asyncio.create_task(self._measure(self.live))

    def stop(self) -> None:
        """End it; what was measured stays. Harmless when nothing runs."""
        if self._run is not None:
            self._run.stop()
        elif self._task is not None:
            self._task.cancel()

    async def _measure(self, live: Live) -> None:
        """The task of a run."""
        try:
            live.facts = await self.look()
            self._run = Run([SUITES[live.suite]], [EngineTarget(self._engine)], live.settings, live.facts)
            async with aclosing(self._run.events()) as events:
                async for event in events:
                    if isinstance(event, Finished):
                        live.whole = await asyncio.to_thread(_as_kept, event.result)
                    live.take(event, time.monotonic())
        except EngineError as error:
            live.error = error.message
        except Exception:  # a fault of the harness: the page must say that it ended, and the log why
            logging.getLogger(__name__).exception("the benchmark ended by itself")
            live.error = "The benchmark failed by a fault of its own; the log says more."
        finally:
            live.ended = True

    async def look(self) -> Json:
        """Machine, model and versions; what the machine is, is looked at once."""
        card = self._engine.snapshot().model
        path = card.path if card else ""
        async with self._looking:
            if not self.facts or self.facts["path"] != path:
                self.facts = {"path": path, **await asyncio.to_thread(about, path)}
        return {name: value for name, value in self.facts.items() if name != "path"}

    def look_soon(self) -> None:
        """Look without waiting: to measure a machine's memory takes seconds, and the next tick shows what was found."""
        if not self._look or self._look.done():
            self._look = asyncio.get_running_loop().create_task(self.look())

    # runs that are kept

    async def refresh(self) -> None:
        """See what the folder holds: the command keeps runs there too."""
        self.entries = await asyncio.to_thread(self._store.list)

    async def keep(self, name: str) -> None:
        """Keep the last run under a name. Raises BadRequest when there is none, or the name cannot be taken."""
        live = self.live
        if live is None or live.result is None or live.kept:
            raise BadRequest("There is no run to keep.")
        await asyncio.to_thread(self._store.save, name, live.result)
        live.kept = name
        await self.refresh()

    async def delete(self, name: str) -> None:
        """Forget a kept run. What is on the page of it, if it was the last one, stays until the next."""
        await asyncio.to_thread(self._store.delete, name)
        self._loaded.pop(name, None)
        self._ratios = {pair: found for pair, found in self._ratios.items() if name not in pair}
        if self.live and self.live.kept == name:
            self.live.kept = ""
        await self.refresh()

    async def load(self, name: str) -> Shown:
        """A kept run. Raises ModelNotFound, BadRequest."""
        if name not in self._loaded:
            self._loaded[name] = await asyncio.to_thread(lambda: kept(name, self._store.load(name)))
        return self._loaded[name]

    async def file(self, name: str, suffix: str) -> str:
        """What the command writes for a kept run, or for the last one ("")."""
        live = self.live
        if name and not (live and name == live.kept):
            whole = (await self.load(name)).whole
        else:
            whole = live.whole if live else None
        if whole is None or suffix not in files.SUFFIXES:
            raise BadRequest("There is nothing to write yet.")
        return await asyncio.to_thread(files.text, whole, suffix)

    async def ratios(self, base: Shown, other: Shown) -> Ratios:
        """The other over the base, case by case; [] while one of them goes on."""
        if base.whole is None or other.whole is None:
            return []
        if not base.key or not other.key:
            return await asyncio.to_thread(compare.ratios, base.whole, other.whole)
        pair = (base.key, other.key)
        if pair not in self._ratios:
            self._ratios[pair] = await asyncio.to_thread(compare.ratios, base.whole, other.whole)
        return self._ratios[pair]


def _as_kept(result: Result) -> Json:
    """A result's JSON as it is when it comes from a file: lists, no tuples."""
    whole: Json = json.loads(json.dumps(result.json()))
    return whole


def cannot(suite: str, card: ModelCard | None) -> str:
    """Why a model cannot be asked this, "" if it can."""
    needs = SUITES[suite].needs
    if card is None or needs == "text" or (card.vision if needs == "image" else card.video):
        return ""
    return f"{card.id} takes no {'pictures' if needs == 'image' else 'clips'}."


def settings_of(card: ModelCard | None, event: Any) -> BenchSettings:
    """What a page asked for, from anything it may have sent. Raises BadRequest."""
    return BenchSettings(
        prompts=_number(event, "prompts", 1, 100),
        max_tokens=_number(event, "max_tokens", 1, 4096),
        quick=bool(getattr(event, "quick", False)),
        pictures=bool(card and card.vision),
    )


def _number(event: Any, name: str, low: int, high: int) -> int:
    given = getattr(event, name, None)
    if isinstance(given, bool) or not isinstance(given, int) or not low <= given <= high:
        words = {"prompts": "The number of prompts", "max_tokens": "The number of tokens per answer"}[name]
        raise BadRequest(f"{words} must be a whole number from {low} to {high:,}.", param=name)
    return given
