"""The routes. Each is short: JSON to Request, read the stream, events to JSON."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from engine.api.answers import AnswerFormat, ChatAnswer, Envelope, TextAnswer, preflight_json
from engine.api.cards import check_model, fingerprint, health_json, model_json
from engine.api.convert import chat_request, text_request, tokenize_request
from engine.api.fields import ignored_header
from engine.api.guard import CLIENT_CLOSED, guarded_route
from engine.api.logprobs import LogprobsWriter
from engine.api.schemas import ChatRequest, GenerationBody, TextRequest, TokenizeRequest
from engine.api.sse import EventStream, check_finished, chunks, open_stream, unless_gone
from engine.config import ServerConfig
from engine.core import Engine
from engine.errors import ModelNotFound, Unavailable
from engine.types import ModelCard
from engine.types import Request as Generation

LOADING_WAIT_S = 30.0
"""How long a request waits for a model that is still loading before it is told to come back."""


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
    """The OpenAI routes."""
    router = APIRouter(prefix="/v1", route_class=guarded_route(config))

    async def envelope_of(body: GenerationBody, http: Request) -> Envelope:
        return replace(await _envelope(engine, body, http), operator=http.state.caller.operator)

    @router.post("/chat/completions")
    async def chat_completions(body: ChatRequest, http: Request) -> Response:
        envelope = await envelope_of(body, http)
        request = chat_request(body, engine.config.media, envelope.id, http.state.caller)
        logprobs = LogprobsWriter(engine.token_text) if request.logprobs is not None else None
        return await _answer(engine, request, ChatAnswer(envelope, request.n, logprobs), body, http)

    @router.post("/completions")
    async def completions(body: TextRequest, http: Request) -> Response:
        envelope = await envelope_of(body, http)
        return await _answer(
            engine, text_request(body, envelope.id, http.state.caller), TextAnswer(envelope), body, http
        )

    @router.post("/tokenize")
    async def tokenize(body: TokenizeRequest, http: Request) -> Response:
        envelope = await envelope_of(body, http)
        request = tokenize_request(body, engine.config.media, envelope.id, http.state.caller)
        found = await unless_gone(engine.preflight(request), http.receive)
        if found is None:
            return Response(status_code=CLIENT_CLOSED)
        return JSONResponse(preflight_json(found), headers=ignored_header(body, await engine.ready()))

    @router.get("/models")
    async def models() -> dict[str, Any]:
        card = engine.snapshot().model
        return {"object": "list", "data": [model_json(card)] if card else []}

    @router.get("/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        card = await _ready(engine)
        check_model(name, engine.config.model, card)
        return model_json(card)

    @router.api_route("/{path:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"], include_in_schema=False)
    async def unknown(path: str, http: Request) -> Response:
        raise ModelNotFound(f"There is no route {http.method} /v1/{path}.", code="route_not_found")

    return router


async def _ready(engine: Engine) -> ModelCard:
    """The loaded model. Raises Unavailable: still loading after a while, or failed."""
    try:
        return await asyncio.wait_for(engine.ready(), LOADING_WAIT_S)
    except TimeoutError:
        raise Unavailable("The model is still loading; ask again in a moment.") from None


async def _envelope(engine: Engine, body: GenerationBody, http: Request) -> Envelope:
    """Names an answer, once it is known that its model is here."""
    card = await _ready(engine)
    check_model(body.model, engine.config.model, card)
    return Envelope(http.state.request_id, int(time.time()), card.id, fingerprint(engine.snapshot()))


async def _answer(
    engine: Engine, request: Generation, answer: AnswerFormat, body: GenerationBody, http: Request
) -> Response:
    """Run a request and say its events in the shape of `answer`, streamed or whole."""
    headers = ignored_header(body, await engine.ready())
    if body.stream:
        opening = await open_stream(engine.stream(request), http.receive)
        if opening is None:
            return Response(status_code=CLIENT_CLOSED)
        usage = bool(body.stream_options and body.stream_options.include_usage)
        return EventStream(chunks(opening, answer, include_usage=usage), headers)
    completion = await unless_gone(engine.complete(request), http.receive)
    if completion is None:
        return Response(status_code=CLIENT_CLOSED)
    check_finished(completion.done)
    return JSONResponse(answer.whole(completion), headers=headers)
