"""create_app: the FastAPI app with the /v1 routes and /health. A page may be mounted at "/" afterwards."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.api.cache import cache_router
from engine.api.decisions.routes import decisions_router
from engine.api.failures import add_error_handlers
from engine.api.guard import HostGuard, guarded_names
from engine.api.metrics import metrics_router
from engine.api.routes import health_router, v1_router
from engine.api.uploads import UploadGuard
from engine.config import ServerConfig
from engine.core import Engine

NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
"""FastAPI exports to wherever the environment says, errors with their messages; nothing of a user leaves from here."""


def create_app(engine: Engine, config: ServerConfig) -> FastAPI:
    """The routes over an engine, which may still be loading. Starts nothing.

    There is no route at "/", so that a page can be mounted there; and no CORS, so that no other page can read answers.
    """
    # The interactive documentation would load its scripts from a CDN; /openapi.json stays.
    app = FastAPI(title="MLX Workbench", docs_url=None, redoc_url=None, telemetry=NO_TELEMETRY)
    add_error_handlers(app)
    app.include_router(health_router(engine))
    app.include_router(metrics_router(engine, config))
    app.include_router(cache_router(engine, config))  # before v1_router, which answers every other path of /v1
    app.include_router(decisions_router(engine, config))
    app.include_router(v1_router(engine, config))
    app.add_middleware(UploadGuard, config=config)
    names = guarded_names(config)
    if names is not None:
        app.add_middleware(HostGuard, names=names)
    if config.root_path:
        app.add_middleware(UnderPrefix, root_path=config.root_path)
    return app


class UnderPrefix:
    """Tells the routes under which path a reverse proxy shows them, whether it strips that path or keeps it."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "root_path": self._root_path}, receive, send)


def add_pointer(app: FastAPI) -> FastAPI:
    """For a server without the page: "/" says where things are."""

    @app.get("/", include_in_schema=False)
    async def pointer() -> dict[str, str]:
        return {
            "openai_api": "/v1",
            "models": "/v1/models",
            "health": "/health",
            "schema": "/openapi.json",
            "page": "start vllm-mlx-chat instead of vllm-mlx to get the chat here",
        }

    return app
