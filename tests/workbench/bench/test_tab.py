"""The Benchmark tab's callbacks on the demo model: real runs, one at a time, for operators."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from engine.config import EngineConfig, ModelSpec, ServerConfig
from engine.core import Engine
from engine.errors import BadRequest
from engine.measure.bench import files
from engine.measure.bench import run as bench_run
from engine.measure.bench.store import Store
from engine.types import RemoteServer
from tests.waiting import until
from tests.workbench.cache.test_tab import LOOPBACK, SPACE, TWO_KEYS
from workbench.bench import tab as bench
from workbench.bench.results import digits
from workbench.bench.runs import Bench, why_unsupported
from workbench.bench.tab import PARTS, BenchTab, BenchView
from workbench.language import t
from workbench.shared import Shared

SMALL = {"quick": True, "prompts": 1, "max_tokens": 4}
LONG = {"quick": True, "prompts": 100, "max_tokens": 64}


class Page:
    """One page on the tab: what it was sent last of each part, and how often."""

    def __init__(self, tab: BenchTab, session: str = "page-1", username: str | None = None) -> None:
        self.tab, self._request = tab, gr.Request(session_hash=session, username=username)
        self.view = BenchView()
        self.has: dict[str, Any] = {}
        self.sent: list[str] = []

    @property
    def refused(self) -> str:
        """What the page was last told that it may not do."""
        return str(self.has["panel"]["refusal"].get("words", ""))

    async def look(self) -> Page:
        return self._take(await self.tab.tick(self.view, self._request))

    async def act(self, action: str, **more: Any) -> Page:
        return self._take(await self.tab.act(self.view, self._request, gr.EventData(None, {"action": action, **more})))

    def _take(self, parts: list[Any]) -> Page:
        new = {name: part for name, part in zip(PARTS, parts, strict=True) if "__type__" not in part}
        self.has |= new
        self.sent = list(new)
        return self

    async def until(self, condition: Callable[[], Any]) -> Page:
        deadline_s = time.monotonic() + 150
        while not condition():
            assert time.monotonic() < deadline_s, self.has["panel"]
            await asyncio.sleep(0.1)
            await self.look()
        return self

    async def ended(self) -> Page:
        return await self.until(lambda: self.has["panel"].get("end"))

    def ys(self, key: str) -> list[float]:
        figures = [chart["figure"] for chart in self.has["charts"]["charts"] if chart["key"] == key]
        return [y for figure in figures for trace in figure["data"] for y in trace["y"]]


@pytest.fixture
def tab(demo_engine: Any, tmp_path: Path) -> Callable[..., BenchTab]:
    """tab(ServerConfig) -> the tab laid out in a page of its own; its runs are kept in a folder of the test."""

    def make(config: ServerConfig = LOOPBACK) -> BenchTab:
        with gr.Blocks(), gr.Tabs(), gr.Tab(bench.NAME):
            return bench.build(demo_engine, Shared(tmp_path, server=config), Store(tmp_path / "runs"))

    return make


async def test_a_run_is_watched_kept_and_every_number_is_the_json(tab, demo_engine, tmp_path):
    await demo_engine.ready()
    page = await Page(tab()).look()
    other = Page(page.tab, "page-2")
    await page.act("run", suite="image", **SMALL)
    await page.until(lambda: 0 < len(page.ys("image-ttft")) < 4)
    assert page.has["panel"]["run"]["total"] == 8 and page.has["panel"]["end"] is None
    await other.look()
    assert other.has["panel"]["run"] and other.ys("image-ttft"), "a second page sees the same run"
    await other.act("run", suite="text", **SMALL)
    assert other.refused == "A benchmark runs already; stop it first, or wait." and not page.refused
    await page.ended()

    await page.act("keep", name="first")
    assert page.has["panel"]["end"]["kept"] == "first"
    whole = json.loads((tmp_path / "runs" / "first.json").read_text())
    points = whole["points"]
    assert len(points) == 4 and whole["canary"]["ok"] is True
    for metric in ("ttft", "generation_tps"):
        known = [point[metric]["median"] for point in points if point[metric]]
        assert page.ys(f"image-{metric}") == known
    (table,) = page.has["tables"]["tables"]
    column = table["heads"].index("E2E ms")
    assert [row["cells"][column] for row in table["rows"]] == [digits(point["e2e"]["median"]) for point in points]
    assert [row["marks"]["canary"] for row in table["rows"]] == ["good"] * 4
    assert len(page.ys("memory")) > 0 and set(page.ys("cpu")) <= {load["cpu_percent"] for load in whole["load"]}
    assert page.has["panel"]["roofline"]["share"] == whole["roofline"].get("share", 0.0)
    assert page.has["panel"]["machine"][0] == whole["machine"]["chip_name"]

    for suffix in files.TEXTS:
        await page.act("export", name="first", suffix=suffix)
        files.write(page.tab.bench.live.result, tmp_path / f"cli{suffix}")
        assert page.has["file"]["name"] == f"first{suffix}"
        assert page.has["file"]["text"].encode() == (tmp_path / f"cli{suffix}").read_bytes(), "what the command writes"
    files.write_card(page.tab.bench.live.result, tmp_path / "cli.png")
    await page.act("export", name="first", suffix=".png")
    assert page.has["file"]["name"] == "first.png"
    assert base64.b64decode(page.has["file"]["base64"]) == (tmp_path / "cli.png").read_bytes(), (
        "what the command writes"
    )

    await page.look()
    await page.look()
    assert page.sent == [], "nothing is sent when nothing changed"

    # A page that comes later lays it under another run, and may forget it.
    page.tab.bench.live = None
    later = await Page(page.tab, "page-3").act("show", name="first", on=True)
    assert later.ys("image-ttft") == [point["ttft"]["median"] for point in points]
    await later.act("delete", name="first")
    assert later.has["runs"]["runs"] == [] and later.has["charts"]["charts"] == []
    assert not list((tmp_path / "runs").iterdir())


async def test_two_runs_are_held_against_each_other(tab, demo_engine):
    await demo_engine.ready()
    page = Page(tab())
    for name in ("before", "after"):
        await (await page.act("run", suite="text", **{**SMALL, "prompts": 2, "max_tokens": 8})).ended()
        await page.act("keep", name=name)
    await page.act("show", name="before", on=True)
    (compared,) = page.has["tables"]["compared"]
    assert compared["name"] == "after over before" and compared["caution"] == ""
    found = page.has["charts"]["charts"][0]["figure"]["data"]
    assert [one["name"] for one in found] == ["before", "after"]
    whole = {name: (await page.tab.bench.load(name)).result_json for name in ("before", "after")}
    mean = {name: [t[0]["ttft_s"] for t in run["points"][0]["rounds"]] for name, run in whole.items()}
    ratio = (mean["after"][0] * mean["after"][1] / mean["before"][0] / mean["before"][1]) ** 0.5
    assert compared["rows"][0]["cells"][0]["value"] == f"{ratio:.3g}"
    await page.act("show", name="after", on=False)
    assert page.has["tables"]["compared"] == []


async def test_stopping_keeps_what_was_measured_and_a_closed_page_stops_nothing(tab, demo_engine):
    await demo_engine.ready()
    page = await Page(tab()).act("run", suite="image", **LONG)
    await page.until(lambda: page.ys("image-ttft"))
    del page.view  # the page is gone; another one comes
    other = await Page(page.tab, "page-2").look()
    done = other.has["panel"]["run"]["done"]
    await other.until(lambda: other.has["panel"]["run"]["done"] > done)
    await other.act("stop")
    await other.ended()
    assert "topped" in other.has["panel"]["end"]["words"]
    result = other.tab.bench.live.result
    assert result.stopped and other.ys("image-ttft") == [point.metric("ttft").median for point in result.points]
    await other.act("keep", name="part")
    assert "stopped early" in other.has["runs"]["runs"][0]["words"]


async def test_the_engines_stop_ends_a_run(tmp_path):
    engine = Engine(EngineConfig())
    engine.start()
    card = await engine.ready()
    while engine.snapshot().model is None:
        await asyncio.sleep(0.02)
    own = Bench(engine, Store(tmp_path))
    own.start("text", bench.settings_of(card, gr.EventData(None, LONG)))
    while not own.live.done:
        await asyncio.sleep(0.02)
    await asyncio.to_thread(engine.stop)
    async with asyncio.timeout(10):
        while own.running:
            await asyncio.sleep(0.02)
    assert own.live.ended
    own.stop()  # harmless


async def test_a_model_of_another_server_is_measured_there(demo_server, tmp_path, monkeypatch):
    """Over HTTP, with its tokens; this machine is not told as the one that answers, nor does the engine here."""
    monkeypatch.setattr(bench_run, "BUSY_SHARE", -1.0)
    card = await demo_server.engine.ready()
    engine = Engine(EngineConfig(model=ModelSpec.remote(RemoteServer.at(demo_server.url), "far")))
    engine.start()
    try:
        await until(lambda: (told := engine.snapshot().model) and told.takes_known, "it is never reached")
        with gr.Blocks(), gr.Tabs(), gr.Tab(bench.NAME):
            laid_out = bench.build(engine, Shared(tmp_path, server=LOOPBACK), Store(tmp_path / "runs"))
        page = await Page(laid_out).act("run", suite="text", **SMALL)
        await page.ended()
        result, host = page.tab.bench.live.result, demo_server.url.partition("://")[2]
        assert result is not None, page.has["panel"]
        [sample] = result.points[0].samples
        assert result.targets == (host,) and 0 < sample.completion_tokens <= 4 and sample.ttft_s > 0
        assert result.canary is not False and not result.machine and not result.model and card.path not in str(result)
        assert not result.loads and not result.notes, "the load of the machine that asks"
        assert page.has["panel"]["machine"] == [t(bench.ANOTHER, host=host)]
        assert not engine.requests.records()
    finally:
        engine.finish_imports()
        engine.stop()


async def test_where_a_benchmark_cannot_ask(tmp_path):
    engine = Engine(EngineConfig(model=ModelSpec.remote(RemoteServer.at("http://127.0.0.1:9/v1beta/openai"), "far")))
    own = Bench(engine, Store(tmp_path))
    engine._snapshot = replace(engine._snapshot, state="ready")
    with pytest.raises(BadRequest, match="elsewhere than below /v1"):
        own.start("text", bench.settings_of(engine.snapshot().model, gr.EventData(None, SMALL)))
    engine.stop()


@pytest.mark.parametrize(("config", "username"), [(SPACE, None), (TWO_KEYS, "ben")])
async def test_a_visitor_reads_why_not_and_starts_nothing(tab, config, username, demo_engine):
    await demo_engine.ready()
    page = await Page(tab(config), username=username).act("run", suite="text", **SMALL)
    assert page.has["panel"] == {"operator": False, "note": bench.OPERATORS_ONLY}
    assert [page.has[part] for part in ("charts", "tables", "runs")] == [{}, {}, {}]
    assert page.tab.bench.live is None
    if username:
        owner = await Page(page.tab, "page-2", "anna").act("run", suite="text", **SMALL)
        assert owner.has["panel"]["run"], "the twin: the operator does"
        await page.act("stop")
        assert page.has["panel"]["operator"] is False and owner.tab.bench.running
        await owner.ended()


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"prompts": 0}, "The number of prompts must be a whole number from 1 to 100."),
        ({"prompts": None}, "The number of prompts must be a whole number from 1 to 100."),
        ({"max_tokens": 1e9}, "The number of tokens per answer must be a whole number from 1 to 4,096."),
        ({"suite": "startup"}, "There is no suite 'startup' here."),
    ],
)
async def test_what_cannot_be_run_is_said(tab, demo_engine, sent, said):
    await demo_engine.ready()
    page = await Page(tab()).act("run", **{"suite": "text", **SMALL, **sent})
    assert page.refused.startswith(said) and page.tab.bench.live is None
    for action in ("keep", "export", "no such thing"):
        await page.act(action, name="../x", suffix=".txt")


def test_a_model_that_cannot_see_is_not_shown_pictures(demo_engine):
    card = demo_engine.snapshot().model
    blind = replace(card, vision=False, video=False)
    assert [bool(why_unsupported(suite, blind)) for suite in ("text", "image", "video", "cache")] == [
        False,
        True,
        True,
        False,
    ]
    assert not why_unsupported("image", card)
