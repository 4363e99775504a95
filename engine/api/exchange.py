"""One request over HTTP and how it is answered: streamed or whole, and cancelled when the client goes away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from engine.access.visibility import Caller
from engine.api.answers import Envelope
from engine.api.cards import check_model, fingerprint
from engine.api.fields import ignored_header
from engine.api.guard import CLIENT_CLOSED
from engine.api.sse import EVENTS, EventStream, StreamFormat, check_finished, chunks, open_stream, unless_gone
from engine.core import Engine
from engine.errors import Internal, Unavailable
from engine.types import Completion, Delta, Done, Event, Json, ModelCard, Preflight
from engine.types import Request as Generation

LOADING_WAIT_S = 30.0
"""How long a request waits for a model that is still loading before it is told to come back."""

Events = AsyncGenerator[Event, None]


async def ready(engine: Engine) -> ModelCard:
    """The loaded model. Raises Unavailable: still loading after a while, or failed."""
    try:
        return await asyncio.wait_for(engine.ready(), LOADING_WAIT_S)
    except TimeoutError:
        raise Unavailable("The model is still loading; ask again in a moment.") from None


@dataclass(frozen=True, slots=True)
class Exchange:
    """envelope: the fields of its answer; headers: those of its answer, which name what of the body was not read."""

    engine: Engine
    http: Request
    envelope: Envelope
    headers: Mapping[str, str]

    @classmethod
    async def begin(cls, engine: Engine, http: Request, body: BaseModel, model: str | None) -> Exchange:
        """Wait for the model, and check that it is the one asked for. Raises ModelNotFound and Unavailable."""
        card = await ready(engine)
        check_model(model, engine.config.model, card)
        caller: Caller = http.state.caller
        created, backend = int(time.time()), fingerprint(engine.snapshot())
        envelope = Envelope(http.state.request_id, created, card.id, backend, caller.operator)
        return cls(engine, http, envelope, ignored_header(body, card))

    @property
    def id(self) -> str:
        return self.envelope.id

    @property
    def who(self) -> Caller:
        """Who asks."""
        caller: Caller = self.http.state.caller
        return caller

    async def stream(self, events: Events, form: StreamFormat, media_type: str = EVENTS) -> Response:
        """The answer as it comes. Raises an EngineError that comes before the first event."""
        opening = await open_stream(events, self.http.receive)
        if opening is None:
            return Response(status_code=CLIENT_CLOSED)
        return EventStream(chunks(opening, form, self.id), self.headers, media_type)

    async def whole(self, events: Events, write: Callable[[Completion], Json]) -> Response:
        """The answer as one object. Raises EngineError."""
        completion = await unless_gone(_read(events), self.http.receive)
        if completion is None:
            return Response(status_code=CLIENT_CLOSED)
        check_finished(completion.done)
        return JSONResponse(write(completion), headers=dict(self.headers))

    async def gathered(self, events: Events, form: StreamFormat, write: Callable[[], Json]) -> Response:
        """The same of a format that puts the whole answer together while it streams: it hears all events, nothing is
        sent meanwhile, and then `write` has the answer. Raises EngineError."""
        done = await unless_gone(_hear(events, form), self.http.receive)
        if done is None:
            return Response(status_code=CLIENT_CLOSED)
        return JSONResponse(write(), headers=dict(self.headers))

    async def count(self, request: Generation, write: Callable[[Preflight], Json]) -> Response:
        """What a request would cost. Raises EngineError."""
        preflight = await unless_gone(self.engine.preflight(request), self.http.receive)
        if preflight is None:
            return Response(status_code=CLIENT_CLOSED)
        return JSONResponse(write(preflight), headers=dict(self.headers))


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
