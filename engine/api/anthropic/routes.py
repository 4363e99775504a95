"""POST /v1/messages and /v1/messages/count_tokens."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from engine.api.anthropic.answers import MessageStream
from engine.api.anthropic.convert import counted_request, messages_request
from engine.api.anthropic.schemas import CountRequest, MessagesRequest
from engine.api.guard import CLIENT_CLOSED, guarded_route
from engine.api.respond import name_answer, replayed_answer, stream_answer
from engine.api.sse import unless_gone
from engine.config import ServerConfig
from engine.core import Engine


def anthropic_router(engine: Engine, config: ServerConfig) -> APIRouter:
    """Anthropic's Messages API."""
    router = APIRouter(prefix="/v1/messages", route_class=guarded_route(config))

    @router.post("")
    async def messages(body: MessagesRequest, http: Request) -> Response:
        envelope = await name_answer(engine, body.model, http)
        request = messages_request(body, engine.config.media, envelope.id, http.state.caller)
        answer, events = MessageStream(envelope), engine.stream(request)
        if body.stream:
            return await stream_answer(events, answer, http)
        return await replayed_answer(events, answer, answer.whole, http)

    @router.post("/count_tokens")
    async def count_tokens(body: CountRequest, http: Request) -> Response:
        envelope = await name_answer(engine, body.model, http)
        request = counted_request(body, engine.config.media, envelope.id, http.state.caller)
        preflight = await unless_gone(engine.preflight(request), http.receive)
        if preflight is None:
            return Response(status_code=CLIENT_CLOSED)
        return JSONResponse({"input_tokens": len(preflight.tokens)})

    return router
