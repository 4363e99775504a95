"""Charts (workbench.bench.charts) -> Plotly figures. Pure.

What was noisy or still runs has a hollow point or a hatched bar; where a check failed it is a cross.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.types import Json
from workbench.figures import plain, separators
from workbench.language import catalogued, number, t

HEIGHT_PX = 270
LEGEND_PX = 26
MARKS = {
    "": "",
    "noisy": catalogued("noisy: its rounds differ by more than 15 %, or others asked meanwhile"),
    "false": catalogued("a check failed: this number cannot be trusted"),
    "running": catalogued("still being measured"),
}
SYMBOLS = {"": "circle", "noisy": "circle-open", "running": "circle-open", "false": "x"}
PATTERNS = {"": "", "noisy": "/", "running": "/", "false": "x"}
BYTES = ((2**30, "GB"), (2**20, "MB"), (2**10, "KB"), (1, "B"))
OTHERS = "rgba(217, 154, 28, .2)"
"""The stretches in which the engine served others, in both themes."""


def drawn(chart: Json) -> Json:
    """A chart with its figure, and in `words` what it shows, for those who do not see it."""
    divide, unit = unit_of(chart)
    build = _bars if chart["kind"] == "bars" else _lines
    figure = build(chart, divide, unit)
    title = f"{t(chart['title'])} ({unit})"
    figure["layout"] |= {
        "title": {"text": plain(title), "y": 1, "yref": "container", "yanchor": "top", "pad": {"t": 10}},
        "uirevision": chart["key"],  # zoom, pan and what is hidden survive as long as it is the same
        "separators": separators(),
        "showlegend": len(chart["series"]) > 1 or bool(chart.get("bands")),
    }
    words = f"{title}. {_words(chart['series'], divide)}"
    heads = [chart["x"]["title"] if "x" in chart else t("case"), unit]
    return {
        "key": chart["key"], "kind": chart["kind"], "title": title, "words": words,
        "heads": heads, "figure": figure,
    }  # fmt: skip


def unit_of(chart: Json) -> tuple[float, str]:
    """What the chart's values are divided by, and the unit that they then have."""
    if chart["unit"] != "bytes":
        return 1, chart["unit"]
    top = max((point[1] for one in chart["series"] for point in one["points"]), default=0)
    return next((size, unit) for size, unit in BYTES if top >= size or size == 1)


def _in_places(series: Sequence[Json]) -> list[Json]:
    """The series, each at its place, for a run has the same colour in every chart. Missing ones have no points."""
    by_place = {one["place"]: one for one in series}
    none: Json = {"name": "", "points": []}
    return [by_place.get(place, none) for place in range(max(by_place, default=-1) + 1)]


def _lines(chart: Json, divide: float, unit: str) -> Json:
    data, over_time = [], chart["kind"] == "time"
    for one in _in_places(chart["series"]):
        points = one["points"]
        data.append(
            {
                "type": "scatter",
                "x": [point[0] for point in points],
                "y": [point[1] / divide for point in points],
                "name": plain(one["name"]),
                "mode": "lines" if over_time else "lines+markers",
                "line": {"width": 2},
                "marker": {
                    "size": 9,
                    "symbol": [SYMBOLS[point[3]] for point in points],
                    "line": {"width": [2 if SYMBOLS[point[3]].endswith("-open") else 0 for point in points]},
                },
                "customdata": [_said(point) for point in points],
                "hovertemplate": f"%{{y:,.4~g}} {unit}%{{customdata[1]}}<extra>{plain(one['name'])}</extra>",
                "showlegend": bool(points),
            }
        )
    shapes = [
        {
            "type": "rect", "x0": start, "x1": end, "yref": "paper", "y0": 0, "y1": 1, "layer": "below",
            "fillcolor": OTHERS, "line": {"width": 0}, "name": t("others were served"), "showlegend": not place,
        }
        for place, (start, end) in enumerate(chart.get("bands", ()))
    ]  # fmt: skip
    has_legend = len(chart["series"]) > 1 or shapes
    axis: Json = {"title": {"text": chart["x"]["title"]}, "zeroline": False}
    xs = sorted({point[0] for one in chart["series"] for point in one["points"]})
    if chart["x"]["scale"] == "log":
        axis |= {"type": "log", "tickvals": xs, "ticktext": [number(x, "g") for x in xs]}
    elif chart["x"]["scale"] == "count":
        axis |= {"tickformat": "d", "dtick": 1} if len(xs) < 10 else {"tickformat": "d"}
    else:
        axis |= {"rangemode": "tozero"}
    layout = {
        "height": HEIGHT_PX + (LEGEND_PX if has_legend else 0),
        "margin": {"l": 52, "r": 14, "t": 40, "b": 46 + (LEGEND_PX if has_legend else 0)},
        "hovermode": "x unified",
        "xaxis": axis,
        "yaxis": {"rangemode": "tozero", "nticks": 6, "tickformat": ",.3~f"},
        "shapes": shapes,
    }
    return {"data": data, "layout": layout}


def _bars(chart: Json, divide: float, unit: str) -> Json:
    """A bar for each case, its words above it; of several runs one under the other."""
    data = []
    cases = list(dict.fromkeys(point[0] for one in chart["series"] for point in one["points"]))
    for one in _in_places(chart["series"]):
        points = one["points"]
        values = [point[1] / divide for point in points]
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "y": [plain(point[0]) for point in points],
                "x": values,
                "name": plain(one["name"]),
                "text": [f"{digits(value)} {unit}" for value in values],
                "textposition": "outside",
                "cliponaxis": False,
                "marker": {"cornerradius": 3, "pattern": {"shape": [PATTERNS[point[3]] for point in points]}},
                "customdata": [_said(point) for point in points],
                "hovertemplate": f"%{{x:,.4~g}} {unit}%{{customdata[1]}}<extra>{plain(one['name'])}</extra>",
                "showlegend": bool(points),
            }
        )
    each_px = 28 + 16 * len(chart["series"])
    legend = LEGEND_PX if len(chart["series"]) > 1 else 0
    top = max((point[1] / divide for one in chart["series"] for point in one["points"]), default=1) or 1
    layout = {
        "height": 50 + legend + each_px * len(cases),
        "margin": {"l": 12, "r": 14, "t": 40, "b": 10 + legend},
        "hovermode": "closest",
        "barmode": "group",
        "bargap": 26 / each_px,
        "xaxis": {"visible": False, "range": [0, top * 1.25], "fixedrange": True},
        "yaxis": {
            "categoryorder": "array", "categoryarray": [plain(case) for case in cases], "autorange": "reversed",
            "fixedrange": True, "showgrid": False, "ticklabelposition": "inside", "ticks": "",
            "ticklabelshift": 8 * len(chart["series"]) + 8,
        },
    }  # fmt: skip
    return {"data": data, "layout": layout}


def _said(point: Sequence[object]) -> list[str]:
    """A point's case, and what the pointer is told of it."""
    case, mark = str(point[2]), t(MARKS[str(point[3])])
    more = ", ".join(part for part in (case, mark) if part)
    return [plain(case), f" ({plain(more)})" if more else ""]


def digits(value: float) -> str:
    """Three significant digits; whole numbers from a thousand on."""
    return number(value, ",.0f") if value >= 1000 else number(float(f"{value:.3g}"), "g")


def _words(series: Sequence[Json], divide: float) -> str:
    said = []
    for one in series:
        values = [point[1] / divide for point in one["points"]]
        if values:
            least, most = digits(min(values)), digits(max(values))
            said.append(
                t("{name}: {count} values from {least} to {most}", name=one["name"], count=len(values),
                  least=least, most=most)
            )  # fmt: skip
    return "; ".join(said) or t("nothing yet")
