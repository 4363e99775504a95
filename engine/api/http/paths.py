"""Which requests are for our own routes, however their paths are written, and which methods these take.

A page may be mounted behind the routes and would answer everything that they leave. So what a route answers to HEAD, to
a wrong method, and to a path with a slash too many is said here, before the page is asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastapi.routing import iter_route_contexts
from starlette.responses import Response
from starlette.routing import BaseRoute, compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.api.answering.failures import error_response
from engine.errors import MethodNotAllowed, ModelNotFound

OURS = "/v1/"
"""All below it is ours, also where there is nothing: no page answers there."""

METHODS = "engine.methods"
"""Key of the ASGI scope: the methods of our own route that this request is for, () where there is none below OURS.
Missing for everything else."""

SLASHES = re.compile("/{2,}")

GUARDED = frozenset(("v1", "api", "metrics", "tokenize", "detokenize"))
"""First steps of the paths that ask for a key where there are keys."""

API = GUARDED | {"health", "openapi.json"}
"""First steps of the paths that programs ask. A page has routes of its own beside these."""


@dataclass(frozen=True, slots=True)
class OwnPath:
    """A path as a route has it. methods: all that its routes take, sorted; HEAD is one of them wherever GET is."""

    path: str
    methods: tuple[str, ...]


class OwnPaths:
    """The paths of an app's own routes. Mounted apps have paths of their own."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        named = [route for route in iter_route_contexts(routes) if route.methods]
        self._routes = [(compile_path(route.path or "/")[0], frozenset(route.methods or ())) for route in named]

    def find(self, path: str) -> OwnPath | None:
        """The route's path for one that may end in a slash or have double ones. As it is written goes first, as the id
        of a model may be the path of a folder."""
        written = path.rstrip("/") or "/"
        single = SLASHES.sub("/", written)
        for candidate in dict.fromkeys((written, single)):
            if methods := self._methods(candidate):
                return OwnPath(candidate, methods)
        return OwnPath(single, ()) if single.startswith(OURS) else None

    def _methods(self, path: str) -> tuple[str, ...]:
        methods = {method for regex, taken in self._routes if regex.match(path) for method in taken}
        return tuple(sorted(methods | {"HEAD"} if "GET" in methods else methods))


class Paths:
    """Middleware: gives a request for one of our routes the path that the route has, and marks it in the scope.

    routes: asked at the first request, when all of them are there.
    """

    def __init__(self, app: ASGIApp, routes: Callable[[], Sequence[BaseRoute]]) -> None:
        self._app = app
        self._routes = routes
        self._paths: OwnPaths | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._paths = self._paths or OwnPaths(self._routes())
            written = route_path(scope)
            if own := self._paths.find(written):
                prefix = scope["path"].removesuffix(written)
                scope = {**scope, "path": prefix + own.path, METHODS: own.methods}
        await self._app(scope, receive, send)


def is_guarded(path: str) -> bool:
    """Whether a key is asked for where there are keys. path: as the route has it, without a reverse proxy's prefix."""
    return _first_step(path) in GUARDED


def is_api(path: str) -> bool:
    """Whether programs ask it; what else is here belongs to the page. path: as for is_guarded."""
    return _first_step(path) in API


def _first_step(path: str) -> str:
    return path.removeprefix("/").partition("/")[0]


class Methods:
    """Middleware for marked requests: HEAD is answered as GET, whose body the server leaves out. 405 for a wrong
    method, 404 where there is no route."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        allowed = scope.get(METHODS)
        if allowed is None:
            await self._app(scope, receive, send)
        elif scope["method"] in allowed:
            method = "GET" if scope["method"] == "HEAD" else scope["method"]
            await self._app({**scope, "method": method}, receive, send)
        else:
            await _refusal(scope["method"][:32], scope["path"][:200], allowed)(scope, receive, send)


def _refusal(method: str, path: str, allowed: tuple[str, ...]) -> Response:
    if not allowed:
        return error_response(ModelNotFound(f"There is no route {method} {path}.", code="route_not_found"))
    response = error_response(MethodNotAllowed(f"{path} takes {' and '.join(allowed)}, not {method}."))
    response.headers["Allow"] = ", ".join(allowed)
    return response


def route_path(scope: Scope) -> str:
    """The path without the prefix of a reverse proxy, which may have left it there or not."""
    root_path, path = scope.get("root_path", ""), str(scope["path"])
    return path.removeprefix(root_path) if path == root_path or path.startswith(f"{root_path}/") else path
