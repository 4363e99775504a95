"""The plain routes of the Batch tab. Who sees what: engine.access.visibility, through BatchDesk.

As with all routes of the page, what changes something asks for a header that only our own page can send
(workbench.conversations.routes).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Literal

from fastapi import APIRouter, FastAPI, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from engine.batch_run.question_table import read_csv
from engine.config import ServerConfig
from engine.errors import ModelNotFound
from engine.types import Json
from workbench.batch.desk import BatchDesk, RunOwner
from workbench.batch.form import RunForm
from workbench.batch.table import RowView
from workbench.conversations.routes import PageLogin, visitor_of, whole_body
from workbench.language import t

ExportForm = Literal["jsonl", "csv", "parquet", "coco.json"]
EXPORTS: dict[ExportForm, str] = {
    "jsonl": "application/jsonl",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "coco.json": "application/json",
}
MAX_ANSWER_CHARS = 1_000_000


class NewRun(BaseModel):
    """like: a run whose files the new one has."""

    like: str = Field(default="", max_length=64)


class EditedAnswer(BaseModel):
    """question: which one of decisions, from 0."""

    answer: str = Field(max_length=MAX_ANSWER_CHARS)
    question: int | None = None


class QuestionTable(BaseModel):
    csv: str


def batch_routes(desk: BatchDesk, config: ServerConfig, login: PageLogin) -> APIRouter:
    """Every route below /workbench/runs. The desk is closed when the server ends."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await desk.close()

    router = APIRouter(prefix="/workbench/runs", include_in_schema=False, lifespan=lifespan)

    def asks(request: Request) -> RunOwner:
        return desk.owner(login.name(request), visitor_of(request))

    router.include_router(_row_routes(desk, asks))

    @router.get("")
    async def runs(request: Request) -> Json:
        mine = asks(request)
        limits = desk.limits(mine)
        more = {"may_name_folders": mine.may_name_folders, "max_rows": limits.rows, "max_bytes": limits.num_bytes}
        return {**desk.news(mine.name)["runs"], **more}

    @router.post("")
    async def new(request: Request, wanted: NewRun) -> Json:
        mine = asks(request)
        run = await desk.new(mine, wanted.like)
        return {"id": run.kept.id, "num_files": run.folder.num_files, "num_bytes": run.folder.num_bytes}

    @router.post("/questions")
    async def questions(request: Request, table: QuestionTable) -> Json:
        asks(request)
        return {"rows": read_csv(table.csv)}

    @router.put("/{run}/files")
    async def add(request: Request, run: str, path: str) -> Json:
        mine = asks(request)
        wanted = desk.find(mine, run)
        data = await whole_body(request, config.max_upload_bytes)
        return {"name": await desk.add_file(mine, wanted, path, data)}

    @router.post("/{run}/begin")
    async def begin(request: Request, run: str, form: RunForm) -> Json:
        mine = asks(request)
        wanted = desk.find(mine, run)
        await desk.begin(mine, wanted, form)
        return wanted.status()

    @router.post("/{run}/{action}")
    async def act(request: Request, run: str, action: Literal["pause", "stop", "resume", "retry"]) -> Json:
        mine = asks(request)
        wanted = desk.find(mine, run)
        if action == "pause":
            wanted.pause()
        elif action == "stop":
            await wanted.stop()
        else:
            await desk.go_on(mine, wanted, failed=action == "retry")
        return wanted.status()

    @router.delete("/{run}")
    async def delete(request: Request, run: str) -> Json:
        mine = asks(request)
        await desk.delete(desk.find(mine, run))
        return {"deleted": run}

    @router.get("/{run}/form")
    async def form_of(request: Request, run: str) -> Json:
        mine = asks(request)
        return desk.find(mine, run).kept.form

    return router


def _row_routes(desk: BatchDesk, asks: Callable[[Request], RunOwner]) -> APIRouter:
    """What is known of a run's rows."""
    router = APIRouter()

    @router.get("/{run}/rows")
    async def rows(request: Request, run: str, view: Annotated[RowView, Query()]) -> Json:
        mine = asks(request)
        wanted = desk.find(mine, run)
        await wanted.open()
        return {**wanted.table.page(view), "status": wanted.status()}

    @router.get("/{run}/rows/{place}")
    async def row(request: Request, run: str, place: int) -> Json:
        mine = asks(request)
        return await desk.find(mine, run).row(place)

    @router.patch("/{run}/rows/{place}")
    async def edit(request: Request, run: str, place: int, wanted: EditedAnswer) -> Json:
        mine = asks(request)
        return await desk.find(mine, run).edit(place, wanted.answer, wanted.question)

    @router.get("/{run}/pictures/{sha256}")
    async def picture(request: Request, run: str, sha256: str) -> Response:
        mine = asks(request)
        data = desk.find(mine, run).folder.picture(sha256)
        if data is None:
            raise ModelNotFound(t("There is no such picture."), code="picture_not_found")
        return Response(data, media_type="image/png", headers={"Cache-Control": "private, max-age=86400, immutable"})

    @router.get("/{run}/export.{suffix}")
    async def take_away(request: Request, run: str, suffix: ExportForm) -> Response:
        mine = asks(request)
        body = await desk.find(mine, run).export(suffix)
        disposition = f'attachment; filename="rows.{suffix}"'
        return Response(body, media_type=EXPORTS[suffix], headers={"Content-Disposition": disposition})

    return router
