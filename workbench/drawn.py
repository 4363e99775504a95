"""Components that the page's own scripts draw from plain values (static/draw.js), and what of them is sent."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import gradio as gr

Json = dict[str, Any]


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


def changed(sent: dict[str, str], name: str, value: Json) -> Any:
    """The value if it is another than was sent last under this name, else nothing. sent: digests by name, kept here."""
    digest = hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=12).hexdigest()
    if sent.get(name) == digest:
        return gr.skip()
    sent[name] = digest
    return value
