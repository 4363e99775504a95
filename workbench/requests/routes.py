"""The plain routes of the Requests tab: its events, a request as a zip, and the script that draws the axis."""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import plotly
from fastapi import APIRouter, Request
from starlette.responses import Response

from engine.api.answering.sse import EventStream
from engine.api.requests import visible_record_of, zip_of, zip_response
from workbench.requests.live import Passes, events

if TYPE_CHECKING:
    from engine.core import Engine


def request_routes(engine: Engine, passes: Passes) -> APIRouter:
    """Below /workbench of the page's router."""
    router = APIRouter(prefix="/workbench", include_in_schema=False)

    @router.get("/requests/live")
    async def live(of: str = "") -> Response:
        return EventStream(events(engine, passes.caller(of)))

    @router.get("/requests/zip")
    async def zipped(of: str = "", id: str = "") -> Response:
        record = visible_record_of(engine, id, passes.caller(of))
        return zip_response(record.id, await zip_of(engine, record))

    @router.get("/plotly.js")
    def script(request: Request) -> Response:
        packed = "gzip" in request.headers.get("accept-encoding", "")
        headers = {"Cache-Control": "max-age=86400", "Vary": "Accept-Encoding"}
        headers |= {"Content-Encoding": "gzip"} if packed else {}
        return Response(plotly_script(packed=packed), headers=headers, media_type="text/javascript")

    return router


@cache
def plotly_script(*, packed: bool) -> bytes:
    """plotly.js, as the plotly package brings it. Blocks."""
    text = (Path(plotly.__file__).parent / "package_data" / "plotly.min.js").read_bytes()
    return gzip.compress(text, 6) if packed else text
