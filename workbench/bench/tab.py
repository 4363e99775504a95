"""The benchmark tab: start a suite on the model of this process, watch it, save it, compare runs.

Its parts draw themselves from plain values (bench/bench.js; with textContent only), sent twice a second
while the tab is shown, if they changed. The run belongs to the process, not to a page: workbench.bench.runs. It takes
the whole machine, so only operators may start one (engine.access.visibility); visitors read why.
"""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import gradio as gr

from engine.errors import EngineError
from engine.measure.bench import compare, files
from engine.measure.bench.store import Store
from engine.types import Json, Snapshot
from workbench.bench import results
from workbench.bench.charts import charts
from workbench.bench.figures import drawn
from workbench.bench.live import DisplayedRun, Live, case_in_words
from workbench.bench.runs import SUITE_NAMES, Bench, settings_of, why_unsupported
from workbench.components import QUIET, changed, components, refusal, while_shown
from workbench.figures import templates
from workbench.language import catalogued, t
from workbench.shared import Shared

if TYPE_CHECKING:
    from engine.core import Engine


NAME = catalogued("Benchmark")
PARTS = ("panel", "charts", "tables", "runs", "file")
WORDS = {
    "text": (catalogued("Text"), catalogued("Prompts of words, one after the other")),
    "image": (
        catalogued("Pictures"),
        catalogued("A picture in ten resolutions, 224 × 224 to 1920 × 1080; quick: four of them"),
    ),
    "video": (catalogued("Clips"), catalogued("A clip at 2 to 64 frames; quick: 4, 8 and 16")),
    "cache": (catalogued("Cache"), catalogued("What the prefix cache saves: first ask against the next")),
    "decisions": (
        catalogued("Decisions"),
        catalogued("A hundred questions about one picture against one; quick: twenty"),
    ),
    "concurrency": (catalogued("Streams"), catalogued("1 to 32 at once, text and pictures mixed; quick: 1, 4 and 16")),
}
ANOTHER = catalogued("{host} is asked over the network; its machine and its memory cannot be seen from here")
OPERATORS_ONLY = catalogued(
    "A benchmark takes the whole machine, so only whoever runs this server may start one. On a machine of your "
    "own: vllm-mlx-chat, or vllm-mlx-bench on the command line."
)


def build(engine: Engine, shared: Shared, store: Store | None = None) -> BenchTab:
    """Lay out the tab inside the Tab context of the caller, who then calls `follow`."""
    return BenchTab(engine, shared, Bench(engine, store))


@dataclass
class BenchView:
    """The state of one page. sent: digests of the parts it got last. selected: saved runs that are displayed.

    hidden_s: the start of the last run while it is not displayed. file: a download, sent with the next parts.
    refusal: what was last refused, see components.refusal.
    """

    sent: dict[str, str] = field(default_factory=dict)
    selected: list[str] = field(default_factory=list)
    hidden_s: float | None = None
    file: Json = field(default_factory=dict)
    refusal: Json = field(default_factory=dict)


class BenchTab:
    """The components of the tab and its callbacks. Holds no state of a user: that is in gr.State."""

    def __init__(self, engine: Engine, shared: Shared, bench: Bench) -> None:
        self._engine = engine
        self._shared = shared
        self.bench = bench
        self.view = gr.State(BenchView())  # Gradio copies it for each page that opens
        with gr.Column(elem_id="bench"):
            self.parts = components("Bench", PARTS)
        for part in self.parts[:4]:
            part.submit(self.act, self.view, self.parts, trigger_mode="multiple", **QUIET)

    def follow(self, tabs: gr.Tabs) -> None:
        """Run the clock while this tab is shown."""
        while_shown(tabs, self.tick, self.on_select, self.view, self.parts, every_s=0.5)

    async def on_select(self, view: BenchView, page: gr.Request, tab: gr.SelectData) -> list[Any]:
        """A tab was selected. Inputs: view. Outputs: clock, parts."""
        if tab.value != t(NAME):
            return [gr.Timer(active=False), *[gr.skip()] * len(PARTS)]
        if self._shared.caller(page).operator:
            await self.bench.refresh()
            if not self.bench.running:
                self.bench.read_facts_soon()
        return [gr.Timer(active=True), *await self.tick(view, page)]

    async def tick(self, view: BenchView, page: gr.Request) -> list[Any]:
        """The parts that changed since they were last sent. Inputs: view. Outputs: parts."""
        if not self._shared.caller(page).operator:
            values: tuple[Json, ...] = ({"operator": False, "note": t(OPERATORS_ONLY)}, {}, {}, {})
        else:
            runs = await self._displayed_runs(view)
            values = (
                self._panel(self._engine.snapshot()) | {"refusal": view.refusal},
                {"charts": [drawn(chart) for chart in charts(runs)], "templates": templates()},
                await self._tables(runs),
                self._runs(view),
            )
        file, view.file = view.file, {}
        parts = [changed(view.sent, name, value) for name, value in zip(PARTS, values, strict=False)]
        return [*parts, file or gr.skip()]

    async def act(self, view: BenchView, page: gr.Request, event: gr.EventData) -> list[Any]:
        """A button was pressed. Inputs: view. Outputs: parts. The event has an `action`; it may hold anything."""
        if self._shared.caller(page).operator:
            try:
                await self._act(view, event)
            except EngineError as error:
                view.refusal = refusal(error)
        return await self.tick(view, page)

    async def _act(self, view: BenchView, event: gr.EventData) -> None:
        action, name = str(getattr(event, "action", "")), str(getattr(event, "name", ""))
        if action == "run":
            self.bench.start(str(getattr(event, "suite", "")), settings_of(self._engine.snapshot().model, event))
            view.hidden_s = None
        elif action == "stop":
            self.bench.stop()
        elif action == "keep":
            await self.bench.keep(name.strip())
        elif action == "delete":
            await self.bench.delete(name)
        elif action == "show":
            self._show(view, name, bool(getattr(event, "on", False)))
        elif action == "export":
            suffix = str(getattr(event, "suffix", ""))
            if suffix == files.CARD:
                content = {"base64": base64.b64encode(await self.bench.card(name)).decode()}
            else:
                content = {"text": await self.bench.file(name, suffix)}
            view.file = {
                "name": f"{name or suggested_name(self.bench.live)}{suffix}",
                **content,
                "turn": time.monotonic(),
            }

    def _show(self, view: BenchView, name: str, on: bool) -> None:
        live = self.bench.live
        if live and name == live.saved_name:
            view.hidden_s = None if on else live.began_s
        elif on and name not in view.selected:
            view.selected.append(name)
        elif not on and name in view.selected:
            view.selected.remove(name)

    async def _displayed_runs(self, view: BenchView) -> list[DisplayedRun]:
        """The runs on the page: those selected, in their order, then the last one."""
        names, live = {entry.name for entry in self.bench.entries}, self.bench.live
        view.selected = [name for name in view.selected if name in names]
        runs = [await self.bench.load(name) for name in view.selected if not (live and name == live.saved_name)]
        if live and view.hidden_s != live.began_s:
            runs.append(live.displayed())
        return runs

    def _panel(self, snapshot: Snapshot) -> Json:
        live, bench, card = self.bench.live, self.bench, snapshot.model
        facts = live.facts if live and live.facts else bench.facts
        return {
            "operator": True,
            "note": "" if snapshot.state == "ready" else t("The model is not ready."),
            "suites": [
                {
                    "key": name,
                    "name": t(WORDS[name][0]),
                    "words": t(WORDS[name][1]),
                    "cannot": why_unsupported(name, card),
                }
                for name in SUITE_NAMES
            ],
            "run": _progress_json(live) if live and bench.running else None,
            "end": _outcome_json(live) if live and not bench.running else None,
            "noise": _noise(live) if live else [],
            "machine": [t(ANOTHER, host=card.server)] if card and card.server else results.machine(facts),
            "roofline": results.roofline(facts, live.roofline if live else {}),
        }

    async def _tables(self, runs: list[DisplayedRun]) -> Json:
        ended = [run for run in runs if run.result_json]
        base = ended[0] if len(ended) > 1 else None
        compared = [
            {
                "key": f"{base.name} {run.name}",
                "name": t("{run} over {base}", run=run.name, base=base.name),
                **results.ratio_table(await self.bench.ratios(base, run)),
                "caution": ", ".join(compare.differing(base.result_json or {}, run.result_json or {})),
            }
            for run in ended[1:]
            if base
        ]
        measured = [
            {"key": run.key, "name": run.name, "facts": results.facts(run.result_json)}
            for run in ended
            if run.result_json
        ]
        return {
            "tables": results.tables(runs),
            "compared": compared,
            "facts": [run for run in measured if run["facts"]],
        }

    def _runs(self, view: BenchView) -> Json:
        live = self.bench.live
        saved = [
            {
                "key": entry.name,
                "name": entry.name,
                "words": results.entry(entry),
                "canary": entry.canary,
                "on": view.hidden_s != live.began_s
                if live and entry.name == live.saved_name
                else entry.name in view.selected,
            }
            for entry in self.bench.entries
        ]
        return {
            "runs": saved,
            "last": bool(live and not live.saved_name and live.result_json),
            "on": bool(live and view.hidden_s != live.began_s),
        }


def _progress_json(live: Live) -> Json:
    """The progress of a run."""
    return {
        "words": results.settings_words(live),
        "now": case_in_words(live.current_case) or t("reading its first prompt"),
        "done": live.done,
        "total": live.total,
        "left": results.remaining_words(live.remaining_s(time.monotonic())),
    }


def _outcome_json(live: Live) -> Json:
    """How a run ended."""
    result = live.result
    if result is None:
        return {
            "words": live.error or t("It was stopped before anything was measured."),
            "bad": bool(live.error),
            "keep": False,
            "kept": live.saved_name,
            "suggested": "",
        }
    words = t("Stopped. What was measured until then is here.") if result.stopped else t("Done.")
    if result.canary is False:
        words = t("A check failed, so these numbers cannot be trusted. The table says which check.")
    return {
        "words": f"{results.settings_words(live)}. {words}",
        "bad": result.canary is False,
        "keep": any(point.samples for point in result.points),
        "kept": live.saved_name,
        "suggested": suggested_name(live),
    }


def suggested_name(live: Live | None) -> str:
    """A name to suggest for a run."""
    if live is None or live.result is None:
        return "run"
    when = datetime.fromisoformat(live.result.started).astimezone(UTC)
    return f"{live.suite} {when:%Y-%m-%d %H.%M.%S}"


def _noise(live: Live) -> list[str]:
    """What makes the numbers of this run less reliable, each message once."""
    return list(dict.fromkeys(noise.message for noise in live.noise if noise.kind != "spread"))
