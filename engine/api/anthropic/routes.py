"""POST /v1/messages and /v1/messages/count_tokens."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from engine.api.answering.exchange import Exchange
from engine.api.anthropic.answers import MessageStream
from engine.api.anthropic.convert import counted_request, messages_request
from engine.api.anthropic.schemas import CountRequest, MessagesRequest
from engine.api.http.guard import guarded_route
from engine.config import ServerConfig
from engine.core import Engine


def anthropic_router(engine: Engine, config: ServerConfig) -> APIRouter:
    """Anthropic's Messages API."""
    router = APIRouter(prefix="/v1/messages", tags=["Anthropic"], route_class=guarded_route(config))

    @router.post("", summary="A message, whole or as server-sent events")
    async def messages(body: MessagesRequest, http: Request) -> Response:
        exchange = await Exchange.begin(engine, http, body, body.model)
        request = messages_request(body, engine.config.media, exchange.id, exchange.who)
        answer = MessageStream(exchange.envelope)
        events = engine.stream(exchange.asked(request))
        return await exchange.answer(events, answer, is_streamed=bool(body.stream))

    @router.post("/count_tokens", summary="How many tokens a message would read")
    async def count_tokens(body: CountRequest, http: Request) -> Response:
        exchange = await Exchange.begin(engine, http, body, body.model)
        request = counted_request(body, engine.config.media, exchange.id, exchange.who)
        return await exchange.count(request, lambda preflight: {"input_tokens": len(preflight.tokens)})

    return router
