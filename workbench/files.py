"""What the page loads beside itself: its own script and style, and Gradio's. Packed once, and kept by browsers.

Gradio packs each of its files anew for each page that opens, and lets browsers ask for all of them again. Its own way
to give a page a script and a style (`head`) writes them into the page, which every visit then loads and compiles anew.
"""

from __future__ import annotations

import gzip
import mimetypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import gradio as gr
from fastapi import APIRouter, Request
from starlette.responses import FileResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workbench import theme

FOR_EVER = {"Cache-Control": "public, max-age=31536000, immutable"}
"""For an address that never has another content. https://www.rfc-editor.org/rfc/rfc8246"""

ANEW = {"Cache-Control": "no-cache"}
PACKED = (".js", ".css", ".svg")
"""Of Gradio's files; its fonts are packed already."""

SCRIPT, STYLE = "workbench/page.js", "workbench/page.css"
"""Relative, so that they hold behind any --root-path."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A text as it is sent: packed, unless the browser does not take that."""

    packed: bytes
    media_type: str

    def response(self, request: Request, headers: dict[str, str]) -> Response:
        headers = {"Vary": "Accept-Encoding", **headers}
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return Response(gzip.decompress(self.packed), media_type=self.media_type, headers=headers)
        return Response(self.packed, media_type=self.media_type, headers={"Content-Encoding": "gzip", **headers})


def packed(content: bytes, media_type: str) -> Packed:
    return Packed(gzip.compress(content, mtime=0), media_type)


def head() -> str:
    """For Gradio's `head`: it adds this once its own style is there, which ours changes."""
    return f'{theme.ICON}<link rel="stylesheet" href="{STYLE}?v={theme.version()}">'


def early() -> bytes:
    """Stands in the page before Gradio's script: when that begins to draw, ours has run and the style is there."""
    script = f'<script defer src="{SCRIPT}?v={theme.version()}"></script>'
    return f'<link rel="stylesheet" href="{STYLE}?v={theme.version()}">{script}'.encode()


def file_routes() -> APIRouter:
    """Below /workbench the page's own script and style, and /assets in Gradio's place. Nobody has to log in. Threads of
    the pool answer: packing a large file would hold the event loop."""
    router = APIRouter(include_in_schema=False)
    folder = Path(gr.__file__).parent / "templates" / "frontend" / "assets"
    names = {path.name for path in folder.iterdir()}

    @router.get("/workbench/page.js")
    def script(request: Request, v: str = "") -> Response:
        return _script().response(request, FOR_EVER if v == theme.version() else ANEW)

    @router.get("/workbench/page.css")
    def style(request: Request, v: str = "") -> Response:
        return _style().response(request, FOR_EVER if v == theme.version() else ANEW)

    @cache
    def of_gradio(name: str) -> Packed:
        return packed((folder / name).read_bytes(), _media_type(name))

    @router.get("/assets/{name}")
    def asset(request: Request, name: str) -> Response:
        """The names hold a digest of the content."""
        if name not in names:
            return Response(status_code=404)
        if name.endswith(PACKED):
            return of_gradio(name).response(request, FOR_EVER)
        return FileResponse(folder / name, headers=FOR_EVER)

    return router


@cache
def _script() -> Packed:
    return packed(theme.page_script().encode(), "text/javascript")


@cache
def _style() -> Packed:
    return packed(theme.style().encode(), "text/css")


def _media_type(name: str) -> str:
    return {".js": "text/javascript", ".css": "text/css"}.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or ""


class EarlyFiles:
    """Around Gradio: puts `early` into its page, before the first script."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        start: Message = {}
        parts: list[bytes] = []

        async def with_files(message: Message) -> None:
            if message["type"] == "http.response.start" and _is_page(message):
                start.update(message)
            elif start and message["type"] == "http.response.body":
                parts.append(message.get("body", b""))
                if not message.get("more_body"):
                    body = b"".join(parts).replace(b"<script", early() + b"<script", 1)
                    others = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
                    start["headers"] = [*others, (b"content-length", str(len(body)).encode())]
                    await send(start)
                    await send({"type": "http.response.body", "body": body})
            else:
                await send(message)

        await self._app(scope, receive, with_files)


def _is_page(start: Message) -> bool:
    return any(name.lower() == b"content-type" and value.startswith(b"text/html") for name, value in start["headers"])
