"""Web pages of other origins: which of them may read answers (CORS), and what the others may not even ask for.

A browser lets any page send simple requests to a server on the same machine; only the answers are kept from the page.
So a server that asks for no key must itself refuse those that change something.
https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from __future__ import annotations

from collections.abc import Collection

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.api.answering.failures import error_response
from engine.api.bodies.fields import IGNORED_HEADER
from engine.api.http.paths import METHODS, is_api, route_path
from engine.config import ServerConfig
from engine.errors import Forbidden

ANY = "*"
SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
EXPOSED = (
    "X-Request-Id",
    "Retry-After",
    "X-RateLimit-Limit-Requests",
    "X-RateLimit-Remaining-Requests",
    IGNORED_HEADER,
)
PREFLIGHT_AGE_S = 600


class OwnRoutesCors:
    """Middleware: CORS for the routes that programs ask, and for nothing of a page: neither what is mounted behind them
    nor the page's own routes beside them, which tell of conversations."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        self._cors = CORSMiddleware(
            app,
            allow_origins=origins,
            allow_methods=["*"],
            allow_headers=["*"],
            allow_private_network=True,
            expose_headers=EXPOSED,
            max_age=PREFLIGHT_AGE_S,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_ours = METHODS in scope and is_api(route_path(scope))
        await (self._cors if is_ours else self._app)(scope, receive, send)


class ForeignPages:
    """Middleware: 403 for what a web page of another origin would change, where no key keeps it out. origins: those
    whose pages may ask what programs may.

    Programs send no Origin, or one with a scheme of their own (app://, vscode-webview://), which no web page can have.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if METHODS not in scope or scope["method"] in SAFE_METHODS or self._may_ask(scope):
            await self._app(scope, receive, send)
            return
        why = "A web page of another origin may not use this server; --allowed-origins ORIGIN would let it."
        await error_response(Forbidden(why, code="origin_not_allowed"))(scope, receive, send)

    def _may_ask(self, scope: Scope) -> bool:
        headers, allowed = Headers(scope=scope), self._origins if is_api(route_path(scope)) else ()
        return all(_is_allowed(origin, headers.get("host", ""), allowed) for origin in headers.getlist("origin"))


def _is_allowed(origin: str, host: str, allowed: Collection[str]) -> bool:
    scheme, _, rest = origin.lower().partition("://")
    if scheme not in ("http", "https", "null"):
        return True
    return ANY in allowed or origin.lower() in allowed or (rest != "" and rest == host.lower())


def add_origin_rules(app: FastAPI, config: ServerConfig) -> None:
    """CORS where origins are allowed; the others are refused where nothing else keeps them out."""
    if config.allowed_origins:
        app.add_middleware(OwnRoutesCors, origins=config.allowed_origins)
    if config.on_loopback and not config.api_keys and not config.open_access:
        app.add_middleware(ForeignPages, origins=frozenset(config.allowed_origins))
