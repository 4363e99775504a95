"""POST /v1/completions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fastapi import APIRouter, Request, Response

from engine.api.answering.exchange import Exchange
from engine.api.completions.answers import TextStream
from engine.api.completions.convert import text_requests
from engine.api.completions.prompt_list import stream_each
from engine.api.completions.schemas import TextRequest
from engine.api.http.guard import guarded_route
from engine.config import ServerConfig
from engine.core import Engine
from engine.types import TokenText


def completions_router(engine: Engine, config: ServerConfig) -> APIRouter:
    """Text completions of one prompt or many."""
    router = APIRouter(prefix="/v1", tags=["OpenAI"], route_class=guarded_route(config))

    @router.post("/completions", summary="Texts that go on from one prompt or many")
    async def completions(body: TextRequest, http: Request) -> Response:
        exchange = await Exchange.begin(engine, http, body, body.model)
        requests = [exchange.asked(request) for request in text_requests(body, exchange.id, exchange.who)]
        texts = exchange.token_text()
        answer = TextStream(
            exchange.envelope,
            n=body.n or 1,
            echoes=[partial(_echo, request.prompt, texts) for request in requests] if body.echo else (),
            token_text=texts if body.logprobs is not None else None,
            include_usage=bool(body.stream_options and body.stream_options.include_usage),
        )
        events = engine.stream(requests[0]) if len(requests) == 1 else stream_each(engine, requests)
        return await exchange.answer(texts.over(events), answer, is_streamed=bool(body.stream))

    return router


def _echo(prompt: str | tuple[int, ...] | None, token_text: Callable[[int], TokenText]) -> str:
    """A prompt as it begins its answer."""
    if prompt is None or isinstance(prompt, str):
        return prompt or ""
    return b"".join(token_text(id).raw or b"" for id in prompt).decode("utf-8", "replace")
