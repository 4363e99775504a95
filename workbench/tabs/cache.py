"""The cache tab: what was reused, what is held, and why a prompt was not reused further.

Three HTML components draw themselves from plain values (static/cache.js, with textContent only: the values hold words
of prompts, and Gradio's own templates would run `${...}` in them as script). A clock fills them once a second while
the tab is shown; what did not change is not sent.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from engine.api.cache import stats_json
from engine.types import BlockInfo, CacheStats, Snapshot
from workbench import grid
from workbench.header import size
from workbench.history import History
from workbench.miniatures import Miniatures
from workbench.shared import Shared
from workbench.strips import Viewer, strips

if TYPE_CHECKING:
    from engine.core import Engine

Json = dict[str, Any]

NAME = "Cache"
DRAWN = {
    part: f"workbenchCache.{part}(element, props, watch, server, trigger)" for part in ("totals", "strips", "blocks")
}
QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}


def build(engine: Engine, shared: Shared) -> CacheTab:
    """Lay out the tab inside the Tab context of the caller, who then calls `follow`."""
    return CacheTab(engine, shared)


class CacheTab:
    """The components of the tab and its callbacks. What a page was sent last is in gr.State."""

    def __init__(self, engine: Engine, shared: Shared) -> None:
        self._engine = engine
        self._operator = shared.operators_only
        self._history = shared.history
        self._miniatures = Miniatures(engine.thumbnail)
        self._layout: tuple[CacheStats, list[BlockInfo]] = (CacheStats(), [])
        self.sent = gr.State({})
        with gr.Column(elem_id="cache"):
            self.totals = _drawn("totals", [])
            self.strips = _drawn("strips", [])
            self.blocks = _drawn("blocks", self._server_functions() if self._operator else [])
        self.blocks.submit(self.tick, self.sent, self._outputs, **QUIET)  # after a pin, a drop or a clear

    @property
    def _outputs(self) -> list[Any]:
        return [self.sent, self.totals, self.strips, self.blocks]

    def follow(self, tabs: gr.Tabs) -> None:
        """Run the clock while this one of the tabs is shown."""
        clock = gr.Timer(1.0, active=False)
        clock.tick(self.tick, self.sent, self._outputs, **QUIET)
        tabs.select(self.shown, self.sent, [clock, *self._outputs], **QUIET)

    async def shown(self, sent: dict[str, str], page: gr.Request, chosen: gr.SelectData) -> list[Any]:
        """A tab was chosen. Inputs: sent. Outputs: clock, sent, totals, strips, blocks."""
        if chosen.value != NAME:
            return [gr.Timer(active=False), *[gr.skip()] * 4]
        return [gr.Timer(active=True), *await self.tick(sent, page)]

    async def tick(self, sent: dict[str, str], page: gr.Request) -> list[Any]:
        """What changed since it was last sent. Inputs: sent. Outputs: sent, totals, strips, blocks."""
        snapshot = self._engine.snapshot()
        viewer = Viewer(self._operator, page.session_hash)
        parts = {
            "totals": totals(snapshot, self._history, time.monotonic()),
            "strips": self._strips(snapshot, viewer),
            "blocks": await self._blocks(snapshot),
        }
        now = {name: _digest(value) for name, value in parts.items()}
        if now == sent:
            return [gr.skip()] * 4
        return [now, *(value if now[name] != sent.get(name) else gr.skip() for name, value in parts.items())]

    def _strips(self, snapshot: Snapshot, viewer: Viewer) -> Json:
        lanes = strips(snapshot.recent, viewer)
        shown = [segment["medium"] for lane in lanes for segment in lane["segments"] if segment["medium"]]
        return {"lanes": lanes, "pictures": self._miniatures.urls(shown), "note": why_nothing(snapshot)}

    async def _blocks(self, snapshot: Snapshot) -> Json:
        stats, held = snapshot.cache, await self._held(snapshot)
        pictures = grid.media(held) if self._operator else []
        return {
            "operator": self._operator,
            "cells": grid.cells(held, stats.block_tokens, operator=self._operator),
            "free": max(0, stats.max_blocks - len(held)),
            "held": pictures,
            "pictures": self._miniatures.urls(picture["medium"] for picture in pictures),
            "note": _snapshots_note(stats),
        }

    async def _held(self, snapshot: Snapshot) -> list[BlockInfo]:
        """The blocks, asked for when the counters say that something changed: it costs the engine thread time."""
        if snapshot.state != "ready":
            return []
        if self._layout[0] != snapshot.cache:
            self._layout = snapshot.cache, await self._engine.blocks(with_text=False)
        return self._layout[1]

    def _server_functions(self) -> list[Callable[..., Any]]:
        """What the page may call by name. Plain functions: Gradio marks them, which methods do not allow."""

        async def read_block(key: str) -> Json | None:
            block = await self._engine.block(str(key))
            if block is None:
                return None
            return {**grid.details(block), "pictures": self._miniatures.urls(block.media)}

        async def change_block(change: list[str]) -> bool:
            action, key = change
            return action in ("pin", "unpin", "drop") and await self._engine.change_block(action, str(key))  # type: ignore[arg-type]

        async def clear_cache(_: Any = None) -> None:
            await self._engine.clear_cache()

        return [read_block, change_block, clear_cache]


def _drawn(part: str, functions: list[Callable[..., Any]]) -> gr.HTML:
    """A component that static/cache.js draws; its template never changes, so Gradio leaves the drawing alone."""
    return gr.HTML(
        None,
        html_template=f'<div class="{part}"></div>',
        js_on_load=DRAWN[part],
        apply_default_css=False,
        server_functions=functions,
        elem_id=f"cache-{part}",
    )


def totals(snapshot: Snapshot, history: History, now_s: float) -> Json:
    """The headline numbers: those of /v1/cache/stats and /health, in words. Pure."""
    stats = stats_json(snapshot.cache)
    held = sum(stats["bytes"].values())
    running = len(snapshot.running)
    saved, kv = history.lines("tokens_saved", now_s=now_s), history.lines("held", now_s=now_s)
    return {
        "tiles": [
            {
                "name": "Prompt tokens reused",
                "number": f"{100 * stats['hit_rate']:.0f} %",
                "words": f"{stats['tokens_saved']:,} of {stats['tokens_seen']:,} tokens were not computed again",
                "lines": saved,
            },
            {
                "name": "Prompts",
                "number": f"{stats['total_queries']:,}",
                "words": f"{stats['hits']:,} found something stored, {stats['image_hits']:,} a picture, "
                f"{stats['video_hits']:,} a clip · {running} running",
                "lines": history.lines("running", now_s=now_s),
            },
            {
                "name": "Kept for reuse",
                "number": size(held),
                "words": f"{_kept(stats)} · at most {size(stats['limits']['bytes'])}",
                "lines": kv,
            },
            {
                "name": "Memory of the model",
                "number": size(snapshot.active_bytes),
                "words": f"in use by MLX, and {size(snapshot.cache_bytes)} free in its pool",
                "lines": history.lines("active", "pool", now_s=now_s),
            },
        ],
        "note": why_nothing(snapshot),
    }


def _kept(stats: Json) -> str:
    words = f"{stats['blocks']:,} of {stats['limits']['blocks']:,} blocks"
    return f"{words}, {grid.plural(stats['snapshots'], 'snapshot')}" if stats["snapshots"] else words


def why_nothing(snapshot: Snapshot) -> str:
    """Why there is nothing to see, if there is a reason."""
    if snapshot.state in ("starting", "loading"):
        return "The model is still loading."
    if snapshot.state != "ready":
        return "The engine does not run."
    if not snapshot.cache.enabled:
        return "The cache is switched off on this server, so every prompt is computed from its first token."
    return ""


def _snapshots_note(stats: CacheStats) -> str:
    if not stats.snapshots:
        return ""
    return (
        f"Models of this family cannot be kept in blocks. {grid.plural(stats.snapshots, 'snapshot')} of whole prompts "
        f"({size(stats.snapshot_bytes)}) are held instead."
    )


def _digest(value: Json) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=12).hexdigest()
