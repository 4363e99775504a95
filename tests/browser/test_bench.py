"""The Benchmark tab as a person uses it: charts grow, zoom stays, a run is stopped, kept, compared and exported."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from engine.measure.bench import store
from tests.pages import LOOKS, Person

PNG = b"\x89PNG\r\n\x1a\n"
SVG = b"<svg "
POINTS = ".scatterlayer .point"
VISITOR = "only whoever runs this server may start one"


class BenchTab:
    """The tab in front of a person."""

    def __init__(self, me: Person) -> None:
        self.me, self.page = me, me.page

    def open(self) -> BenchTab:
        self.page.get_by_role("tab", name="Benchmark").click()
        self.page.locator("#bench h3").first.wait_for()
        return self

    def run(self, suite: str, prompts: int, tokens: int) -> BenchTab:
        self.page.locator("#bench .suite", has_text=suite).click()
        self.page.get_by_label("Prompts").fill(str(prompts))
        self.page.get_by_label("Tokens per answer").fill(str(tokens))
        self.page.get_by_role("button", name="Run", exact=True).click()
        self.page.locator("#bench .going").wait_for()
        return self

    def ended(self) -> BenchTab:
        self.page.locator("#bench .end").wait_for(timeout=90_000)
        self.page.locator("#bench .list .run", has_text="This run").wait_for()
        return self

    def keep(self, name: str) -> BenchTab:
        self.page.get_by_label("Name to keep the run under").fill(name)
        self.page.get_by_role("button", name="Keep", exact=True).click()
        self.kept(name).wait_for()
        return self

    def kept(self, name: str) -> Any:
        return self.page.locator("#bench .list .run", has=self.page.get_by_text(name, exact=True))

    def chart(self, title: str) -> Any:
        return self.page.locator("#bench .chart", has=self.page.get_by_role("heading", name=title))

    def dots(self, title: str) -> int:
        return int(self.chart(title).locator(POINTS).count())

    def drawn(self, title: str) -> dict[str, Any]:
        """What Plotly holds of a chart: the range of its x axis, its colours, its values."""
        found: dict[str, Any] = (
            self.chart(title)
            .locator(".figure")
            .evaluate(
                """box => ({range: box._fullLayout.xaxis.range.map(Number), paper: box._fullLayout.paper_bgcolor,
                        ys: box.data.flatMap(one => one.y), colours: box._fullData.map(one => one.line?.color)})"""
            )
        )
        return found

    def press(self, title: str, button: str) -> Any:
        """One of Plotly's buttons over a chart, which are there while the pointer is."""
        chart = self.chart(title)
        chart.locator(".figure").hover()
        return chart.locator(f'.modebar-btn[data-title="{button}"]')

    def saved(self, button: Any) -> tuple[str, bytes]:
        with self.page.expect_download() as download:
            button.click()
        return download.value.suggested_filename, Path(download.value.path()).read_bytes()


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's pages keep their runs."""
    monkeypatch.setattr(store, "data_folder", lambda: tmp_path / "data")
    return tmp_path / "data" / "bench"


@pytest.fixture
def tab(person: Any, serve_page: Any, demo_engine: Any, runs: Path) -> Any:
    """tab(**context) -> a person at the tab of a page whose server keeps its runs in this test's folder."""
    here: list[Person] = []

    def make(**context: Any) -> BenchTab:
        here.append(person(url, **context))
        return BenchTab(here[-1].arrive()).open()

    with serve_page(demo_engine) as url:
        yield make
        for one in here:
            one.close()  # before its server goes


def zoom_stays(me: BenchTab) -> None:
    """A chart that was zoomed goes on in place: the same elements, the same stretch of time."""
    box = me.chart("Memory").locator(".figure")
    me.page.wait_for_function(
        "box => box._fullLayout?.xaxis.range[1] > 1 && box.data[0].x.length > 2", arg=box.element_handle()
    )
    whole = me.drawn("Memory")
    buttons = me.chart("Memory").locator(".modebar-btn").evaluate_all("all => all.map(one => one.dataset.title)")
    known = {"Save as PNG", "Save as SVG", "Zoom", "Move", "Zoom in", "Zoom out", "Show all"}
    assert set(buttons) == known, "none sends the numbers away"
    me.press("Memory", "Zoom in").press("Enter")  # by the keyboard
    me.page.wait_for_function("box => box._fullLayout.xaxis.autorange === false", arg=box.element_handle())
    before = me.drawn("Memory")
    assert before["range"] != whole["range"]
    me.page.evaluate("document.querySelectorAll('#bench .main-svg').forEach(one => { one.stays = true; })")
    me.page.wait_for_function(
        "([box, count]) => box.data.flatMap(one => one.y).length > count", arg=[box.element_handle(), len(before["ys"])]
    )
    assert me.drawn("Memory")["range"] == before["range"]
    assert me.page.evaluate("[...document.querySelectorAll('#bench .main-svg')].some(one => one.stays)")
    assert me.page.evaluate(
        "[...document.querySelectorAll('#bench-charts [data-key=memory] .main-svg')].every(one => one.stays)"
    ), "updated in place"
    me.press("Memory", "Show all").click()
    me.page.wait_for_function("box => box._fullLayout.xaxis.autorange !== false", arg=box.element_handle())
    assert me.drawn("Memory")["range"] != before["range"], "the twin: all of it is another stretch"


def numbers_are_the_runs(me: BenchTab, kept: dict[str, Any]) -> None:
    """The chart and its table have what the command writes of the same run, and the chart follows the theme."""
    medians = [point["ttft"]["median"] for point in kept["points"]]
    assert me.drawn("Time to first token")["ys"] == medians
    chart = me.chart("Time to first token")
    chart.locator("summary").click()
    chart.locator("td:nth-child(2)").first.wait_for()
    shown = chart.locator("td:nth-child(2)").all_inner_texts()
    assert [float(text.replace(",", "")) for text in shown] == [pytest.approx(one, rel=1e-4) for one in medians]
    light = me.drawn("Time to first token")
    me.page.emulate_media(color_scheme="dark")
    me.page.wait_for_function(
        "([box, paper]) => box._fullLayout.paper_bgcolor !== paper",
        arg=[chart.locator(".figure").element_handle(), light["paper"]],
    )
    assert me.drawn("Time to first token")["colours"] != light["colours"]
    me.page.emulate_media(color_scheme="light")


def test_a_run_grows_and_is_zoomed_stopped_kept_compared_and_exported(tab, runs):
    me = tab()
    me.run("Pictures", prompts=60, tokens=4)
    me.page.wait_for_function("n => document.querySelectorAll(`#bench .chart ${n}`).length >= 2", arg=POINTS)
    me.page.locator("#bench .numbers tbody tr").first.wait_for()

    zoom_stays(me)
    assert re.search(r"\d+ of 244 answers", me.page.locator("#bench .count").inner_text())
    me.page.get_by_role("button", name="Stop").click()
    me.ended()
    assert "stopped" in me.page.locator("#bench .end").inner_text().lower()
    measured = me.dots("Time to first token")
    assert measured >= 1
    me.keep("stopped / early")
    (file,) = runs.iterdir()
    kept = json.loads(file.read_text())
    assert kept["stopped"] and len(kept["points"]) == measured

    me.run("Pictures", prompts=1, tokens=4).ended()
    assert me.dots("Time to first token") == 4
    me.page.locator("#bench .lamp-button", has_text="passed").first.click()
    me.page.locator("#bench .told p", has_text="when blanked").first.wait_for()
    assert me.page.locator("#bench .measured td").first.inner_text() == "picture of 224 × 224"
    tokens = me.page.locator("#bench .measured th", has_text="output tokens")
    assert tokens.get_attribute("title") == "Tokens of an answer, on average"
    me.keep("whole")
    numbers_are_the_runs(me, json.loads((runs / "whole.json").read_text()))
    me.kept("stopped / early").locator("input").check()
    me.page.locator("#bench .compared tbody tr").first.wait_for()
    assert me.page.locator("#bench .compared tbody tr").count() == measured
    assert me.dots("Time to first token") == 4 + measured

    name, picture = me.saved(me.press("Time to first token", "Save as PNG"))
    assert name == "Time to first token (ms).png" and picture.startswith(PNG) and len(picture) > 10_000
    name, picture = me.saved(me.press("Time to first token", "Save as SVG"))
    assert name == "Time to first token (ms).svg" and picture.startswith(SVG) and b"Time to first token" in picture
    me.page.mouse.move(0, 0)
    name, text = me.saved(me.kept("whole").get_by_role("button", name="JSON"))
    assert name == "whole.json" and len((told := json.loads(text))["points"]) == 4
    name, text = me.saved(me.kept("whole").get_by_role("button", name="CSV"))
    assert name == "whole.csv" and len(list(csv.DictReader(text.decode().splitlines()))) == 4
    name, picture = me.saved(me.kept("whole").get_by_role("button", name="Card"))
    assert name == "whole.png" and Image.open(io.BytesIO(picture)).text["seal"].endswith(told["seal"]["sha256"])

    delete = me.kept("whole").locator(".delete")
    delete.click()
    assert len(list(runs.iterdir())) == 2, "asked twice"
    delete.click()
    me.kept("whole").wait_for(state="detached")
    assert len(list(runs.iterdir())) == 1


def test_the_chat_goes_on_and_its_traffic_is_marked(tab):
    me = tab()
    me.run("Text", prompts=100, tokens=64)
    me.page.wait_for_function("n => document.querySelectorAll(`#bench .chart ${n}`).length >= 2", arg=POINTS)
    me.page.get_by_role("tab", name="Chat").click()
    assert me.me.ask("Hello!")
    me.open()
    me.page.locator("#bench .noise .chip", has_text="ran meanwhile").wait_for()
    me.page.get_by_role("button", name="Stop").click()
    me.ended()


def test_a_visitor_reads_why_not(person, serve_page, demo_engine):
    with serve_page(demo_engine, host="0.0.0.0", open_access=True) as url:
        me = BenchTab(person(url).arrive()).open()
        me.page.locator("#bench .note", has_text=VISITOR).wait_for()
        assert not me.page.get_by_role("button", name="Run", exact=True).is_visible()
        me.me.leave()


@pytest.mark.parametrize("name", LOOKS)
def test_looks(tab, artifacts, name):
    me = tab(**LOOKS[name])
    me.page.locator("#bench .machine", has_text="cores").wait_for()
    me.me.shoot(artifacts / f"bench-empty-{name}.png")
    me.run("Text", prompts=2, tokens=8).ended()
    assert me.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    unnamed = me.page.evaluate("""[...document.querySelectorAll("#bench :is(button, input):not([hidden])")]
        .filter(one => !(one.getAttribute("aria-label") || one.closest("label")?.textContent || one.textContent).trim())
        .length""")
    assert unnamed == 0
    me.me.shoot(artifacts / f"bench-{name}.png")
