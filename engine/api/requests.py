"""The routes of the request log: the last requests as a list, and one of them whole, as a text that sends it again,
or as a zip.

The operator sees all, everybody else what they sent themselves (engine.access.visibility).
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import PlainTextResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from engine.access.visibility import Caller, visible_requests
from engine.api.http.guard import guarded_route
from engine.config import ServerConfig
from engine.core import Engine
from engine.request_log.archive import packed
from engine.request_log.body import request_body
from engine.request_log.copied import CopyForm, copied
from engine.request_log.form import summary_json
from engine.request_log.log import unknown_request
from engine.request_log.record import LoggedRequest, RequestStatus
from engine.types import Json

MAX_LISTED = 10_000
ZIP: Any = {200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}}


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

    @router.get(
        "/{request_id}/zip",
        responses=ZIP,
        response_class=Response,
        summary="The same as a zip with its media, for vllm-mlx replay",
    )
    async def zipped(request_id: str, http: Request) -> Response:
        record = visible_record_of(engine, request_id, http.state.caller)
        return zip_response(record.id, await zip_of(engine, record))

    @router.get(
        "/{request_id}/as/{form}", response_class=PlainTextResponse, summary="The same as a text that sends it again"
    )
    async def as_text(request_id: str, form: CopyForm, http: Request) -> Response:
        record = visible_record_of(engine, request_id, http.state.caller)
        text = await copy_of(engine, record, form, f"{str(http.base_url).rstrip('/')}/v1")
        return PlainTextResponse(text)

    return router


async def zip_of(engine: Engine, record: LoggedRequest) -> bytes:
    """A request as a zip, which tells nothing of others, whoever makes it: it is made to be passed on. Raises Conflict
    for one that cannot be sent again."""
    whole = await engine.logged(record, Caller(record.owner, operator=False))
    return await engine.aside(lambda: packed(request_body(engine.requests, record), whole))


def zip_response(request_id: str, content: bytes) -> Response:
    name = re.sub(r"[^A-Za-z0-9._-]", "_", request_id)[:100]
    headers = {"Content-Disposition": f'attachment; filename="request-{name}.zip"'}
    return Response(content, headers=headers, media_type="application/zip")


async def copy_of(engine: Engine, record: LoggedRequest, form: str, base_url: str) -> str:
    """A request as a text that sends it again (engine.request_log.copied)."""
    answer = (await engine.logged(record, Caller()))["answer"]

    def write() -> str:
        return copied(form, request_body(engine.requests, record), base_url, answer[0] if answer else None)

    return await engine.aside(write)


def visible_record_of(engine: Engine, request_id: str, who: Caller) -> LoggedRequest:
    """The record of this id. Raises ModelNotFound where there is none that `who` may see: they learn not which."""
    for record in visible_requests([engine.requests.find(request_id)], who):
        return record
    raise unknown_request(request_id)
