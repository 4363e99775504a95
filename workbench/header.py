"""The header: which model, which device, memory, running requests. From the engine's snapshot, once a second."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from engine.types import Json, ModelState, Snapshot
from workbench.components import component
from workbench.models.listing import details, takes
from workbench.words import size

if TYPE_CHECKING:
    from engine.core import Engine
    from workbench.history import History

TAIL_CHARS = 12
"""The end of a model's name, which is always shown: there stands how it is quantized."""


def status(snapshot: Snapshot, *, manages: bool) -> Json:
    """Snapshot -> what the header says (static/header.js). takes: the kinds of media; None until the model is known.

    manages: see engine.access.visibility.manages_models; others are not told why a model could not be loaded, for that
    may name a folder.
    """
    device, card = snapshot.device, snapshot.model
    used_bytes = max(snapshot.active_bytes + snapshot.cache_bytes, snapshot.process_bytes)
    return {
        "state": snapshot.state,
        "model": _model(snapshot),
        "about": _about(snapshot, manages=manages),
        "toy": card.toy if card else "",
        "takes": takes(card, snapshot.states) if card else None,
        "device": f"{device.chip} · {device.mlx_device}",
        "device_title": f"{device.num_cores} cores · MLX {device.mlx_version} · BLAS {device.blas} · {device.os}",
        "memory": f"{size(used_bytes)} of {size(device.memory_bytes)}" if used_bytes else size(device.memory_bytes),
        "memory_title": f"In use by this process. MLX: {size(snapshot.active_bytes)} in use, "
        f"{size(snapshot.cache_bytes)} kept for reuse, {size(snapshot.peak_bytes)} at most so far",
        "running": f"{len(snapshot.running)} running",
    }


def _model(snapshot: Snapshot) -> list[str]:
    """What is said of the model in two runs; where room is short, the first is cut."""
    if snapshot.state == "failed":
        return ["Model failed to load", ""]
    if snapshot.state == "stopped":
        return ["Engine stopped", ""]
    if snapshot.model is None and snapshot.state != "ready":
        return ["Loading the model…", ""]
    name = snapshot.model.id if snapshot.model else _default(snapshot).name
    return [name[:-TAIL_CHARS], name[-TAIL_CHARS:]] if len(name) > 2 * TAIL_CHARS else [name, ""]


def _default(snapshot: Snapshot) -> ModelState:
    """The model that serves who names none."""
    return next((state for state in snapshot.states if state.is_default), ModelState("", ""))


def _about(snapshot: Snapshot, *, manages: bool) -> str:
    """What the model is, or why nothing is known of it: it could not be loaded, or nobody has asked it yet."""
    if snapshot.model and not snapshot.error:
        return details(snapshot.model, snapshot.states)
    error = snapshot.error or (_default(snapshot).error if snapshot.state == "ready" else "")
    if error:
        return error if manages else "It could not be loaded."
    return "It is loaded by the first message." if snapshot.state == "ready" else ""


def words(engine: Engine, history: History, *, manages: bool) -> Json:
    """What the header says now, to somebody who manages models or not.

    Also writes the history, as long as some page is open.
    """
    snapshot = engine.snapshot()
    history.add(snapshot, time.monotonic())
    return status(snapshot, manages=manages)


def build(engine: Engine, history: History) -> None:
    """The header row. Its figures come with the page's events (conversations/live.js), not through Gradio's queue.

    Those that it begins with are in the page itself, which is the same for everybody.
    """
    component("bar", "workbenchHeader.view(element, props)", "header", value=words(engine, history, manages=False))
