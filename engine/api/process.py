"""The process of the server, for its operator: the last lines of its log, how it stands, and a restart."""

from __future__ import annotations

import os
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from engine.access.visibility import check_runs_server
from engine.api.http.guard import guarded_route
from engine.config import ServerConfig
from engine.core import Engine
from engine.log_ring import MAX_LINES, LogRing
from engine.own_process import OBSTACLES, OwnProcess
from engine.types import Json

LARGEST_ID = 2**53
"""JavaScript counts no further in whole numbers."""


class LogFilters(BaseModel):
    """Which lines: the first ones after an id that was given before, or the last ones; level: the least of them."""

    model_config = ConfigDict(extra="forbid")

    after: int | None = Field(None, ge=0, le=LARGEST_ID)
    limit: int = Field(MAX_LINES, ge=1, le=MAX_LINES)
    level: Literal["debug", "info", "warning", "error"] = "debug"


def process_router(engine: Engine, config: ServerConfig, process: OwnProcess) -> APIRouter:
    """/v1/logs and /v1/server."""
    router = APIRouter(prefix="/v1", tags=["Server"], route_class=guarded_route(config))

    @router.get("/logs", summary="The last lines of the server's log, for its operator")
    async def logs(http: Request, asked: Annotated[LogFilters, Query()]) -> Json:
        check_runs_server(config, http.state.caller)
        return log_json(process.log, asked)

    @router.get("/server", summary="How its process stands, and whether it can be restarted")
    async def server(http: Request) -> Json:
        check_runs_server(config, http.state.caller)
        return process_json(engine, config, process)

    @router.post("/server/restart", summary="Let running answers come to their end, then start the server anew")
    async def restart(http: Request) -> Json:
        check_runs_server(config, http.state.caller)
        return await restarted(engine, config, process)

    return router


def log_json(log: LogRing, asked: LogFilters) -> Json:
    """Lines, the oldest first. level: of the least that the server writes; num_gone: how many lines made room."""
    lines, has_more = log.lines(asked.after, asked.limit, asked.level)
    data = [
        {"id": line.id, "created": line.created_s, "level": line.level, "logger": line.logger, "text": line.text}
        for line in lines
    ]
    return {"object": "list", "data": data, "has_more": has_more, "level": log.level_name, "num_gone": log.num_gone}


def process_json(engine: Engine, config: ServerConfig, process: OwnProcess) -> Json:
    """started: in seconds since 1970; running: requests that have not ended. Of the restart: how it is done (None where
    it is not, and obstacle says why), whether it was asked for, how long running answers may go on, and whether a
    public link gets another address."""
    restart = process.restart
    return {
        "pid": os.getpid(),
        "started": round(process.started_s, 3),
        "running": engine.num_open,
        "restart": {
            "how": restart.how,
            "obstacle": restart.obstacle or None,
            "why_not": OBSTACLES.get(restart.obstacle),
            "asked": restart.is_asked,
            "wait_seconds": config.shutdown_s,
            "changes_link": config.public_link,
        },
    }


async def restarted(engine: Engine, config: ServerConfig, process: OwnProcess) -> Json:
    """Ask for a restart, and say how the process stands. Nothing changes where it was asked for already. Raises
    Conflict where it cannot be done, and Unavailable where the server is shutting down."""
    restart = process.restart
    if not restart.is_asked:
        if (draining := engine.draining) is not None:
            raise draining
        await restart.ask(process.log.redacted)
    return process_json(engine, config, process)
