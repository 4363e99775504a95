"""POST /v1/decisions and /v1/systemone: JSON to questions, decisions to JSON. Neither is streamed."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from engine.api.cards import check_model
from engine.api.decisions.answers import decisions_json, systemone_json
from engine.api.decisions.convert import Asked, decisions_request
from engine.api.decisions.schemas import DecisionsRequest, SystemOneRequest
from engine.api.decisions.systemone import systemone_request
from engine.api.fields import ignored_header
from engine.api.guard import CLIENT_CLOSED, guarded_route
from engine.api.routes import LOADING_WAIT_S
from engine.api.sse import unless_gone
from engine.config import ServerConfig
from engine.core import Engine
from engine.errors import Unavailable
from engine.types import Decisions, ModelCard


def decisions_router(engine: Engine, config: ServerConfig) -> APIRouter:
    """Typed questions about one input."""
    router = APIRouter(prefix="/v1", route_class=guarded_route(config))

    @router.post("/decisions")
    async def decisions(body: DecisionsRequest, http: Request) -> Response:
        card = await _card(engine, body.model)
        who = http.state.caller
        found = await _decided(engine, decisions_request(body, engine.config.media, http.state.request_id, who), http)
        if found is None:
            return Response(status_code=CLIENT_CLOSED)
        headers = ignored_header(cast(Any, body), card)
        return JSONResponse(decisions_json(body, found, card.id, who.operator), headers=headers)

    @router.post("/systemone")
    async def systemone(body: SystemOneRequest, http: Request) -> Response:
        card = await _card(engine, body.model)
        found = await _decided(engine, systemone_request(body, http.state.request_id, http.state.caller), http)
        if found is None:
            return Response(status_code=CLIENT_CLOSED)
        return JSONResponse(systemone_json(body, found, body.model or card.id))

    return router


async def _decided(engine: Engine, asked: Asked, http: Request) -> Decisions | None:
    """None where the client went away first."""
    return await unless_gone(engine.decide(*asked), http.receive)


async def _card(engine: Engine, name: str | None) -> ModelCard:
    """The loaded model. Raises Unavailable, and ModelNotFound for another name."""
    try:
        card = await asyncio.wait_for(engine.ready(), LOADING_WAIT_S)
    except TimeoutError:
        raise Unavailable("The model is still loading; ask again in a moment.") from None
    check_model(name, engine.config.model, card)
    return card
