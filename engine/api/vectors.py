"""POST /v1/embeddings and /v1/rerank: no model that this engine loads gives vectors, and that is what they say.

A server without the routes would answer 404, which clients take for a wrong address.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict

from engine.api.exchange import Exchange
from engine.api.guard import guarded_route
from engine.config import ServerConfig
from engine.core import Engine
from engine.errors import BadRequest


class VectorRequest(BaseModel):
    """What both routes take. documents: of /v1/rerank."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    model: str | None = None
    documents: Any = None


def vectors_router(engine: Engine, config: ServerConfig) -> APIRouter:
    """Refusals. /v1/models says so, too: capabilities.embeddings."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"], route_class=guarded_route(config))

    @router.post("/rerank", summary="Refused: models here write answers")
    @router.post("/embeddings", summary="Refused: models here write answers")
    async def refused(body: VectorRequest, http: Request) -> Any:
        exchange = await Exchange.begin(engine, http, body, body.model)
        why = f"{exchange.envelope.model} writes answers and gives no embeddings"
        raise BadRequest(
            f"model: {why}; this server loads models that answer.", param="model", code="unsupported_model"
        )

    return router
