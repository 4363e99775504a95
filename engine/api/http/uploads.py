"""Bodies on their way in, of every route and of the page: one that stalls is ended, and all together have a bound.

What one body may have in bytes is checked where it is read: engine.api.http.guard, and Gradio for the page's files.
"""

from __future__ import annotations

import asyncio
import time

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.api.answering.failures import error_response
from engine.config import ServerConfig
from engine.errors import Busy, EngineError, SlowUpload

LEAST_BYTES_PER_S = 16 * 1024
"""A body that comes at this pace may take as long as it takes."""

RETRY_S = 5
"""Until an upload of those that are held has most likely ended: half of them are gone in the time of one answer."""


class UploadGuard:
    """Middleware. Holds the count of bytes of all bodies that are being read or answered."""

    def __init__(self, app: ASGIApp, config: ServerConfig) -> None:
        self._app = app
        self.stall_s = config.upload_stall_s
        self.max_bytes = config.max_uploads_bytes
        self.held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        upload = _Upload(self, receive, send)
        try:
            if not upload.declares_too_much(scope):
                await self._app(scope, upload.receive, upload.send)
        except ClientDisconnect:
            if upload.error is None:
                raise
        finally:
            upload.release()
        if upload.error is not None and not upload.is_answered:
            response = error_response(upload.error)
            if isinstance(upload.error, SlowUpload):
                response.headers["Connection"] = "close"
            await response(scope, receive, send)


class _Upload:
    """One request's body: stands between the server and the app, which takes an upload that is ended for a client that
    went away."""

    def __init__(self, guard: UploadGuard, receive: Receive, send: Send) -> None:
        self._guard = guard
        self._receive = receive
        self._send = send
        self._credit_s = guard.stall_s
        self._num_bytes = 0
        self._is_whole = False
        self.is_answered = False
        self.error: EngineError | None = None

    def declares_too_much(self, scope: Scope) -> bool:
        """Whether the body is refused for the length that its head declares, before any of it has come."""
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        return declared.isdigit() and not self._has_room(int(declared))

    async def receive(self) -> Message:
        """The next message. The client's credit is stall_s seconds; bytes earn it back, and never more than that."""
        if self._is_whole:
            return await self._receive()
        if self.error is not None:
            return {"type": "http.disconnect"}
        began_s = time.monotonic()
        try:
            async with asyncio.timeout(self._credit_s):
                message = await self._receive()
        except TimeoutError:
            self.error = SlowUpload(
                f"The request's body came too slowly; the limit is {self._guard.stall_s:g} s without "
                f"{LEAST_BYTES_PER_S:,} bytes for each of them."
            )
            return {"type": "http.disconnect"}
        if message["type"] != "http.request":
            return message
        size = len(message.get("body", b""))
        self._credit_s += size / LEAST_BYTES_PER_S - (time.monotonic() - began_s)
        self._credit_s = min(self._guard.stall_s, self._credit_s)
        if not self._has_room(size):
            return {"type": "http.disconnect"}
        self._guard.held_bytes += size
        self._num_bytes += size
        self._is_whole = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """To the client, once the body is no longer needed; not what the app says to a client it thinks gone."""
        if self.error is not None and not self.is_answered:
            return
        self.is_answered = True
        self.release()
        await self._send(message)

    def release(self) -> None:
        self._guard.held_bytes -= self._num_bytes
        self._num_bytes = 0

    def _has_room(self, size: int) -> bool:
        most, held = self._guard.max_bytes, self._guard.held_bytes
        if held + size <= most:
            return True
        self.error = Busy(
            f"Uploads of {held:,} bytes are being read; all together may have {most:,}. Try again in a moment.",
            retry_after_s=RETRY_S,
            code="uploads_full",
        )
        return False
