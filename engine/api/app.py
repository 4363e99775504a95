"""create_app: the FastAPI app with the /v1 routes and /health. A page may be mounted at "/" afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.api.answering.dialects import Dialects
from engine.api.answering.failures import add_error_handlers
from engine.api.anthropic.routes import anthropic_router
from engine.api.batches.routes import batch_routers
from engine.api.cache import cache_router
from engine.api.chat.routes import chat_router
from engine.api.completions.routes import completions_router
from engine.api.decisions.routes import decisions_router
from engine.api.health import health_router
from engine.api.http.documentation import add_documentation
from engine.api.http.guard import HostGuard, guarded_names
from engine.api.http.headers import SPACE, SafeHeaders
from engine.api.http.limits import RateLimits
from engine.api.http.openapi import DescribedApi
from engine.api.http.origins import add_origin_rules
from engine.api.http.packed_bodies import PackedBodies
from engine.api.http.paths import Methods, OwnPaths, Paths
from engine.api.http.uploads import UploadGuard
from engine.api.metrics import metrics_router
from engine.api.models.pull import pull_router
from engine.api.models.routes import models_router
from engine.api.ollama.routes import ollama_router
from engine.api.process import process_router
from engine.api.requests import requests_router
from engine.api.responses.routes import responses_router
from engine.api.tokens import tokens_router
from engine.api.transcriptions import transcriptions_router
from engine.api.vectors.routes import vectors_router
from engine.batch_run.runner import BatchPlaces
from engine.config import ServerConfig
from engine.core import Engine
from engine.own_process import OwnProcess
from engine.version import version

TITLE = "MLX Workbench"
ROUTERS = (
    chat_router,
    cache_router,
    completions_router,
    decisions_router,
    responses_router,
    anthropic_router,
    tokens_router,
    transcriptions_router,
    ollama_router,
    vectors_router,
    requests_router,
    pull_router,
    models_router,
)
NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
"""FastAPI exports to wherever the environment says, errors with their messages; nothing of a user leaves from here."""


def create_app(engine: Engine, config: ServerConfig, process: OwnProcess | None = None) -> FastAPI:
    """The routes over an engine, which may still be loading. Starts nothing.

    There is no route at "/", so that a page can be mounted there. process: that of the server; None inside another
    program.
    """
    # FastAPI's own documentation loads its scripts from a CDN; add_documentation serves them from here.
    app = DescribedApi(title=TITLE, version=version(), docs_url=None, redoc_url=None, telemetry=NO_TELEMETRY)
    app.asks_for_key = bool(config.api_keys)
    app.state.rate_limits = RateLimits(config.requests_per_minute)
    app.state.models = engine.models
    app.state.request_log = engine.requests
    app.state.batch_places = places = BatchPlaces(engine.config.of(engine.config.model).max_at_once)
    app.state.process = process = process or OwnProcess()
    secrets = tuple(key for _, key in config.api_keys)
    engine.requests.hide(secrets)
    process.log.hide(engine.requests.redactor.secrets)
    add_error_handlers(app)
    app.include_router(health_router(engine))
    add_documentation(app)
    app.include_router(metrics_router(engine, config))
    app.include_router(process_router(engine, config, process))
    routers = [router(engine, config) for router in ROUTERS]
    for router in (*batch_routers(engine, config, routers, places), *routers):
        app.include_router(router)
    _add_middleware(app, config)
    return app


def _add_middleware(app: FastAPI, config: ServerConfig) -> None:
    """From the innermost, which sees a request last, to the outermost."""
    app.add_middleware(SafeHeaders, frame_ancestors=SPACE if config.open_access else ())
    app.add_middleware(UploadGuard, config=config)
    app.add_middleware(PackedBodies)
    app.add_middleware(Methods)
    add_origin_rules(app, config)
    names = guarded_names(config)
    if names is not None:
        app.add_middleware(HostGuard, names=names)
    app.add_middleware(Dialects)  # around all that answers errors
    app.add_middleware(Paths, routes=lambda: app.routes)
    if config.root_path:
        app.add_middleware(UnderPrefix, root_path=config.root_path, routes=lambda: app.routes)
    app.add_middleware(SafeHeaders)  # for what the guards answer themselves


class UnderPrefix:
    """Tells the routes under which path a reverse proxy shows them, whether it strips that path or keeps it.

    routes: asked at the first request, when all of them are there. Where they begin with the same words as the prefix
    ("/workbench", "/v1"), a path of one of them is taken for one whose prefix was stripped.
    """

    def __init__(self, app: ASGIApp, root_path: str, routes: Callable[[], Sequence[BaseRoute]]) -> None:
        self._app = app
        self._root_path = root_path
        self._routes = routes
        self._paths: OwnPaths | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        under = {**scope, "root_path": self._root_path}
        if scope["type"] == "http" and str(scope["path"]).startswith(f"{self._root_path}/"):
            self._paths = self._paths or OwnPaths(self._routes())
            own = self._paths.find(str(scope["path"]))
            if own is not None and own.methods:
                under["path"] = self._root_path + scope["path"]
        await self._app(under, receive, send)


def add_pointer(app: FastAPI) -> FastAPI:
    """For a server without the page: "/" says where things are."""

    @app.get("/", include_in_schema=False)
    async def pointer() -> dict[str, str]:
        return {
            "openai_api": "/v1",
            "models": "/v1/models",
            "health": "/health",
            "documentation": "/docs",
            "schema": "/openapi.json",
            "page": "start vllm-mlx-chat instead of vllm-mlx to get the chat here",
        }

    return app
