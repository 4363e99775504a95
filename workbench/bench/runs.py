"""The one benchmark of this process, and the saved runs, shared by all pages. Event loop only.

A model that another server answers for is asked there by HTTP, as vllm-mlx-bench --base-url does: not through this
process's queue.

Run.events() ──(task; goes on when a page is closed)──> Live ──(once a second, each page)──> charts and rows
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
from engine.measure.bench.card import card
from engine.measure.bench.events import Finished
from engine.measure.bench.plan import BenchSettings
from engine.measure.bench.remote import HttpTarget, Server
from engine.measure.bench.run import Run
from engine.measure.bench.store import Store, StoredRun
from engine.measure.bench.suites import SUITES
from engine.measure.bench.targets import EngineTarget
from engine.remote.failures import quoted
from engine.types import Json, RemoteServer
from workbench.bench.live import DisplayedRun, Live, from_json
from workbench.language import t

if TYPE_CHECKING:
    from engine.core import Engine
    from engine.measure.bench.result import Result
    from engine.measure.bench.stats import Ratio
    from engine.types import ModelCard

SUITE_NAMES = ("text", "image", "video", "cache", "decisions", "concurrency")
"""Suites that measure the engine of this process. Those that start processes are run by the command only."""

Ratios = list[tuple[str, str, "Ratio"]]


class Bench:
    """Starts, follows, stops and saves runs. live: the current run, or the last one; None before the first."""

    def __init__(self, engine: Engine, store: Store | None = None) -> None:
        self._engine = engine
        self._store = store or Store()
        self.live: Live | None = None
        self.entries: tuple[StoredRun, ...] = ()
        self.facts: Json = {}
        self._run: Run | None = None
        self._task: asyncio.Task[None] | None = None
        self._facts_lock = asyncio.Lock()
        self._facts_task: asyncio.Task[Json] | None = None
        self._loaded: dict[str, DisplayedRun] = {}
        self._ratios: dict[tuple[str, str], Ratios] = {}

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    def start(self, suite: str, settings: BenchSettings) -> None:
        """Start a run. Raises BadRequest if one runs or the model cannot run the suite, Unavailable without a model."""
        if self.running:
            raise BadRequest(t("A benchmark runs already; stop it first, or wait."))
        card = self._engine.snapshot().model
        if card is None:
            raise Unavailable(t("The model is not ready yet."))
        if suite not in SUITE_NAMES:
            raise BadRequest(
                t(
                    "There is no suite {suite} here. There are: {suites}.",
                    suite=repr(suite),
                    suites=", ".join(SUITE_NAMES),
                ),
                param="suite",
            )
        if reason := why_unsupported(suite, card):
            raise BadRequest(reason, param="suite")
        if (server := self._engine.config.model.server) is not None and not server.url.endswith("/v1"):
            raise BadRequest(
                t("{host} has its routes elsewhere than below /v1, where a benchmark asks.", host=server.host)
            )
        self.live = Live(suite, SUITES[suite].title, settings, time.monotonic())
        self._run = None
        self._task = asyncio.create_task(self._measure(self.live))

    def stop(self) -> None:
        """Stop the run; what was measured stays. Does nothing when none runs."""
        if self._run is not None:
            self._run.stop()
        elif self._task is not None:
            self._task.cancel()

    async def _measure(self, live: Live) -> None:
        """The task of a run."""
        server = self._engine.config.model.server
        target = EngineTarget(self._engine) if server is None else _target_at(server)
        try:
            live.facts = await self.read_facts()
            is_elsewhere = server is not None
            self._run = Run([SUITES[live.suite]], [target], live.settings, live.facts, is_elsewhere=is_elsewhere)
            async with aclosing(self._run.events()) as events:
                async for event in events:
                    if isinstance(event, Finished):
                        live.result_json = await asyncio.to_thread(_json_of, event.result)
                    live.add(event, time.monotonic())
        except EngineError as error:
            live.error = error.message if server is None else quoted(server, error.message)
        except Exception:  # a fault of the harness: the page must show that it ended, and the log why
            logging.getLogger(__name__).exception("the benchmark ended by itself")
            live.error = t("The benchmark failed by a fault of its own; the log says more.")
        finally:
            live.ended = True
            await target.close()

    async def read_facts(self) -> Json:
        """Machine, model and versions; read once for each model. {} of one that another server answers for: its machine
        is not this one."""
        if self._engine.config.model.server is not None:
            return {}
        card = self._engine.snapshot().model
        path = card.path if card else ""
        async with self._facts_lock:
            if not self.facts or self.facts["path"] != path:
                self.facts = {"path": path, **await asyncio.to_thread(about, path)}
        return {name: value for name, value in self.facts.items() if name != "path"}

    def read_facts_soon(self) -> None:
        """Read the facts in a task: measuring the memory's bandwidth takes seconds, and a later tick shows them."""
        if not self._facts_task or self._facts_task.done():
            self._facts_task = asyncio.get_running_loop().create_task(self.read_facts())

    # -- saved runs

    async def refresh(self) -> None:
        """List the folder again: the command saves runs there too."""
        self.entries = await asyncio.to_thread(self._store.list)

    async def keep(self, name: str) -> None:
        """Save the last run under a name. Raises BadRequest without a run, and for a name not allowed or in use."""
        live = self.live
        if live is None or live.result is None or live.saved_name:
            raise BadRequest(t("There is no run to keep."))
        await asyncio.to_thread(self._store.save, name, live.result)
        live.saved_name = name
        await self.refresh()

    async def delete(self, name: str) -> None:
        """Delete a saved run. If it was the last run, it stays on the page, unsaved, until the next one."""
        await asyncio.to_thread(self._store.delete, name)
        self._loaded.pop(name, None)
        self._ratios = {pair: ratios for pair, ratios in self._ratios.items() if name not in pair}
        if self.live and self.live.saved_name == name:
            self.live.saved_name = ""
        await self.refresh()

    async def load(self, name: str) -> DisplayedRun:
        """A saved run. Raises ModelNotFound, BadRequest."""
        if name not in self._loaded:
            self._loaded[name] = await asyncio.to_thread(lambda: from_json(name, self._store.load(name)))
        return self._loaded[name]

    async def file(self, name: str, suffix: str) -> str:
        """The file that the command writes, of a saved run, or of the last one (name "")."""
        if suffix not in files.TEXTS:
            raise BadRequest(t("There is nothing to write yet."))
        return await asyncio.to_thread(files.text, await self._result_of(name), suffix)

    async def card(self, name: str) -> bytes:
        """A run as a picture to show, as PNG: name as in `file`."""
        return await asyncio.to_thread(card, await self._result_of(name))

    async def _result_of(self, name: str) -> Json:
        live = self.live
        if name and not (live and name == live.saved_name):
            found = (await self.load(name)).result_json
        else:
            found = live.result_json if live else None
        if found is None:
            raise BadRequest(t("There is nothing to write yet."))
        return found

    async def ratios(self, base: DisplayedRun, other: DisplayedRun) -> Ratios:
        """The other over the base, case by case; [] while one of them runs."""
        if base.result_json is None or other.result_json is None:
            return []
        if not base.key or not other.key:
            return await asyncio.to_thread(compare.ratios, base.result_json, other.result_json)
        pair = (base.key, other.key)
        if pair not in self._ratios:
            self._ratios[pair] = await asyncio.to_thread(compare.ratios, base.result_json, other.result_json)
        return self._ratios[pair]


def _json_of(result: Result) -> Json:
    """A result's JSON as it is when read from a file: lists in place of tuples."""
    result_json: Json = json.loads(json.dumps(result.json()))
    return result_json


def _target_at(server: RemoteServer) -> HttpTarget:
    return HttpTarget(server.url, Server(name=server.host, api_key=server.key, model=server.model))


def why_unsupported(suite: str, card: ModelCard | None) -> str:
    """Why a model cannot run a suite; "" if it can."""
    needs = SUITES[suite].needs
    if card is None or needs == "text" or (card.vision if needs == "image" else card.video):
        return ""
    kinds = t("pictures") if needs == "image" else t("clips")
    if card.server and not card.takes_known:
        return t("{host} does not say that it takes {kinds}.", host=card.server, kinds=kinds)
    return t("{model} takes no {kinds}.", model=card.id, kinds=kinds)


def settings_of(card: ModelCard | None, event: Any) -> BenchSettings:
    """The settings that a page sent, which may be anything. Raises BadRequest."""
    return BenchSettings(
        prompts=_number(event, "prompts", 1, 100),
        max_tokens=_number(event, "max_tokens", 1, 4096),
        quick=bool(getattr(event, "quick", False)),
        pictures=bool(card and card.vision and card.takes_known),
        context=(card.context_tokens or None) if card else None,
    )


def _number(event: Any, name: str, low: int, high: int) -> int:
    value = getattr(event, name, None)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        if name == "prompts":
            words = t("The number of prompts must be a whole number from {low} to {high}.", low=low, high=high)
        else:
            words = t(
                "The number of tokens per answer must be a whole number from {low} to {high}.", low=low, high=high
            )
        raise BadRequest(words, param=name)
    return value
