"""POST /v1/embeddings and /v1/rerank. A model whose folder does not say that it gives them is refused in words."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from engine.api.answering.exchange import Exchange
from engine.api.completions.convert import listed
from engine.api.http.guard import guarded_route
from engine.api.vectors.answers import document_text, embeddings_text, rerank_json
from engine.api.vectors.schemas import EmbeddingsRequest, RerankRequest
from engine.config import ServerConfig
from engine.core import Engine
from engine.types import DocumentsToRank, TextsToEmbed
from engine.types import Request as Generation


def vectors_router(engine: Engine, config: ServerConfig) -> APIRouter:
    """Texts that are read and not answered. /v1/models says who does: capabilities.embeddings, capabilities.rerank."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"], route_class=guarded_route(config))

    @router.post("/embeddings", summary="A vector for each text, of a model that makes them")
    async def embeddings(body: EmbeddingsRequest, http: Request) -> Response:
        exchange = await Exchange.begin(engine, http, body, body.model)
        texts = tuple(listed(body.input, "input"))
        asked = TextsToEmbed(texts, body.dimensions, body.prompt_name, exchange.model, _sent(exchange))

        async def written() -> bytes:
            embedded = await engine.embed(asked)
            return await engine.aside(lambda: embeddings_text(body, embedded, exchange.model))

        return await exchange.written(written())

    @router.post("/rerank", summary="How well each document answers a query, by a model that says so")
    async def rerank(body: RerankRequest, http: Request) -> Response:
        exchange = await Exchange.begin(engine, http, body, body.model)
        documents = tuple(document_text(body, i) for i in range(len(body.documents)))
        asked = DocumentsToRank(body.query, documents, body.instruction, exchange.model, _sent(exchange))
        return await exchange.awaited(
            engine.rank(asked), lambda ranked: rerank_json(body, ranked, exchange.model, exchange.id)
        )

    return router


def _sent(exchange: Exchange) -> Generation:
    return exchange.asked(Generation(id=exchange.id, tenant=exchange.who.tenant()))
