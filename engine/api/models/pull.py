"""POST /v1/models/pull: download a model of the hub, with its progress as lines of JSON.

The lines are those of Ollama's /api/pull, so that its clients can read them; file, speed and time left are ours:
https://github.com/ollama/ollama/blob/main/docs/api.md#pull-a-model

    {"status": "pulling manifest"}
    {"status": "pulling model.safetensors", "digest": "org/name", "total": 4096, "completed": 1024, "file": …}
    {"status": "verifying sha256 digest", …}
    {"status": "success"}                        or {"error": "…", "code": "…"}

The last client that goes away pauses a download that a request began; what has arrived is kept, and the next request
goes on with it. One that was begun on the page goes on.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from engine.access.visibility import check_manages_models
from engine.api.answering.sse import JSON_LINES, EventStream, unless_gone
from engine.api.http.guard import CLIENT_CLOSED, guarded_route
from engine.config import ServerConfig
from engine.core import Engine
from engine.errors import ModelNotFound, Unavailable
from engine.hub.download import DownloadState
from engine.types import Json

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
    readers = _Readers(engine)

    @router.post("/models/pull", summary="Download a model of the hub; lines of JSON tell how far it is")
    async def pull(body: PullRequest, http: Request) -> Response:
        check_manages_models(config, http.state.caller)
        readers.begin(body.model, body.revision)
        if body.stream:
            return EventStream(_lines(readers, body.model), media_type=JSON_LINES.media_type)
        state = await unless_gone(_ended(readers, body.model), http.receive)
        return Response(status_code=CLIENT_CLOSED) if state is None else JSONResponse(_end(state))

    return router


class _Readers:
    """The requests that follow downloads. Event loop only."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._num_readers: Counter[str] = Counter()
        self._begun: set[str] = set()
        """Downloads that a request began."""

    def begin(self, repo: str, revision: str | None) -> None:
        """Download a model, or follow the download that is on its way."""
        if not any(one.repo == repo and one.is_running for one in self._engine.shelf.downloads):
            self._begun.add(repo)
        self._engine.shelf.pull(repo, revision)

    def state(self, repo: str) -> DownloadState:
        return self._engine.shelf.download(repo)

    async def states(self, repo: str) -> AsyncGenerator[DownloadState, None]:
        """The state whenever it has changed, until it has ended."""
        told: DownloadState | None = None
        self._num_readers[repo] += 1
        try:
            while (state := self.state(repo)).is_running:
                if state != told:
                    told = state
                    yield state
                await asyncio.sleep(PERIOD_S)
        finally:
            self._leave(repo)

    def _leave(self, repo: str) -> None:
        self._num_readers[repo] -= 1
        if self._num_readers[repo]:
            return
        del self._num_readers[repo]
        if repo in self._begun:
            self._begun.discard(repo)
            if any(one.repo == repo and one.is_running for one in self._engine.shelf.downloads):
                self._engine.shelf.change("pause", repo)


async def _ended(readers: _Readers, repo: str) -> DownloadState:
    async with aclosing(readers.states(repo)) as states:
        async for _ in states:
            pass
    return readers.state(repo)


async def _lines(readers: _Readers, repo: str) -> AsyncIterator[str]:
    try:
        async with aclosing(readers.states(repo)) as states:
            async for state in states:
                yield JSON_LINES.write("", progress_json(state))
        last = _end(readers.state(repo))
    except (ModelNotFound, Unavailable) as error:  # ModelNotFound: its download was forgotten on the page meanwhile
        last = {"error": error.message, "code": error.code}
    yield JSON_LINES.write("", last)


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
