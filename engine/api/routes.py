"""Chats and models. Each route is short: JSON to Request, read the stream, events to JSON."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request, Response

from engine.api.answers import ChatAnswer
from engine.api.cards import (
    LOADING,
    check_model,
    is_named,
    loading_json,
    model_json,
    models_json,
)
from engine.api.convert import chat_request
from engine.api.exchange import Exchange, ready
from engine.api.guard import guarded_route
from engine.api.logprobs import LogprobsWriter
from engine.api.schemas import ChatRequest
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
        logprobs = LogprobsWriter(engine.token_text) if request.logprobs is not None else None
        answer, events = ChatAnswer(exchange.envelope, request.n, logprobs), engine.stream(request)
        if not body.stream:
            return await exchange.whole(events, answer.whole)
        usage = bool(body.stream_options and body.stream_options.include_usage)
        return await exchange.stream(events, OpenAIStream(answer, usage))

    @router.get("/models", summary="The model that is loaded, or that is loading")
    async def models() -> dict[str, Any]:
        return models_json(engine.snapshot(), engine.config.model, started)

    @router.get("/models/{name:path}", summary="A model by its name")
    async def model(name: str) -> dict[str, Any]:
        spec = engine.config.model
        if engine.snapshot().state in LOADING and is_named(name, spec):
            return loading_json(spec, started)
        card = await ready(engine)
        check_model(name, spec, card)
        return model_json(card)

    @router.get("", summary="Where things are")
    async def index() -> dict[str, str]:
        return {"models": "/v1/models", "health": "/health", "documentation": "/docs", "schema": "/openapi.json"}

    return router
