"""Run a request and say its events in the words of a protocol, streamed or whole. A client that goes away cancels it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from engine.api.answers import Envelope
from engine.api.cards import check_model, fingerprint
from engine.api.guard import CLIENT_CLOSED
from engine.api.sse import EVENTS, EventStream, StreamFormat, check_finished, chunks, open_stream, unless_gone
from engine.core import Engine
from engine.errors import Internal, Unavailable
from engine.types import Completion, Delta, Done, Event, Json, ModelCard

LOADING_WAIT_S = 30.0
"""How long a request waits for a model that is still loading before it is told to come back."""

Events = AsyncGenerator[Event, None]


async def ready(engine: Engine) -> ModelCard:
    """The loaded model. Raises Unavailable: still loading after a while, or failed."""
    try:
        return await asyncio.wait_for(engine.ready(), LOADING_WAIT_S)
    except TimeoutError:
        raise Unavailable("The model is still loading; ask again in a moment.") from None


async def name_answer(engine: Engine, model: str | None, http: Request) -> Envelope:
    """Names an answer, once it is known that its model is here. Raises ModelNotFound and Unavailable."""
    card = await ready(engine)
    check_model(model, engine.config.model, card)
    named = Envelope(http.state.request_id, int(time.time()), card.id, fingerprint(engine.snapshot()))
    return replace(named, operator=http.state.caller.operator)


async def stream_answer(events: Events, form: StreamFormat, http: Request, media_type: str = EVENTS) -> Response:
    """The answer as it comes. Raises an EngineError that comes before the first event."""
    opening = await open_stream(events, http.receive)
    if opening is None:
        return Response(status_code=CLIENT_CLOSED)
    return EventStream(chunks(opening, form, http.state.request_id), media_type)


async def whole_answer(events: Events, write: Callable[[Completion], Json], http: Request) -> Response:
    """The answer as one object. Raises EngineError."""
    completion = await unless_gone(_read(events), http.receive)
    if completion is None:
        return Response(status_code=CLIENT_CLOSED)
    check_finished(completion.done)
    return JSONResponse(write(completion))


async def replayed_answer(events: Events, form: StreamFormat, write: Callable[[], Json], http: Request) -> Response:
    """The same of a format that puts the whole answer together while it streams: it hears all events, and nothing is
    sent before `write`. Raises EngineError."""
    done = await unless_gone(_hear(events, form), http.receive)
    return Response(status_code=CLIENT_CLOSED) if done is None else JSONResponse(write())


async def _read(events: Events) -> Completion:
    async with aclosing(events):
        return await Completion.read(events)


async def _hear(events: Events, form: StreamFormat) -> Done:
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Delta):
                list(form.pieces(event))
            else:
                list(form.ending(check_finished(event)))
                return event
    raise Internal("An answer ended without its last event.")
