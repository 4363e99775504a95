"""What the Requests tab of one open page is told, as server-sent events. Event loop only.

A page that shows the tab gets a pass from a component of Gradio's, which knows who asks, and reads the events with it.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from engine.access.visibility import Caller, visible_requests
from engine.bounded import BoundedCache
from engine.errors import Unauthorized
from engine.request_log.form import summary_json

if TYPE_CHECKING:
    from engine.core import Engine

LOOK_S = 0.05
PERIOD_S = 0.2
"""How often a page is told of what runs, at most."""

BEAT_S = 1.0
MAX_PASSES = 4096


class Passes:
    """Who may read which events. A pass is a secret of the page that asked for it; it ends with this process."""

    def __init__(self) -> None:
        self._callers: BoundedCache[str, Caller] = BoundedCache(MAX_PASSES, float("inf"), lambda who: 0)

    def give(self, who: Caller) -> str:
        """A new pass."""
        name = secrets.token_urlsafe(24)
        self._callers.put(name, who)
        return name

    def caller(self, name: str) -> Caller:
        """Whose pass it is. Raises Unauthorized for one that was not given, or was forgotten."""
        who = self._callers.get(name)
        if who is None:
            raise Unauthorized("This page has no pass for these events. It asks for one when the tab is opened.")
        return who


async def events(engine: Engine, who: Caller) -> AsyncIterator[str]:
    """What `who` may see, first all of it, then what has changed, until the page goes away or the server ends.

    {"now": s since 1970, "rows": requests as GET /v1/requests lists them, "kept": ids of all, the newest first}; kept
    is there when the list has changed.
    """
    log, told, told_s = engine.requests, -1, 0.0
    while not engine.is_draining and engine.snapshot().state != "stopped":
        now_s = time.monotonic()
        number, records = log.number, None
        if number != told or now_s - told_s >= PERIOD_S:
            records = visible_requests(log.records(), who)
            changed = [record for record in records if record.changed > told or not record.has_ended]
            if changed or number != told:
                kept = {"kept": [record.id for record in records]} if number != told else {}
                rows = [summary_json(log, record) for record in changed]
                yield f"data: {json.dumps({'now': time.time(), 'rows': rows, **kept}, ensure_ascii=False)}\n\n"
                told, told_s = number, now_s
            elif now_s - told_s >= BEAT_S:
                yield ": nothing new\n\n"
                told_s = now_s
        await asyncio.sleep(LOOK_S if told_s + PERIOD_S > now_s else PERIOD_S)
