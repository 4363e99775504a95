"""The plain route of the Compare tab: what its columns write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter
from starlette.responses import Response

from engine.api.answering.sse import EventStream
from workbench.compare.tab import Comparisons

if TYPE_CHECKING:
    from engine.core import Engine


def compare_routes(engine: Engine, comparisons: Comparisons) -> APIRouter:
    """Below /workbench of the page's router. The name of a comparison is a secret of the page that asked for it."""
    router = APIRouter(prefix="/workbench", include_in_schema=False)

    @router.get("/compare/{name}")
    async def read(name: str) -> Response:
        return EventStream(comparisons.find(name).lines(engine), media_type="application/x-ndjson")

    return router
