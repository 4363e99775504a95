"""POST, GET and DELETE of /v1/responses."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from engine.access.visibility import Caller
from engine.api.answering.envelope import Envelope
from engine.api.answering.exchange import Exchange
from engine.api.answering.logprobs import LogprobsWriter
from engine.api.http.guard import guarded_route
from engine.api.responses.answers import ResponseStream
from engine.api.responses.convert import counted_request, response_request
from engine.api.responses.items import read_input
from engine.api.responses.schemas import CountedResponse, ResponsesRequest
from engine.api.responses.store import KeptResponse, ResponseStore
from engine.config import ServerConfig
from engine.core import Engine
from engine.errors import BadRequest, ModelNotFound
from engine.types import Json, Message
from engine.types import Request as Generation


def responses_router(engine: Engine, config: ServerConfig) -> APIRouter:
    """OpenAI's Responses API. What it keeps, it keeps as long as the server runs."""
    router = APIRouter(prefix="/v1/responses", tags=["OpenAI"], route_class=guarded_route(config))
    store = ResponseStore()

    def earlier(body: CountedResponse, who: Caller) -> KeptResponse | None:
        if not body.previous_response_id:
            return None
        try:
            return store.find(who.tenant(), body.previous_response_id)
        except ModelNotFound as error:
            param = "previous_response_id"
            raise BadRequest(f"{param}: {error.message}", param=param, code="previous_response_not_found") from error

    @router.post("", summary="A response, whole or as typed events")
    async def create(body: ResponsesRequest, http: Request) -> Response:
        exchange = await Exchange.begin(engine, http, body, body.model)
        who = exchange.who
        before = earlier(body, who)
        history = before.messages if before else ()
        request = response_request(body, engine.config.media, history, exchange.id, who)

        def keep(response: Json) -> None:
            items = [{"role": "user", "content": body.input}] if isinstance(body.input, str) else body.input or []
            asked = _without_instructions(request, body)[len(history) :]
            spoken = read_input(response["output"], engine.config.media)
            store.keep(who.tenant(), KeptResponse.of(response, items, (*asked, *spoken), before))

        texts, events = exchange.token_text(), engine.stream(exchange.asked(request))
        logprobs = LogprobsWriter(texts) if request.logprobs is not None else None
        head = response_head(body, exchange.envelope)
        answer = ResponseStream(head, who.operator, logprobs, None if body.store is False else keep)
        return await exchange.answer(texts.over(events), answer, is_streamed=bool(body.stream))

    @router.post("/input_tokens", summary="How many tokens a response would read")
    async def input_tokens(body: CountedResponse, http: Request) -> Response:
        exchange = await Exchange.begin(engine, http, body, body.model)
        who = exchange.who
        before = earlier(body, who)
        history = before.messages if before else ()
        request = counted_request(body, engine.config.media, history, exchange.id, who)
        kind = "response.input_tokens"
        return await exchange.count(request, lambda counted: {"object": kind, "input_tokens": len(counted.tokens)})

    @router.get("/{response_id}", summary="A response that was kept")
    async def retrieve(response_id: str, http: Request) -> Json:
        return store.find(http.state.caller.tenant(), response_id).response

    @router.get("/{response_id}/input_items", summary="What it was asked")
    async def input_items(response_id: str, http: Request) -> Json:
        items = store.find(http.state.caller.tenant(), response_id).input
        data = [{"id": f"{response_id}_{i}", "type": "message", **item} for i, item in enumerate(items)]
        ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
        return {"object": "list", "data": data, "has_more": False, **ends}

    @router.delete("/{response_id}", summary="Forget a response")
    async def delete(response_id: str, http: Request) -> Json:
        store.forget(http.state.caller.tenant(), response_id)
        return {"id": response_id, "object": "response", "deleted": True}

    return router


def _without_instructions(request: Generation, body: CountedResponse) -> tuple[Message, ...]:
    return request.messages[1:] if body.instructions else request.messages


def response_head(body: ResponsesRequest, envelope: Envelope) -> dict[str, Any]:
    """What a response says of its request."""
    return {
        "id": envelope.id,
        "object": "response",
        "created_at": envelope.created,
        "model": envelope.model,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": None,
        "metadata": body.metadata or {},
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": {"effort": (body.reasoning or {}).get("effort"), "summary": None},
        "safety_identifier": body.safety_identifier,
        "service_tier": "default",
        "store": body.store is not False,
        "temperature": body.temperature,
        "text": body.text or {"format": {"type": "text"}},
        "tool_choice": body.tool_choice or "auto",
        "tools": body.tools or [],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": body.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": body.user,
    }
