"""Figures hold the charts' own numbers, and take words from outside for words."""

from __future__ import annotations

import plotly.graph_objects as go
import pytest

from tests.workbench.bench.test_charts import load, row, shown
from workbench.bench.charts import charts
from workbench.bench.figures import digits, drawn
from workbench.bench.live import DisplayedRun
from workbench.figures import templates
from workbench.language import speaking

PIXELS = {"labels": {"pixels": 10**6}}


def figure_of(key: str, *runs: DisplayedRun) -> dict:
    (found,) = [drawn(chart) for chart in charts(runs) if chart["key"] == key]
    go.Figure(found["figure"])  # raises ValueError for what is not of Plotly's schema
    return found


def test_a_figure_has_the_numbers_unrounded_and_says_them() -> None:
    found = figure_of("image-ttft", shown(row("a", 7.123456, **PIXELS), row("b", 9.5, labels={"pixels": 2 * 10**6})))
    (trace,) = found["figure"]["data"]
    assert (trace["x"], trace["y"]) == ([1.0, 2.0], [7.123456, 9.5])
    assert found["title"] == "Time to first token (ms)" and found["heads"] == ["megapixels", "ms"]
    assert found["words"] == "Time to first token (ms). run: 2 values from 7.12 to 9.5"


def test_a_mark_has_a_shape_of_its_own_and_its_words() -> None:
    points = [row("a", 1, **PIXELS), row("b", 1, **PIXELS, noise=["x"]), row("c", 1, **PIXELS, canary={"ok": False})]
    (trace,) = figure_of("image-ttft", shown(*points))["figure"]["data"]
    assert trace["marker"]["symbol"] == ["circle", "circle-open", "x"]
    assert "cannot be trusted" in trace["customdata"][2][1] and trace["customdata"][0][1] == " (a)"
    bars = [row("a", 1, "cache"), row("b", 1, "cache", running=True)]
    (trace,) = figure_of("cache-ttft", shown(*bars))["figure"]["data"]
    assert trace["marker"]["pattern"]["shape"] == ["", "/"] and (trace["x"], trace["y"]) == ([1, 1], ["a", "b"])


def test_a_run_has_its_colour_in_every_chart() -> None:
    runs = [shown(row("words", 1, "text"), name="x"), shown(row("a", 2, **PIXELS), row("words", 3, "text"), name="y")]
    for key in ("image-ttft", "text-ttft"):
        traces = figure_of(key, *runs)["figure"]["data"]
        assert [trace["name"] for trace in traces].index("y") == 1, "the second of the colours"
    assert not figure_of("image-ttft", *runs)["figure"]["data"][0]["showlegend"]


def test_memory_has_a_unit_that_fits() -> None:
    found = figure_of("memory", shown(row("a", 1, **PIXELS), loads=[load(1.0, process_bytes=3 * 2**30)]))
    assert found["title"] == "Memory (GB)" and found["figure"]["data"][0]["y"] == [3.0]
    found = figure_of("memory", shown(row("a", 1, **PIXELS), loads=[load(1.0, process_bytes=0, mlx_active_bytes=0)]))
    assert found["title"] == "Memory (B)"


def test_stretches_of_others_are_one_entry_of_the_legend() -> None:
    loads = [load(at, others) for at, others in ((0.0, 0), (0.5, 1), (1.0, 0), (2.0, 1))]
    layout = figure_of("cpu", shown(row("a", 1, **PIXELS), loads=loads))["figure"]["layout"]
    assert [(one["x0"], one["x1"], one["showlegend"]) for one in layout["shapes"]] == [(0, 0.5, True), (1, 2, False)]
    assert layout["showlegend"]


@pytest.mark.parametrize("key", ["image-ttft", "cache-ttft"])
def test_names_from_outside_are_no_markup(key: str) -> None:
    name = "<a href='x'>%{y}</a> & more"
    suite = key.partition("-")[0]
    found = figure_of(key, shown(row(name, 1, suite, **PIXELS), name=name), shown(row("b", 1, suite, **PIXELS)))
    assert "<a " not in str(found["figure"]) and "&lt;a " in str(found["figure"])
    assert name in found["words"]


def test_zoom_is_kept_per_chart_and_the_template_is_the_pages() -> None:
    found = figure_of("image-ttft", shown(row("a", 1, **PIXELS)))
    assert found["figure"]["layout"]["uirevision"] == "image-ttft" and "template" not in found["figure"]["layout"]
    for template in templates().values():
        go.layout.Template(template)
    light, dark = (templates()[theme]["layout"] for theme in ("light", "dark"))
    assert len(light["colorway"]) == len(dark["colorway"]) and light["paper_bgcolor"] != dark["paper_bgcolor"]


def test_numbers_in_the_readers_language() -> None:
    assert [digits(value) for value in (0.12345, 12.345, 1234.5)] == ["0.123", "12.3", "1,234"]
    with speaking("de"):
        assert digits(1234.5) == "1.234" and digits(1.5) == "1,5"
        found = figure_of("image-ttft", shown(row("a", 1.5, **PIXELS)))
        assert found["figure"]["layout"]["separators"] == ",."
