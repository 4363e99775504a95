"""Components that the page's own scripts draw from plain values (static/draw.js), and what of them is sent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from engine.types import Json

Callback = Callable[..., Any]

QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""How an event runs that the page's own scripts send, and nobody waits for."""


def drawn(part: str, call: str, elem_id: str, **more: Any) -> gr.HTML:
    """A component that a script draws; its template never changes, so Gradio leaves the drawing alone.

    part: the class of the element that is drawn in. call: the script's function with its arguments.
    """
    return gr.HTML(
        None,
        html_template=f'<div class="{part}"></div>',
        js_on_load=call,
        apply_default_css=False,
        elem_id=elem_id,
        **more,
    )


def drawn_parts(script: str, names: Sequence[str]) -> list[gr.HTML]:
    """A component for each function of window.workbench<script>, e.g. "Cache": "blocks" is drawn in #cache-blocks."""
    return [
        drawn(name, f"workbench{script}.{name}(element, props, watch, trigger)", f"{script.lower()}-{name}")
        for name in names
    ]


def while_shown(tabs: gr.Tabs, tick: Callback, shown: Callback, view: gr.State, parts: Sequence[gr.HTML]) -> None:
    """Call tick once a second while a tab is shown. tick: view -> parts. shown: view -> clock, parts, when any tab was
    chosen; it starts and stops the clock."""
    clock = gr.Timer(1.0, active=False)
    clock.tick(tick, view, [*parts], **QUIET)
    tabs.select(shown, view, [clock, *parts], **QUIET)


def changed(sent: dict[str, str], name: str, value: Json) -> Any:
    """The value if it is another than was sent last under this name, else nothing. sent: digests by name, kept here."""
    digest = hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=12).hexdigest()
    if sent.get(name) == digest:
        return gr.skip()
    sent[name] = digest
    return value
