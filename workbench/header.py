"""The header: which model, which device, memory, running requests. From the engine's snapshot, once a second."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from engine.types import Json, ModelState, Snapshot
from workbench.components import component
from workbench.language import catalogued, t
from workbench.models.listing import details, stage_words, takes
from workbench.words import size

if TYPE_CHECKING:
    from engine.core import Engine
    from workbench.history import History

DEMO = catalogued("It knows plain shapes and their colors, and nothing else.")
"""What the card of the model that ships says of it (ModelCard.toy), here for the catalogue."""


def status(snapshot: Snapshot, *, manages: bool) -> Json:
    """Snapshot -> what the header says (static/header.js). takes: the kinds of media; None until the model is known.
    is_described: another model describes them to it, so that it gets words only.

    manages: see engine.access.visibility.manages_models; others are not told why a model could not be loaded, for that
    may name a folder.
    """
    device, card = snapshot.device, snapshot.model
    default = _default(snapshot)
    is_away = bool(default.server) and default.stage == "failed"
    used_bytes = max(snapshot.active_bytes + snapshot.cache_bytes, snapshot.process_bytes)
    return {
        "state": "failed" if is_away else snapshot.state,
        "model": _model(snapshot),
        "about": _about(snapshot, manages=manages),
        "toy": t(card.toy) if card else "",
        "is_described": bool(card and card.described_by),
        "takes": takes(card, snapshot.states) if card else None,
        "device": f"{device.chip} · {device.mlx_device}",
        "device_title": " · ".join(
            [
                t("{count} cores", count=device.num_cores),
                f"MLX {device.mlx_version}",
                f"BLAS {device.blas}",
                device.os,
            ]
        ),
        "memory": t("{used} of {all}", used=size(used_bytes), all=size(device.memory_bytes))
        if used_bytes
        else size(device.memory_bytes),
        "memory_title": t(
            "In use by this process. MLX: {active} in use, {kept} kept for reuse, {peak} at most so far",
            active=size(snapshot.active_bytes),
            kept=size(snapshot.cache_bytes),
            peak=size(snapshot.peak_bytes),
        ),
        "running": t("{count} running", count=len(snapshot.running)),
    }


def _model(snapshot: Snapshot) -> str:
    if snapshot.state == "failed":
        return t("Model failed to load")
    if snapshot.state == "stopped":
        return t("Engine stopped")
    if snapshot.model is None and snapshot.state != "ready":
        return t("Loading the model…")
    return snapshot.model.id if snapshot.model else _default(snapshot).name


def _default(snapshot: Snapshot) -> ModelState:
    """The model that serves who names none."""
    return next((state for state in snapshot.states if state.is_default), ModelState("", ""))


def _about(snapshot: Snapshot, *, manages: bool) -> str:
    """What the model is, or why nothing is known of it: it could not be loaded, or nobody has asked it yet."""
    default = _default(snapshot)
    if default.server and default.stage == "failed":
        return (default.error or "") if manages else stage_words(default)
    if snapshot.model and not snapshot.error:
        return details(snapshot.model, snapshot.states)
    error = snapshot.error or (default.error if snapshot.state == "ready" else "")
    if error:
        return error if manages else t("It could not be loaded.")
    return t("It is loaded by the first message.") if snapshot.state == "ready" else ""


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
