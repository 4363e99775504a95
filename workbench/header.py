"""The header: which model, which device, memory, running requests. From the engine's snapshot, once a second."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import gradio as gr

from engine.types import ModelCard, Snapshot
from workbench.words import count, size

if TYPE_CHECKING:
    from engine.core import Engine
    from workbench.history import History

# The page fills this template in place when the value changes: the elements stay, so nothing flickers.
TEMPLATE = """
<span class="brand">MLX Workbench</span>
<span class="pill model {{value.state}}" title="{{value.model_title}}"><i></i>{{value.model}}</span>
<span class="pill device" title="{{value.device_title}}">{{value.device}}</span>
<span class="pill memory" title="{{value.memory_title}}">{{value.memory}}</span>
<span class="pill running" title="Requests in the engine: this page, other pages and /v1">{{value.running}}</span>
"""


def status(snapshot: Snapshot) -> dict[str, str]:
    """Snapshot -> the words of the header. Pure."""
    device = snapshot.device
    used_bytes = max(snapshot.active_bytes + snapshot.cache_bytes, snapshot.process_bytes)
    return {
        "state": snapshot.state,
        "model": _model(snapshot),
        "model_title": snapshot.error or (_details(snapshot.model) if snapshot.model else ""),
        "device": f"{device.chip} · {device.mlx_device}",
        "device_title": f"{device.num_cores} cores · MLX {device.mlx_version} · BLAS {device.blas} · {device.os}",
        "memory": f"{size(used_bytes)} of {size(device.memory_bytes)}" if used_bytes else size(device.memory_bytes),
        "memory_title": f"In use by this process. MLX: {size(snapshot.active_bytes)} in use, "
        f"{size(snapshot.cache_bytes)} kept for reuse, {size(snapshot.peak_bytes)} at most so far",
        "running": f"{len(snapshot.running)} running",
    }


def _model(snapshot: Snapshot) -> str:
    if snapshot.state == "failed":
        return "Model failed to load"
    if snapshot.state == "stopped":
        return "Engine stopped"
    if snapshot.model is None:
        return "Loading the model…"
    return snapshot.model.id


def _details(card: ModelCard) -> str:
    kinds = [word for word, has in (("pictures", card.vision), ("clips", card.video), ("sound", card.audio)) if has]
    takes = "text, " + ", ".join(kinds) if kinds else "text"
    return (
        f"{card.model_type} · {count(card.num_params)} parameters · {card.dtype} · {size(card.num_bytes)} · "
        f"{card.context_tokens:,} tokens of context · takes {takes}"
    )


def words(engine: Engine, history: History) -> dict[str, str]:
    """What the header says now. Also writes the history, as long as some page is open."""
    snapshot = engine.snapshot()
    history.add(snapshot, time.monotonic())
    return status(snapshot)


def build(engine: Engine, history: History) -> None:
    """The header row. Its figures come with the page's events (conversations/live.js), not through Gradio's queue."""
    gr.HTML(
        words(engine, history),
        html_template=TEMPLATE,
        js_on_load="workbenchLive.header(props)",
        elem_id="header",
        padding=False,
    )
