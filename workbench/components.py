"""Components that the page's own scripts draw from plain values (static/draw.js), and sending them their values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from engine.types import Json

Callback = Callable[..., Any]

QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""For events of the page's own scripts: outside Gradio's queue, without a progress display."""


def component(part: str, call: str, elem_id: str, value: Json | None = None, **more: Any) -> gr.HTML:
    """A component that a script draws. Its template never changes, so Gradio does not draw it again.

    part: the class of the element to draw in. call: the script's function with its arguments.
    """
    return gr.HTML(
        value,
        html_template=f'<div class="{part}"></div>',
        js_on_load=call,
        apply_default_css=False,
        elem_id=elem_id,
        **more,
    )


def components(script: str, names: Sequence[str]) -> list[gr.HTML]:
    """A component for each function of window.workbench<script>, e.g. "Cache": "blocks" is drawn in #cache-blocks."""
    return [
        component(name, f"workbench{script}.{name}(element, props, watch, trigger)", f"{script.lower()}-{name}")
        for name in names
    ]


def while_shown(tabs: gr.Tabs, tick: Callback, on_select: Callback, view: gr.State, parts: Sequence[gr.HTML]) -> None:
    """Call tick once a second while a tab is shown.

    tick: view -> parts. on_select: view -> clock, parts; called when any tab is selected, to start or stop the clock.
    """
    clock = gr.Timer(1.0, active=False)
    clock.tick(tick, view, [*parts], **QUIET)
    tabs.select(on_select, view, [clock, *parts], **QUIET)


def changed(sent: dict[str, str], name: str, value: Json) -> Any:
    """The value, or gr.skip() if it equals the last one sent under this name. sent: digests by name, updated here."""
    digest = hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=12).hexdigest()
    if sent.get(name) == digest:
        return gr.skip()
    sent[name] = digest
    return value
