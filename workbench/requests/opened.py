"""One request opened: all that is known of it, as workbench/requests/opened.js draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.access.visibility import Caller
from engine.request_log.record import LoggedRequest
from engine.types import Done, Json, MediaReceipt, Record
from workbench.cache.strips import strip
from workbench.chat.receipts import receipt
from workbench.miniatures import data_urls

if TYPE_CHECKING:
    from engine.core import Engine

MAX_FRAMES = 64
"""Of one clip, that are shown."""


async def opened(engine: Engine, record: LoggedRequest, who: Caller) -> Json:
    """whole: as GET /v1/requests/ID. receipt, strip: as the chat and the Cache tab draw them; None where there is none.
    seen: for each receipt, its pictures as data: URLs. pictures: the first of them, by content. named: by the part."""
    whole = await engine.logged(record, who)
    done, receipts = record.done, record.done.media if record.done else ()
    seen = [await data_urls(_frames(engine, one)) for one in receipts]
    first = {one.sha256: urls[0] for one, urls in zip(receipts, seen, strict=True) if urls}
    return {
        "whole": whole,
        "receipt": receipt(receipts, len(receipts)),
        "seen": seen,
        "pictures": first,
        "named": {one.param: first[one.sha256] for one in receipts if one.sha256 in first},
        "strip": _strip(record, done, who) if done and done.trace else None,
    }


def _frames(engine: Engine, one: MediaReceipt) -> Sequence[bytes]:
    places: Sequence[int | None] = range(min(len(one.frames), MAX_FRAMES)) or [None]
    found = (engine.thumbnail(one.sha256, place) for place in places)
    return [picture for picture in found if picture is not None]


def _strip(record: LoggedRequest, done: Done, who: Caller) -> Json:
    """What other prompts had is for the operator."""
    trace = done.trace and replace(done.trace, other=done.trace.other if who.operator else "")
    ended_s = record.created_s + record.clock.elapsed_s
    shown = replace(done, trace=trace)
    return strip(Record(record.id, record.request.source, None, ended_s, shown, tenant=record.tenant), who)
