"""The Requests tab draws itself (requests/requests.js) from its own events (workbench.requests.live).

What it asks for: a pass for these events, who ran while a request waited, and the table as CSV.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from engine.access.visibility import visible_requests
from engine.errors import BadRequest
from engine.request_log.form import summary_json, whole_json
from engine.request_log.log import unknown_request
from engine.types import Json
from workbench.components import asking
from workbench.language import catalogued
from workbench.requests import table
from workbench.requests.live import Passes
from workbench.shared import Shared

if TYPE_CHECKING:
    from engine.core import Engine

NAME = catalogued("Requests")
MAX_IDS = 10_000


def build(engine: Engine, shared: Shared, passes: Passes) -> RequestsTab:
    """Lay out the tab inside the Tab context of the caller."""
    return RequestsTab(engine, shared, passes)


class RequestsTab:
    """The component of the tab and what it is answered."""

    def __init__(self, engine: Engine, shared: Shared, passes: Passes) -> None:
        self._engine = engine
        self._shared = shared
        self._passes = passes
        setup = {"isOn": engine.requests.is_on}
        answers = {"enter": self._enter, "waits": self._waits, "csv": self._csv}
        with gr.Column(elem_id="requests"):
            self.view = asking("Requests", setup, answers)

    async def _enter(self, fields: Json, page: gr.Request) -> Json:
        return {"pass": self._passes.give(self._shared.caller(page))}

    async def _waits(self, fields: Json, page: gr.Request) -> Json:
        who, log = self._shared.caller(page), self._engine.requests
        found = visible_requests([log.find(str(fields.get("id")))], who)
        if not found:
            raise unknown_request(str(fields.get("id")))
        whole = await self._engine.aside(lambda: whole_json(log, found[0], who))
        return {"id": found[0].id, "waits": whole["waits"]}

    async def _csv(self, fields: Json, page: gr.Request) -> Json:
        """fields: the ids of the rows that are shown."""
        ids = fields.get("ids")
        if not isinstance(ids, list) or len(ids) > MAX_IDS:
            raise BadRequest(f"ids: a list of at most {MAX_IDS:,} is needed.", param="ids")
        log, wanted = self._engine.requests, set(map(str, ids))
        records = visible_requests(log.records(), self._shared.caller(page))
        return {"csv": table.csv(summary_json(log, record) for record in records if record.id in wanted)}
