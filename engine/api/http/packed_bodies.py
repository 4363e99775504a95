"""Bodies of requests that come packed (Content-Encoding): gzip is read, everything else is refused by its name.

What comes out of it is handed on in small pieces and counted like a body that was sent so: by engine.api.http.uploads
for all bodies together and by engine.api.http.guard for each. A small body that unpacks to gigabytes ends at those
limits.
https://www.rfc-editor.org/rfc/rfc9110#name-content-encoding
"""

from __future__ import annotations

import asyncio
import zlib

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.api.answering.failures import error_response
from engine.api.http.paths import METHODS
from engine.errors import BadRequest, UnsupportedEncoding

READ = ("gzip", "x-gzip")
GZIP_WINDOW = 16 + zlib.MAX_WBITS
PIECE_BYTES = 256 * 1024
"""Unpacked at a time, so that the event loop goes on in between."""


class PackedBodies:
    """Middleware for our own routes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        encodings = _encodings(scope) if METHODS in scope else []
        if not encodings:
            await self._app(scope, receive, send)
        elif len(encodings) == 1 and encodings[0] in READ:
            await self._app(_without_encoding(scope), GzipBody(receive).receive, send)
        else:
            why = f"Content-Encoding {', '.join(encodings)[:100]!r} is not read here; send gzip or nothing."
            response = error_response(UnsupportedEncoding(why, param="Content-Encoding"))
            response.headers["Accept-Encoding"] = "gzip"
            await response(scope, receive, send)


class GzipBody:
    """One body: takes the server's messages and gives those that the app would get of the unpacked body."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._unpacker = zlib.decompressobj(GZIP_WINDOW)
        self._packed = b""
        self._is_empty = True
        self._is_cut_off = False
        self._has_more = True
        self._is_over = False

    async def receive(self) -> Message:
        """The next piece. Raises BadRequest for what is not gzip, or ends too early."""
        if self._is_over:
            return await self._receive()
        while True:
            piece = self._unpack()
            if piece or not self._has_more:
                break
            message = await self._receive()
            if message["type"] != "http.request":
                return message
            self._packed += message.get("body", b"")
            self._is_empty = self._is_empty and not self._packed
            self._has_more = message.get("more_body", False)
        await asyncio.sleep(0)
        self._is_over = not piece
        if self._is_over and not self._is_empty and not self._unpacker.eof:
            raise _refusal("it ends too early")
        return {"type": "http.request", "body": piece, "more_body": not self._is_over}

    def _unpack(self) -> bytes:
        """At most PIECE_BYTES of what has come. A body may be several gzip members, one after the other.

        A piece that is full may have been cut off: zlib keeps the rest of it, perhaps with no input left to read.
        """
        while self._packed or (self._is_cut_off and not self._unpacker.eof):
            if self._unpacker.eof:
                self._unpacker = zlib.decompressobj(GZIP_WINDOW)
            try:
                piece = self._unpacker.decompress(self._packed, PIECE_BYTES)
            except zlib.error as error:
                raise _refusal("it is damaged, or no gzip at all") from error
            self._is_cut_off = len(piece) == PIECE_BYTES
            self._packed = self._unpacker.unused_data if self._unpacker.eof else self._unpacker.unconsumed_tail
            if piece:
                return piece
        return b""


def _encodings(scope: Scope) -> list[str]:
    """Names in Content-Encoding, in lower case and in the order in which they were applied; "identity" is none."""
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"content-encoding"]
    names = [name.strip().lower() for value in values for name in value.split(",")]
    return [name for name in names if name not in ("", "identity")]


def _without_encoding(scope: Scope) -> Scope:
    """What is said of the packed body is not true of the unpacked one."""
    copy = {**scope, "headers": list(scope["headers"])}
    headers = MutableHeaders(scope=copy)
    del headers["content-encoding"]
    del headers["content-length"]
    return copy


def _refusal(why: str) -> BadRequest:
    return BadRequest(f"The gzip body could not be unpacked: {why}.", param="Content-Encoding", code="invalid_encoding")
