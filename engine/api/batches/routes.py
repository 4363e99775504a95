"""POST and GET of /v1/batches. https://platform.openai.com/docs/api-reference/batch"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Annotated

from fastapi import APIRouter, FastAPI, Query, Request

from engine.api.batches.asking import PATHS, endpoints
from engine.api.batches.schemas import BatchRequest
from engine.api.batches.store import BatchStore
from engine.api.batches.worker import BatchWorker, Kept
from engine.api.files.kept import KeptFolder
from engine.api.files.routes import files_router, page
from engine.api.files.store import INPUT, FileStore
from engine.api.http.guard import guarded_route
from engine.batch_run.runner import BatchPlaces
from engine.config import ServerConfig
from engine.core import Engine
from engine.errors import BadRequest, Conflict, ModelNotFound
from engine.types import Json


def batch_routers(
    engine: Engine, config: ServerConfig, asked: Sequence[APIRouter], places: BatchPlaces
) -> tuple[APIRouter, APIRouter]:
    """Files and batches. asked: the routers whose routes answer the requests of batches, in these places.

    What was begun before the server ended goes on when it starts."""
    kept = KeptFolder(config)
    files, batches = FileStore(config, kept), BatchStore(kept)
    working: list[BatchWorker] = []  # made on the server's loop, where its events belong

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        work = asyncio.create_task(worker().run())
        try:
            yield
        finally:
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work
            kept.release()

    def worker() -> BatchWorker:
        if not working:
            working.append(BatchWorker(engine, config, Kept(kept, files, batches), endpoints(asked), places))
        return working[0]

    router = APIRouter(prefix="/v1/batches", tags=["OpenAI"], route_class=guarded_route(config), lifespan=lifespan)

    @router.post("", summary="Answer a file of requests when there is room")
    async def create(body: BatchRequest, http: Request) -> Json:
        owner = kept.owner(http.state.caller)
        _check_endpoint(body.endpoint)
        try:
            file = files.find(owner, body.input_file_id)
        except ModelNotFound as error:
            param = "input_file_id"
            raise BadRequest(f"{param}: {error.message}", param=param, code="file_not_found") from error
        if file.purpose != INPUT:
            why = f"its purpose is {file.purpose}; a batch reads files of purpose {INPUT}"
            raise BadRequest(f"input_file_id: {why}.", param="input_file_id")
        batch = batches.add(owner, http.state.caller, body.endpoint, file.id, body.metadata)
        worker().notice()
        return batch.to_json()

    @router.get("", summary="The batches that are kept")
    async def listed(http: Request, limit: Annotated[int, Query(ge=1, le=100)] = 20, after: str | None = None) -> Json:
        mine = batches.of(kept.owner(http.state.caller))
        return page([batch.to_json() for batch in mine], limit, after, newest_first=True)

    @router.get("/{batch_id}", summary="How a batch stands")
    async def retrieve(batch_id: str, http: Request) -> Json:
        return batches.find(kept.owner(http.state.caller), batch_id).to_json()

    @router.post("/{batch_id}/cancel", summary="Ask no more of a batch's requests")
    async def cancel(batch_id: str, http: Request) -> Json:
        batch = batches.find(kept.owner(http.state.caller), batch_id)
        if batch.has_ended or batch.status == "finalizing":
            raise Conflict(f"The batch cannot be cancelled: it is {batch.status}.", code="batch_ended")
        if batch.status != "cancelling":
            worker().cancel(batch)
        return batch.to_json()

    return files_router(config, kept, files, batches.reader), router


def _check_endpoint(endpoint: str) -> None:
    """Raise BadRequest for a route whose requests a batch may not hold."""
    if endpoint not in PATHS:
        raise BadRequest(f"endpoint: it must be one of {', '.join(PATHS)}.", param="endpoint")
