"""GET /health, and what a supervisor asks: is it alive, is it ready. No key, so that it can ask."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from engine.api.cards import health_json
from engine.api.failures import error_response
from engine.core import Engine
from engine.errors import Unavailable
from engine.types import State

GONE: tuple[State, ...] = ("failed", "stopped")
"""Only a new process helps then."""


def health_router(engine: Engine) -> APIRouter:
    """/health tells everything; /health/live and /health/ready answer one question each by their status.

    https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/
    """
    router = APIRouter(prefix="/health", tags=["Server"])

    @router.get("", summary="Its state, and what it holds")
    async def health() -> Response:
        snapshot = engine.snapshot()
        status = 503 if snapshot.state in GONE else 200
        return JSONResponse(health_json(snapshot, engine.media_bytes(), engine.config.max_queue), status_code=status)

    @router.get("/live", summary="Whether this process is worth keeping")
    async def live() -> Response:
        snapshot = engine.snapshot()
        if snapshot.state in GONE:
            return error_response(Unavailable(f"The engine has {snapshot.state}.", code="engine_failed"))
        return _fine("alive")

    @router.get("/ready", summary="Whether a request would be taken now")
    async def ready() -> Response:
        state = engine.snapshot().state
        if (draining := engine.draining) is not None:
            return error_response(draining)
        if state != "ready":
            code = "engine_failed" if state in GONE else "model_not_ready"
            return error_response(Unavailable(f"No model is ready: {state}.", code=code))
        return _fine("ready")

    return router


def _fine(status: Literal["alive", "ready"]) -> Response:
    return JSONResponse({"status": status})
