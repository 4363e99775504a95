"""The route of chat completions: JSON to Request, read the stream, events to JSON."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from engine.api.answering.exchange import Exchange
from engine.api.answering.logprobs import LogprobsWriter
from engine.api.answering.sse import OpenAIStream
from engine.api.chat.answers import ChatAnswer
from engine.api.chat.convert import chat_request
from engine.api.chat.schemas import ChatRequest
from engine.api.http.guard import guarded_route
from engine.config import ServerConfig
from engine.core import Engine


def chat_router(engine: Engine, config: ServerConfig) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["OpenAI"], route_class=guarded_route(config))

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

    return router
