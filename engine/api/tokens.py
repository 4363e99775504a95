"""Tokens of a text or a chat, and the text of tokens, at vLLM's paths: at the root, and under /v1."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from engine.access.visibility import Caller
from engine.api.answering.exchange import Exchange
from engine.api.answering.usage import preflight_json
from engine.api.bodies.generation import TokenId, cache_salt
from engine.api.chat.convert import chat_request
from engine.api.chat.schemas import ChatRequest
from engine.api.completions.convert import read_prompts
from engine.api.http.guard import guarded_route
from engine.config import MediaLimits, ServerConfig
from engine.core import Engine
from engine.errors import BadRequest
from engine.types import Json
from engine.types import Request as Generation


class TokenizeRequest(ChatRequest):
    """POST /v1/tokenize, after vLLM's: a chat, or a raw prompt."""

    messages: list[dict[str, Any]] | None = None  # type: ignore[assignment]
    prompt: str | list[TokenId] | None = None
    add_special_tokens: StrictBool | None = Field(None, description="false: a prompt without the tokenizer's own")
    return_token_strs: StrictBool | None = Field(None, description="each token as text, too")


class DetokenizeRequest(BaseModel):
    """POST /v1/detokenize, after vLLM's."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    model: str | None = None
    tokens: list[TokenId]


def tokens_router(engine: Engine, config: ServerConfig) -> APIRouter:
    """Nothing is answered and nothing counted; see Engine.preflight."""
    router = APIRouter(tags=["Tokens"], route_class=guarded_route(config))

    @router.post("/v1/tokenize", summary="What a request would cost, before it is sent")
    @router.post("/tokenize", summary="What a request would cost, before it is sent")
    async def tokenize(body: TokenizeRequest, http: Request) -> Response:
        exchange = await Exchange.begin(engine, http, body, body.model)
        request = tokenize_request(body, engine.config.media, exchange.id, exchange.who)
        asked = exchange.asked(request)
        card = engine.snapshot().card_of(asked.model)
        if body.return_token_strs and card is not None and card.server:
            why = f"{card.server} numbers its tokens, and only it knows them; ask /detokenize for their text"
            raise BadRequest(f"return_token_strs: {why}.", param="return_token_strs", code="remote_model")

        async def counted() -> Json:
            token_text = await engine.token_texts(asked.model) if body.return_token_strs else None
            return preflight_json(await engine.preflight(asked), token_text)

        return await exchange.awaited(counted(), lambda found: found)

    @router.post("/v1/detokenize", summary="The text of token ids")
    @router.post("/detokenize", summary="The text of token ids")
    async def detokenize(body: DetokenizeRequest, http: Request) -> Response:
        exchange = await Exchange.begin(engine, http, body, body.model)
        return await exchange.awaited(engine.detokenize(body.tokens, exchange.model), lambda text: {"prompt": text})

    return router


def tokenize_request(body: TokenizeRequest, limits: MediaLimits, request_id: str, who: Caller) -> Generation:
    """The Request whose prompt is to be counted."""
    if (body.messages is None) == (body.prompt is None):
        raise BadRequest("messages: send either messages or prompt.", param="messages")
    if body.prompt is None:
        if body.add_special_tokens:
            why = "a chat has those of its template; only a prompt takes more"
            raise BadRequest(f"add_special_tokens: {why}.", param="add_special_tokens")
        return chat_request(body, limits, request_id, who)
    return Generation(
        prompt=read_prompts(body.prompt)[0],
        add_special_tokens=body.add_special_tokens is not False,
        id=request_id,
        tenant=who.tenant(cache_salt(body)),
    )
