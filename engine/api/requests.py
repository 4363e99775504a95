"""The routes of the request log: the last requests as a list, and one of them whole.

The operator sees all, everybody else what they sent themselves (engine.access.visibility).
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from engine.access.visibility import Caller, visible_requests
from engine.api.guard import guarded_route
from engine.config import ServerConfig
from engine.core import Engine
from engine.request_log.form import summary_json
from engine.request_log.log import unknown_request
from engine.request_log.record import LoggedRequest, RequestStatus
from engine.types import Json

MAX_LISTED = 10_000


class RequestFilters(BaseModel):
    """What is listed; "" is any. key: the name of the key or login that it came with."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(100, ge=1, le=MAX_LISTED)
    source: str = ""
    model: str = ""
    key: str = ""
    status: RequestStatus | None = None

    def let_through(self, record: LoggedRequest) -> bool:
        request = record.request
        pairs = (
            (self.source, request.source),
            (self.model, request.model),
            (self.key, record.owner),
            (self.status, record.status),
        )
        return all(not wanted or wanted == found for wanted, found in pairs)


def requests_router(engine: Engine, config: ServerConfig) -> APIRouter:
    """/v1/requests."""
    router = APIRouter(prefix="/v1/requests", tags=["Requests"], route_class=guarded_route(config))

    @router.get("", summary="The last requests, the newest first, with where the time of each went")
    async def listed(http: Request, asked: Annotated[RequestFilters, Query()]) -> Json:
        log = engine.requests
        found = [record for record in visible_requests(log.records(), http.state.caller) if asked.let_through(record)]
        data = [summary_json(log, record) for record in found[: asked.limit]]
        return {"object": "list", "data": data, "has_more": len(found) > asked.limit}

    @router.get("/{request_id}", summary="One of the last requests, with all that is known of it")
    async def one(request_id: str, http: Request) -> Json:
        who: Caller = http.state.caller
        return await engine.logged(visible_record_of(engine, request_id, who), who)

    return router


def visible_record_of(engine: Engine, request_id: str, who: Caller) -> LoggedRequest:
    """The record of this id. Raises ModelNotFound where there is none that `who` may see: they learn not which."""
    for record in visible_requests([engine.requests.find(request_id)], who):
        return record
    raise unknown_request(request_id)
