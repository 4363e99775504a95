"""Chats and models. Each route is short: JSON to Request, read the stream, events to JSON."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request, Response

from engine.access.visibility import check_manages_models
from engine.api.answers import ChatAnswer
from engine.api.cards import models_json, state_json
from engine.api.convert import chat_request
from engine.api.exchange import Exchange, whole_unless_gone
from engine.api.guard import guarded_route
from engine.api.logprobs import LogprobsWriter
from engine.api.schemas import ChatRequest, ModelName
from engine.api.sse import OpenAIStream
from engine.config import ServerConfig
from engine.core import Engine


def v1_router(engine: Engine, config: ServerConfig) -> APIRouter:
    """Chats and models, and where things are."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"], route_class=guarded_route(config))
    started = int(time.time())

    @router.post("/chat/completions", summary="A chat answer, whole or as server-sent events")
    async def chat_completions(body: ChatRequest, http: Request) -> Response:
        exchange = await Exchange.begin(engine, http, body, body.model)
        request = chat_request(body, engine.config.media, exchange.id, exchange.who)
        texts, events = exchange.token_text(), engine.stream(exchange.asked(request))
        logprobs = LogprobsWriter(texts) if request.logprobs is not None else None
        answer, events = ChatAnswer(exchange.envelope, request.n, logprobs), texts.over(events)
        if not body.stream:
            return await exchange.whole(events, answer.whole)
        usage = bool(body.stream_options and body.stream_options.include_usage)
        return await exchange.stream(events, OpenAIStream(answer, usage))

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
