"""POST /v1/decisions and /v1/systemone: JSON to questions, decisions to JSON. Neither is streamed."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from engine.api.answering.exchange import Exchange
from engine.api.decisions.answers import decisions_json, systemone_json
from engine.api.decisions.convert import decisions_request
from engine.api.decisions.schemas import DecisionsRequest, SystemOneRequest
from engine.api.decisions.systemone import systemone_request
from engine.api.http.guard import guarded_route
from engine.config import ServerConfig
from engine.core import Engine


def decisions_router(engine: Engine, config: ServerConfig) -> APIRouter:
    """Typed questions about one input."""
    router = APIRouter(prefix="/v1", tags=["Decisions"], route_class=guarded_route(config))

    @router.post("/decisions", summary="Typed questions about one input, with probabilities")
    async def decisions(body: DecisionsRequest, http: Request) -> Response:
        exchange = await Exchange.begin(engine, http, body, body.model)
        request, questions = decisions_request(body, engine.config.media, exchange.id, exchange.who)
        envelope = exchange.envelope
        return await exchange.awaited(
            engine.decide(exchange.asked(request), questions),
            lambda found: decisions_json(body, found, envelope.model, envelope.operator),
        )

    @router.post("/systemone", summary="The same, as transformers serve has it")
    async def systemone(body: SystemOneRequest, http: Request) -> Response:
        exchange = await Exchange.begin(engine, http, body, body.model)
        request, questions = systemone_request(body, exchange.id, exchange.who)
        return await exchange.awaited(
            engine.decide(exchange.asked(request), questions),
            lambda found: systemone_json(body, found, body.model or exchange.envelope.model),
        )

    return router
