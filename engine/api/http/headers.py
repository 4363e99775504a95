"""Headers of every response that keep a page to this server: it asks no other host for anything, and runs no script but
those that it came with. Content Security Policy: https://www.w3.org/TR/CSP3/
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_INLINE_SCRIPT = re.compile(rb"<script(?P<attributes>[^>]*)>(?P<text>.*?)</script>", re.DOTALL | re.IGNORECASE)
_SOURCE = re.compile(rb"\ssrc\s*=", re.IGNORECASE)

OTHERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-DNS-Prefetch-Control": "off",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(self)",
}
SPACE = ("https://huggingface.co", "https://*.hf.space")
"""A Space is shown in a frame of the Hub's page."""


def policy(hashes: Iterable[str] = (), frame_ancestors: Sequence[str] = ()) -> str:
    """The Content-Security-Policy. hashes: of the inline scripts that may run, as from `script_hash`.

    Styles may be inline and functions may be made of text, as Gradio does both; neither can load anything.
    """
    allowed = {
        "default-src": ["'none'"],
        "script-src": ["'self'", "'unsafe-eval'", *dict.fromkeys(hashes)],
        "style-src": ["'self'", "'unsafe-inline'"],
        "img-src": ["'self'", "data:", "blob:"],
        "media-src": ["'self'", "data:", "blob:"],
        "font-src": ["'self'", "data:"],
        "connect-src": ["'self'", "data:", "blob:"],
        "worker-src": ["'self'", "blob:"],
        "manifest-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'self'"],
        "frame-ancestors": ["'self'", *frame_ancestors],
    }
    return "; ".join(f"{name} {' '.join(sources)}" for name, sources in allowed.items())


def script_hash(text: bytes) -> str:
    """The source expression that allows an inline script of this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'"


def inline_scripts(html: bytes) -> list[bytes]:
    """The texts of the scripts that stand in a page."""
    matches = _INLINE_SCRIPT.finditer(html)
    return [match["text"] for match in matches if not _SOURCE.search(match["attributes"])]


class SafeHeaders:
    """Adds the headers to what has none yet. Of a page, the inline scripts that it holds as it leaves the server may
    run. Stands where pages are not compressed yet."""

    def __init__(self, app: ASGIApp, frame_ancestors: Sequence[str] = ()) -> None:
        self._app = app
        self._frame_ancestors = frame_ancestors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        held: list[Message] = []  # the start of a page and its body, until it is whole

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                if _is_page(message):
                    held.append(message)
                    return
                self._add(message, ())
            elif held:
                held.append(message)
                if message.get("more_body"):
                    return
                body = b"".join(part.get("body", b"") for part in held[1:])
                self._add(held[0], map(script_hash, inline_scripts(body)))
                for part in held:
                    await send(part)
                held.clear()
                return
            await send(message)

        await self._app(scope, receive, guarded)

    def _add(self, start: Message, hashes: Iterable[str]) -> None:
        headers = MutableHeaders(scope=start)
        for name, value in OTHERS.items():
            headers.setdefault(name, value)
        if "content-security-policy" not in headers:
            headers["Content-Security-Policy"] = policy(hashes, self._frame_ancestors)


def _is_page(start: Message) -> bool:
    headers = Headers(raw=start["headers"])
    return headers.get("content-type", "").startswith("text/html") and "content-security-policy" not in headers
