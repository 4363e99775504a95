"""The routes of the models, and where things are."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request, Response

from engine.access.visibility import check_manages_models
from engine.api.answering.exchange import whole_unless_gone
from engine.api.http.guard import guarded_route
from engine.api.models.cards import models_json, state_json
from engine.api.models.schemas import ModelName
from engine.config import ServerConfig
from engine.core import Engine


def models_router(engine: Engine, config: ServerConfig) -> APIRouter:
    """The models, and where things are."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"], route_class=guarded_route(config))
    started = int(time.time())

    @router.get("/models", summary="The models that may be asked, and which of them are loaded")
    async def models() -> dict[str, Any]:
        return models_json(engine.snapshot(), engine.models(), started)

    @router.post("/models/load", summary="Load a model, and wait until it is there")
    async def load(body: ModelName, http: Request) -> Response:
        check_manages_models(config, http.state.caller)
        return await whole_unless_gone(engine.load_model(body.model), http, lambda state: state_json(state, started))

    @router.post("/models/unload", summary="Take a model out of memory")
    async def unload(body: ModelName, http: Request) -> Response:
        check_manages_models(config, http.state.caller)
        return await whole_unless_gone(engine.unload_model(body.model), http, lambda state: state_json(state, started))

    @router.get("/models/{name:path}", summary="A model by its name")
    async def model(name: str) -> dict[str, Any]:
        served_name = engine.config.find(name).served_name
        if engine.snapshot().state == "failed":
            await engine.ready(served_name)  # raises why
        return next(state_json(state, started) for state in engine.models() if state.name == served_name)

    @router.get("", summary="Where things are")
    async def index() -> dict[str, str]:
        return {"models": "/v1/models", "health": "/health", "documentation": "/docs", "schema": "/openapi.json"}

    return router
