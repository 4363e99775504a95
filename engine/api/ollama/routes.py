"""Ollama's routes, thin translations at the root of the port."""

from __future__ import annotations

import time
from typing import Literal

from fastapi import APIRouter, Request, Response

from engine.access.visibility import check_manages_models
from engine.api.answering.exchange import Exchange, ready
from engine.api.http.guard import guarded_route
from engine.api.ollama.answers import OllamaStream
from engine.api.ollama.cards import API_VERSION, running_json, show_json, tags_json
from engine.api.ollama.convert import chat_request, generate_request
from engine.api.ollama.schemas import GenerateRequest, OllamaBody, OllamaChatRequest, ShowRequest
from engine.config import ServerConfig
from engine.core import Engine
from engine.types import Json
from engine.types import Request as Generation


def ollama_router(engine: Engine, config: ServerConfig) -> APIRouter:
    """/api: a chat, a text, and what is loaded."""
    router = APIRouter(prefix="/api", tags=["Ollama"], route_class=guarded_route(config))
    started = int(time.time())

    async def answered(exchange: Exchange, body: OllamaBody, request: Generation, answer: OllamaStream) -> Response:
        events = engine.stream(exchange.asked(request))
        return await exchange.answer(events, answer, is_streamed=bool(body.stream))

    async def changed(body: OllamaBody, http: Request, route: Literal["chat", "generate"]) -> Response:
        """A request without a question: the model is loaded, or leaves memory."""
        exchange = Exchange.of(engine, http, body, untagged(body.model))
        answer = OllamaStream(exchange.envelope, route)
        if body.asks_to_unload:
            check_manages_models(config, http.state.caller)
            return await exchange.awaited(engine.unload_model(exchange.model), lambda _: answer.changed("unload"))
        return await exchange.awaited(engine.load_model(exchange.model), lambda _: answer.changed("load"))

    @router.post("/chat", summary="A chat answer, in lines of JSON or whole")
    async def chat(body: OllamaChatRequest, http: Request) -> Response:
        if not body.messages:
            return await changed(body, http, "chat")
        exchange = await Exchange.begin(engine, http, body, untagged(body.model))
        answer = OllamaStream(exchange.envelope, "chat")
        return await answered(exchange, body, chat_request(body, exchange.id, exchange.who), answer)

    @router.post("/generate", summary="An answer to one text")
    async def generate(body: GenerateRequest, http: Request) -> Response:
        if not body.prompt and not body.images:
            return await changed(body, http, "generate")
        exchange = await Exchange.begin(engine, http, body, untagged(body.model))
        answer = OllamaStream(exchange.envelope, "generate")
        return await answered(exchange, body, generate_request(body, exchange.id, exchange.who), answer)

    @router.get("/tags", summary="The models that are there")
    async def tags() -> Json:
        return tags_json(engine.snapshot(), engine.models(), started)

    @router.get("/ps", summary="The models that are loaded")
    async def running() -> Json:
        return {"models": [running_json(card) for card in engine.snapshot().models]}

    @router.get("/version", summary="The release of Ollama whose answers these are")
    async def version() -> Json:
        return {"version": API_VERSION}

    @router.post("/show", summary="What a model is and can take")
    async def show(body: ShowRequest) -> Json:
        name = engine.config.find(untagged(body.model or body.name or "")).served_name
        if engine.snapshot().state != "ready":
            await ready(engine, name)
        return show_json(engine.snapshot().card_of(name))

    return router


def untagged(name: str) -> str:
    """Clients add ":latest" to a name without a tag."""
    return name.removesuffix(":latest")
