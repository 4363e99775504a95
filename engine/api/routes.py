"""OpenAI's routes for chats, texts, tokens and models. Each is short: JSON to Request, read the stream, events to JSON."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from engine.api.answers import AnswerFormat, ChatAnswer
from engine.api.cards import (
    LOADING,
    check_model,
    health_json,
    is_named,
    loading_json,
    model_json,
    models_json,
)
from engine.api.convert import chat_request
from engine.api.guard import guarded_route
from engine.api.respond import name_answer, ready, stream_answer, whole_answer
from engine.api.schemas import ChatRequest, GenerationBody
from engine.api.sse import OpenAIStream
from engine.config import ServerConfig
from engine.core import Engine
from engine.errors import ModelNotFound
from engine.types import Request as Generation


def health_router(engine: Engine) -> APIRouter:
    """GET /health: no key, so that a supervisor can ask."""
    router = APIRouter()

    @router.get("/health")
    async def health() -> Response:
        snapshot = engine.snapshot()
        status = 503 if snapshot.state in ("failed", "stopped") else 200
        return JSONResponse(health_json(snapshot, engine.media_bytes()), status_code=status)

    return router


def v1_router(engine: Engine, config: ServerConfig) -> APIRouter:
    """Chats and models; and an answer for every other path of /v1."""
    router = APIRouter(prefix="/v1", route_class=guarded_route(config))
    started = int(time.time())

    @router.post("/chat/completions")
    async def chat_completions(body: ChatRequest, http: Request) -> Response:
        envelope = await name_answer(engine, body.model, http)
        request = chat_request(body, engine.config.media, envelope.id, http.state.caller)
        return await _answer(engine, request, ChatAnswer(envelope), body, http)

    @router.get("/models")
    async def models() -> dict[str, Any]:
        return models_json(engine.snapshot(), engine.config.model, started)

    @router.get("/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        spec = engine.config.model
        if engine.snapshot().state in LOADING and is_named(name, spec):
            return loading_json(spec, started)
        card = await ready(engine)
        check_model(name, spec, card)
        return model_json(card)

    @router.api_route("/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"], include_in_schema=False)
    async def unknown(path: str, http: Request) -> Response:
        raise ModelNotFound(f"There is no route {http.method} /v1/{path}.", code="route_not_found")

    return router


async def _answer(
    engine: Engine, request: Generation, answer: AnswerFormat, body: GenerationBody, http: Request
) -> Response:
    """Run a request and say its events in the shape of `answer`, streamed or whole."""
    events = engine.stream(request)
    if body.stream:
        usage = bool(body.stream_options and body.stream_options.include_usage)
        return await stream_answer(events, OpenAIStream(answer, usage), http)
    return await whole_answer(events, answer.whole, http)
