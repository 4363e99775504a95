"""What the dialog asks for: the last lines of the log, and a restart. For the operator only (engine.access)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request

from engine.access.visibility import caller, check_runs_server
from engine.api.process import LogFilters, log_json, process_json, restarted
from engine.config import ServerConfig
from engine.own_process import OwnProcess
from engine.types import Json
from workbench.conversations.routes import PageLogin, visitor_of

if TYPE_CHECKING:
    from engine.core import Engine


def server_routes(engine: Engine, config: ServerConfig, login: PageLogin, process: OwnProcess) -> APIRouter:
    """Every route below /server of the page's router."""
    router = APIRouter(prefix="/server", include_in_schema=False)

    def check(request: Request) -> None:
        check_runs_server(config, caller(config, login.name(request), visitor_of(request)))

    @router.get("/log")
    async def log(request: Request, asked: Annotated[LogFilters, Query()]) -> Json:
        check(request)
        return log_json(process.log, asked)

    @router.post("/restart")
    async def restart(request: Request) -> Json:
        check(request)
        return await restarted(engine, config, process)

    return router


def server_news(engine: Engine, config: ServerConfig, process: OwnProcess, *, runs: bool) -> dict[str, Json]:
    """What a page is told, by kind of event. runs: see engine.access.visibility.runs_server; others hear nothing."""
    return {"server": process_json(engine, config, process)} if runs else {}
