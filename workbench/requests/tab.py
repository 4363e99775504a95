"""The Requests tab draws itself (requests/requests.js) from its own events (workbench.requests.live).

What it asks for: a pass for these events, who ran while a request waited, one request with all that is known of it, or
as a text that sends it again, and the table as CSV.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from engine.access.visibility import Caller, visible_requests
from engine.api.requests import copy_of, visible_record_of
from engine.errors import BadRequest
from engine.request_log.form import summary_json, whole_json
from engine.types import Json
from workbench.components import asking
from workbench.language import catalogued
from workbench.requests import table
from workbench.requests.live import Passes
from workbench.requests.opened import opened
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
        answers = {"enter": self._enter, "waits": self._waits, "csv": self._csv, "open": self._open, "copy": self._copy}
        with gr.Column(elem_id="requests"):
            self.view = asking("Requests", setup, answers)

    def _who(self, fields: Json, page: gr.Request) -> Caller:
        """fields: visitor, what the browser's tab calls itself."""
        return self._shared.caller(page, str(fields.get("visitor") or ""))

    async def _enter(self, fields: Json, page: gr.Request) -> Json:
        return {"pass": self._passes.give(self._who(fields, page))}

    async def _waits(self, fields: Json, page: gr.Request) -> Json:
        who, log = self._who(fields, page), self._engine.requests
        record = visible_record_of(self._engine, str(fields.get("id")), who)
        whole = await self._engine.aside(lambda: whole_json(log, record, who))
        return {"id": record.id, "waits": whole["waits"]}

    async def _open(self, fields: Json, page: gr.Request) -> Json:
        who = self._who(fields, page)
        return await opened(self._engine, visible_record_of(self._engine, str(fields.get("id")), who), who)

    async def _copy(self, fields: Json, page: gr.Request) -> Json:
        """fields: id, and the form of the text (engine.request_log.copied)."""
        record = visible_record_of(self._engine, str(fields.get("id")), self._who(fields, page))
        assert page.request is not None  # Gradio's own requests have one
        base_url = f"{str(page.request.base_url).rstrip('/')}/v1"
        return {"text": await copy_of(self._engine, record, str(fields.get("form")), base_url)}

    async def _csv(self, fields: Json, page: gr.Request) -> Json:
        """fields: the ids of the rows that are shown."""
        ids = fields.get("ids")
        if not isinstance(ids, list) or len(ids) > MAX_IDS:
            raise BadRequest(f"ids: a list of at most {MAX_IDS:,} is needed.", param="ids")
        log, wanted = self._engine.requests, set(map(str, ids))
        records = visible_requests(log.records(), self._who(fields, page))
        return {"csv": table.csv(summary_json(log, record) for record in records if record.id in wanted)}
