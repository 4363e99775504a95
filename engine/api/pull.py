"""POST /v1/models/pull: download a model of the hub, with its progress as lines of JSON.

The lines are those of Ollama's /api/pull, so that its clients can read them; file, speed and time left are ours:
https://github.com/ollama/ollama/blob/main/docs/api.md#pull-a-model

    {"status": "pulling manifest"}
    {"status": "pulling model.safetensors", "digest": "org/name", "total": 4096, "completed": 1024, "file": …}
    {"status": "verifying sha256 digest", …}
    {"status": "success"}                        or {"error": "…", "code": "…"}

A client that goes away pauses the download; what has arrived is kept, and the next request goes on with it. A download
that somebody else began (on the page, or in another request) goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from engine.access.visibility import manages_models
from engine.api.guard import CLIENT_CLOSED, guarded_route
from engine.api.http.lines import one_line
from engine.api.sse import EventStream, unless_gone
from engine.config import ServerConfig
from engine.core import Engine
from engine.errors import Forbidden, Unavailable
from engine.hub.download import DownloadState
from engine.types import Json

NDJSON = "application/x-ndjson"
PERIOD_S = 0.25
"""How often progress is looked at."""


class PullRequest(BaseModel):
    """model: a hub id (org/name); revision: a branch, tag or commit; stream: lines of progress, or the end alone."""

    model: str = Field(max_length=200)
    revision: str | None = Field(default=None, max_length=200)
    stream: bool = True


def pull_router(engine: Engine, config: ServerConfig) -> APIRouter:
    """The route. For whoever manages the models of this server (engine.access)."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"], route_class=guarded_route(config))

    @router.post("/models/pull", summary="Download a model of the hub; lines of JSON tell how far it is")
    async def pull(body: PullRequest, http: Request) -> Response:
        if not manages_models(config, http.state.caller):
            raise Forbidden("Only the operator of this server may download models.")
        is_mine = not any(one.repo == body.model and one.is_running for one in engine.shelf.downloads)
        engine.shelf.pull(body.model, body.revision)
        if body.stream:
            return EventStream(_lines(engine, body.model, is_mine), media_type=NDJSON)
        state = await unless_gone(_ended(engine, body.model, is_mine), http.receive)
        return Response(status_code=CLIENT_CLOSED) if state is None else JSONResponse(_end(state))

    return router


async def _states(engine: Engine, repo: str, is_mine: bool) -> AsyncGenerator[DownloadState, None]:
    """The state whenever it has changed, until it has ended. Paused, where it is mine, if nobody reads on."""
    told: DownloadState | None = None
    try:
        while (state := engine.shelf.download(repo)).is_running:
            if state != told:
                told = state
                yield state
            await asyncio.sleep(PERIOD_S)
    finally:
        if is_mine and engine.shelf.download(repo).is_running:
            engine.shelf.change("pause", repo)


async def _ended(engine: Engine, repo: str, is_mine: bool) -> DownloadState:
    async with aclosing(_states(engine, repo, is_mine)) as states:
        async for _ in states:
            pass
    return engine.shelf.download(repo)


async def _lines(engine: Engine, repo: str, is_mine: bool) -> AsyncIterator[str]:
    async with aclosing(_states(engine, repo, is_mine)) as states:
        async for state in states:
            yield f"{one_line(progress_json(state))}\n"
    state = engine.shelf.download(repo)
    last = {"status": "success"} if state.stage == "done" else {"error": _why(state).message, "code": _why(state).code}
    yield f"{one_line(last)}\n"


def progress_json(state: DownloadState) -> Json:
    """One line. left_s: None while nothing moves."""
    if state.stage in ("waiting", "asking"):
        return {"status": "pulling manifest"}
    status = "verifying sha256 digest" if state.stage == "checking" else f"pulling {state.file}"
    return {
        "status": status,
        "digest": state.repo,
        "total": state.total_bytes,
        "completed": state.done_bytes,
        "file": state.file,
        "bytes_per_s": round(state.speed_bytes_s),
        "left_s": None if state.left_s is None else round(state.left_s, 1),
    }


def _end(state: DownloadState) -> Json:
    """The whole answer. Raises Unavailable with the reason."""
    if state.stage != "done":
        raise _why(state)
    return {"status": "success"}


def _why(state: DownloadState) -> Unavailable:
    """What kept a download from its end."""
    if state.error:
        return Unavailable(state.error, code=state.error_code)
    return Unavailable(f"The download was {state.stage}. Ask again to go on with it.", code="download_stopped")
