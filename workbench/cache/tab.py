"""The cache tab: what was reused, what is stored, and why a prompt was not reused further.

Four HTML components draw themselves from plain values (cache/cache.js, with textContent only: the values hold words
of prompts, and Gradio's own templates would run `${...}` in them as script). They are sent once a second while the tab
is shown, if they changed. What a page may see and do depends on its caller: engine.access.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import gradio as gr

from engine.access.visibility import Caller
from engine.api.cache import stats_json
from engine.errors import EngineError
from engine.models.families import family
from engine.types import BlockInfo, CacheStats, FeatureInfo, Json, Snapshot
from workbench.cache import grid
from workbench.cache.strips import strips, verdict
from workbench.components import QUIET, changed, components, refusal, while_shown
from workbench.language import catalogued, number, t, tn
from workbench.miniatures import Miniatures
from workbench.shared import Shared
from workbench.words import percent, plural, size

if TYPE_CHECKING:
    from engine.core import Engine


NAME = catalogued("Cache")
PARTS = ("totals", "strips", "blocks", "charts")
CHANGES = {"pin": "pin", "unpin": "unpin", "drop": "drop"}
FEATURE_CHANGES: dict[str, Literal["pin", "unpin", "drop"]] = {
    "pin_features": "pin",
    "unpin_features": "unpin",
    "drop_features": "drop",
}
MAX_FRAMES = 64
"""Frames shown of a clip; more would fill the screen."""
IN_USE = catalogued("A running request or a pin holds this, or something that continues it. Unpin it first, or wait.")


def build(engine: Engine, shared: Shared) -> CacheTab:
    """Lay out the tab inside the Tab context of the caller, who then calls `follow`."""
    return CacheTab(engine, shared)


@dataclass
class CacheView:
    """The state of one page. sent: digests of the parts it got last. block: the details that are open.

    verdicts: of cache verifications, by request. refusal: what was last refused, see components.refusal.
    """

    sent: dict[str, str] = field(default_factory=dict)
    block: Json | None = None
    verdicts: dict[str, Json] = field(default_factory=dict)
    refusal: Json = field(default_factory=dict)


class CacheTab:
    """The components of the tab and its callbacks. Holds no state of a user: that is in gr.State."""

    def __init__(self, engine: Engine, shared: Shared) -> None:
        self._engine = engine
        self._shared = shared
        self._miniatures = Miniatures(engine.thumbnail)
        self._layout: tuple[CacheStats, list[BlockInfo], list[FeatureInfo]] = (CacheStats(), [], [])
        self.view = gr.State(CacheView())  # Gradio copies it for each page that opens
        with gr.Column(elem_id="cache"):
            self.parts = components("Cache", PARTS)
        _, strips_part, blocks_part, _ = self.parts
        strips_part.submit(self.check, self.view, self.parts, trigger_mode="multiple", **QUIET)
        blocks_part.submit(self.act, self.view, self.parts, trigger_mode="multiple", **QUIET)

    def follow(self, tabs: gr.Tabs) -> None:
        """Run the clock while this tab is shown."""
        while_shown(tabs, self.tick, self.on_select, self.view, self.parts)

    async def on_select(self, view: CacheView, page: gr.Request, tab: gr.SelectData) -> list[Any]:
        """A tab was selected. Inputs: view. Outputs: clock, parts."""
        if tab.value != t(NAME):
            return [gr.Timer(active=False), *[gr.skip()] * len(PARTS)]
        return [gr.Timer(active=True), *await self.tick(view, page)]

    async def tick(self, view: CacheView, page: gr.Request) -> list[Any]:
        """The parts that changed since they were last sent. Inputs: view. Outputs: parts."""
        caller, snapshot = self._shared.caller(page), self._engine.snapshot()
        values = (
            totals(snapshot),
            self._strips(snapshot, view, caller),
            await self._blocks(snapshot, view, caller),
            {"charts": self._shared.history.charts(snapshot, time.monotonic())},
        )
        return [changed(view.sent, name, value) for name, value in zip(PARTS, values, strict=True)]

    def _strips(self, snapshot: Snapshot, view: CacheView, caller: Caller) -> Json:
        lanes = strips(snapshot.recent, caller, view.verdicts)
        media = [segment["medium"] for lane in lanes for segment in lane["segments"] if segment["medium"]]
        return {"lanes": lanes, "pictures": self._miniatures.urls(media), "note": why_nothing(snapshot)}

    async def _blocks(self, snapshot: Snapshot, view: CacheView, caller: Caller) -> Json:
        stats, (blocks, units) = snapshot.cache, await self._stored(snapshot)
        if view.block is not None and all(block.key != view.block["key"] for block in blocks):
            view.block = None  # evicted meanwhile
        pictures = grid.media(
            [block for block in blocks if caller.sees(block.tenant)],
            [unit for unit in units if caller.sees(unit.tenant)],
        )
        clips = {
            picture["medium"]: min(MAX_FRAMES, len(picture["frames"])) for picture in pictures if picture["frames"]
        }
        return {
            "operator": caller.operator,
            "cells": grid.cells(blocks, stats.block_tokens, caller),
            "free": max(0, stats.max_blocks - len(blocks)),
            "media": pictures,
            "pictures": self._miniatures.urls(picture["medium"] for picture in pictures),
            "sheets": {medium: self._miniatures.sheet(medium, num_frames) for medium, num_frames in clips.items()},
            "note": family_note(snapshot),
            "open": view.block,
            "refusal": view.refusal,
        }

    async def _stored(self, snapshot: Snapshot) -> tuple[list[BlockInfo], list[FeatureInfo]]:
        """The stored blocks and features. Read only when the counters changed, as it takes the engine thread's time."""
        if snapshot.state != "ready":
            return [], []
        if self._layout[0] != snapshot.cache:
            blocks, units = await self._engine.cache.blocks(with_text=False), await self._engine.cache.features()
            self._layout = snapshot.cache, blocks, units
        return self._layout[1:]

    async def act(self, view: CacheView, page: gr.Request, event: gr.EventData) -> list[Any]:
        """A button of a block or a picture was pressed. Inputs: view. Outputs: parts.

        The event has an `action` and a `key`: of a block, or the content hash of a picture. Both may be anything.
        """
        action, key = str(getattr(event, "action", "")), str(getattr(event, "key", ""))
        try:
            view.block = await self._apply(action, key, view.block, self._shared.caller(page))
        except EngineError as error:
            view.refusal = refusal(error)
        return await self.tick(view, page)

    async def _apply(self, action: str, key: str, opened: Json | None, caller: Caller) -> Json | None:
        """Do what the caller may do. Returns the details to show afterwards."""
        if action == "open":
            return await self._details(key, caller)
        if action == "clear" and caller.operator:
            await self._engine.cache.clear()
        elif action in FEATURE_CHANGES and caller.operator:
            for unit in await self._engine.cache.features():
                if any(part.sha256 == key for part in unit.media):
                    await self._engine.cache.change_features(FEATURE_CHANGES[action], unit.key)
            return opened
        elif action in CHANGES and caller.operator:
            blocks = await self._engine.cache.blocks(with_text=False)
            keys = [block.key for block in blocks if key in (block.key, *block.media)]
            refused = [block_key for block_key in keys if not await self._change(action, block_key)]
            if opened is None and not refused:
                return None
            return await self._details(opened["key"] if opened else refused[0], caller, t(IN_USE) if refused else "")
        return None

    async def _change(self, action: str, key: str) -> bool:
        """Whether the change took effect; also if the block was dropped together with another."""
        done = await self._engine.cache.change_block(action, key)  # type: ignore[arg-type]
        return done or await self._engine.cache.block(key) is None

    async def _details(self, key: str, caller: Caller, notice: str = "") -> Json | None:
        block = await self._engine.cache.block(key)
        if block is None or not caller.sees(block.tenant):
            return None
        return {**grid.details(block), "pictures": self._miniatures.urls(block.media), "notice": notice}

    async def check(self, view: CacheView, page: gr.Request, event: gr.EventData) -> list[Any]:
        """Compute a request again without the cache, and compare the answers. Inputs: view. Outputs: parts."""
        key, caller = str(getattr(event, "request", "")), self._shared.caller(page)
        visible = {record.id for record in self._engine.snapshot().recent if caller.sees(record.tenant)}
        if key in visible:
            try:
                view.verdicts[key] = verdict(await self._engine.replay(key))
            except EngineError as error:
                view.verdicts[key] = {"lamp": "unknown", "words": error.message, "sides": []}
        return await self.tick(view, page)


def totals(snapshot: Snapshot) -> Json:
    """The headline numbers: those of /v1/cache/stats in words. Pure."""
    stats = stats_json(snapshot.cache)
    disk = stats["disk"]
    tiles = [
        {
            "key": "reused",
            "name": t("Tokens reused"),
            "number": percent(stats["token_hit_rate"]),
            "words": t(
                "{saved} of {seen} prompt tokens were not computed again",
                saved=stats["tokens_saved"],
                seen=stats["tokens_seen"],
            ),
        },
        {
            "key": "prompts",
            "name": t("Prompts"),
            "number": number(stats["total_queries"]),
            "words": t(
                "{hits} reused the beginning of an earlier one · {pictures} a picture, {clips} a clip",
                hits=stats["hits"],
                pictures=stats["image_hits"],
                clips=stats["video_hits"],
            ),
        },
        {
            "key": "kept",
            "name": t("Prompts kept"),
            "number": size(stats["bytes"]["kv"] + stats["bytes"]["snapshots"]),
            "words": f"{_kept(stats)} · {t('at most {size}', size=size(stats['limits']['bytes']))}",
        },
        {
            "key": "features",
            "name": t("Pictures kept"),
            "number": size(stats["bytes"]["features"]),
            "words": " · ".join(
                [
                    tn(
                        "vision features of {count} picture or pair of frames",
                        "vision features of {count} pictures or pairs of frames",
                        stats["features"],
                    ),
                    tn("{count} encoder run saved", "{count} encoder runs saved", stats["encoder_runs_avoided"]),
                    t("at most {size}", size=size(stats["limits"]["feature_bytes"])),
                ]
            ),
        },
    ]
    wrong = stats["cache_mismatches"]
    tiles.append(
        {
            "key": "verified",
            "name": t("Checked"),
            "number": number(stats["cache_verified"]),
            "words": t("answers computed again without the cache · {wrong} differed", wrong=wrong),
        }
    )
    if disk["enabled"]:
        tiles.append(
            {
                "key": "disk",
                "name": t("On disk"),
                "number": size(disk["num_bytes"]),
                "words": " · ".join(
                    [
                        plural(disk["files"], "file"),
                        t("at most {size}", size=size(disk["max_bytes"])),
                        t("{count} read back", count=disk["hits"]),
                    ]
                ),
            }
        )
    return {"tiles": tiles, "note": why_nothing(snapshot)}


def _kept(stats: Json) -> str:
    words = t("{count} of {all} blocks", count=stats["blocks"], all=stats["limits"]["blocks"])
    return plural(stats["snapshots"], "snapshot") if stats["snapshots"] else words


def why_nothing(snapshot: Snapshot) -> str:
    """Why there is nothing to see; "" without a reason."""
    if snapshot.state in ("starting", "loading"):
        return t("The model is still loading.")
    if snapshot.state != "ready":
        return t("The engine does not run.")
    if snapshot.model is not None and snapshot.model.server:
        return t("{host} serves this model, and its cache is there.", host=snapshot.model.server)
    if not snapshot.cache.enabled:
        return t("The cache is switched off on this server, so every prompt is computed from its first token.")
    return ""


def family_note(snapshot: Snapshot) -> str:
    """What this model's family cannot store, and what is stored instead; "" where it stores blocks. Pure."""
    stats = snapshot.cache
    row = family(snapshot.model.model_type if snapshot.model else "")
    if not stats.enabled or (snapshot.model is not None and snapshot.model.server):
        return ""
    if row.whole_prompt:
        return t(
            "Prompts of this family cannot be kept: every token sees all that follow it, so none of what was "
            "computed serves another prompt. Each is computed from its first token."
        )
    notes = []
    if row.snapshots or stats.snapshots:
        count = plural(stats.snapshots, "snapshot")
        notes.append(
            t(
                "Models of this family cannot be kept in blocks. Whole prompts are kept instead, as they were "
                "after their last picture and at the end of a turn: {count}, {size}.",
                count=count,
                size=size(stats.snapshot_bytes),
            )
        )
    if snapshot.model is not None and snapshot.model.vision and not row.packed:
        notes.append(
            t(
                "Features are not kept apart from prompts: this family's encoder gets all pictures of a prompt as "
                "one, and the frames of a clip too. Where a prompt is gone, or a clip is sampled otherwise, all "
                "are encoded again."
            )
        )
    return " ".join(notes)
