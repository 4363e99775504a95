"""The look of Plotly's figures on the page, in the light and in the dark. static/figures.js draws them.

A figure is {"data", "layout"} of Plotly's schema (https://plotly.com/python/reference), as plain values: graph objects
check each property when they are made, which takes 30 to 90 ms a figure beside a measurement that runs. The tests make
graph objects of them instead. Plotly takes tags in names and labels for markup: words from outside go through `plain`.
"""

from __future__ import annotations

import html

from engine.types import Json
from workbench.language import number

SANS = "ui-sans-serif, system-ui, -apple-system, Segoe UI, Roboto, sans-serif"
LIGHT = {
    "colorway": ["#5b74e6", "#e8883a", "#1f9d8f", "#b457a8", "#8a8f2c", "#c24f5c"],
    "text": "#1f2937", "quiet": "#566379", "line": "#e2e6ee", "card": "#ffffff",
}  # fmt: skip
DARK = {
    "colorway": ["#8198f5", "#e59a58", "#41b5a6", "#cf83c5", "#b0b552", "#e0808a"],
    "text": "#f1f5f9", "quiet": "#a3adbb", "line": "#2a303a", "card": "#171b22",
}  # fmt: skip


def templates() -> Json:
    """Plotly's templates by the page's theme: "light", "dark"."""
    return {"light": _template(LIGHT), "dark": _template(DARK)}


def _template(look: Json) -> Json:
    axis = {
        "gridcolor": look["line"], "zerolinecolor": look["quiet"], "linecolor": look["line"],
        "tickfont": {"color": look["quiet"], "size": 11},
        "title": {"font": {"color": look["quiet"], "size": 12}, "standoff": 6},
    }  # fmt: skip
    layout = {
        "colorway": look["colorway"],
        "font": {"color": look["text"], "family": SANS, "size": 12},
        "title": {"font": {"size": 13, "weight": 600}, "x": 0, "xref": "container", "xanchor": "left", "pad": {"l": 6}},
        "paper_bgcolor": look["card"],
        "plot_bgcolor": look["card"],
        "xaxis": axis,
        "yaxis": axis,
        "legend": {"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"},
        "hoverlabel": {
            "bgcolor": look["card"],
            "bordercolor": look["line"],
            "font": {"color": look["text"], "size": 12},
        },
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": look["quiet"], "activecolor": look["colorway"][0]},
    }
    return {"layout": layout}


def separators() -> str:
    """The decimal and the thousands sign of the reader's language, for a layout."""
    signs = number(1234.5, ",.1f")
    return signs[5] + signs[1]


def plain(text: str) -> str:
    """Words as Plotly shows them as they are."""
    return html.escape(text, quote=False)
