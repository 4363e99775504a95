"""Errors in the words of the protocol that was spoken: whoever answers, a route, a guard or FastAPI, answers in
OpenAI's, and here they are put into Anthropic's and Ollama's by the path that was asked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.api.anthropic.answers import error_json as anthropic_error
from engine.api.ollama.answers import error_json as ollama_error
from engine.types import Json

Rewrite = Callable[[Json, int], Json]
DIALECTS: tuple[tuple[re.Pattern[str], Rewrite], ...] = (
    (re.compile(r"/v1/messages(/|$)"), anthropic_error),
    (re.compile(r"/api/(chat|generate|show|tags|ps|version|embed)$"), ollama_error),
)
"""Searched in the path, in front of which a reverse proxy's may stand."""


class Dialects:
    """Middleware. Rewrites the body of an error; everything else passes as it comes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "") if scope["type"] == "http" else ""
        rewrite = next((rewrite for pattern, rewrite in DIALECTS if pattern.search(path)), None)
        await self._app(scope, receive, send if rewrite is None else _Rewriter(rewrite, send).send)


class _Rewriter:
    """Holds the head of an error back until its body is there."""

    def __init__(self, rewrite: Rewrite, send: Send) -> None:
        self._rewrite = rewrite
        self._send = send
        self._head: Message | None = None
        self._body = b""

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= 400:
            self._head = message
            return
        if self._head is None:
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if message.get("more_body", False):
            return
        head, body = self._head, self._rewritten(self._head["status"])
        MutableHeaders(raw=head["headers"])["content-length"] = str(len(body))
        await self._send(head)
        await self._send({"type": "http.response.body", "body": body})

    def _rewritten(self, status: int) -> bytes:
        try:
            error = json.loads(self._body)["error"]
            return json.dumps(self._rewrite(error, status), ensure_ascii=False).encode()
        except (ValueError, KeyError, TypeError):
            return self._body
