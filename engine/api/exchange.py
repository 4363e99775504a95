"""One request over HTTP and how it is answered: streamed or whole, and cancelled when the client goes away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from engine.access.visibility import Caller
from engine.api.answers import Envelope
from engine.api.cards import LOADING, describing_words, fingerprint, loading_words
from engine.api.fields import ignored_header
from engine.api.guard import CLIENT_CLOSED, dialect
from engine.api.refused import refuse
from engine.api.sse import EventStream, GrowingFormat, StreamFormat, check_finished, chunks, open_stream, unless_gone
from engine.core import Engine
from engine.errors import Internal, Unavailable
from engine.types import Completion, Delta, Done, Event, Json, ModelCard, Preflight, TokenText
from engine.types import Request as Generation

LOADING_WAIT_S = 30.0
"""How long a request waits for a model that is still loading before it is told to come back."""

Events = AsyncGenerator[Event, None]
T = TypeVar("T")


async def ready(engine: Engine, model: str | None = None) -> ModelCard:
    """A model, once it was loaded. While the server starts: raises Unavailable where it takes long, or failed."""
    if engine.snapshot().state not in LOADING:
        return await engine.ready(model)
    try:
        return await asyncio.wait_for(engine.ready(model), LOADING_WAIT_S)
    except TimeoutError:
        raise Unavailable("The model is still loading; ask again in a moment.") from None


@dataclass(frozen=True, slots=True)
class Exchange:
    """envelope: the fields of its answer; body: what was asked; model: the name of the one that answers."""

    engine: Engine
    http: Request
    envelope: Envelope
    body: BaseModel
    model: str

    @classmethod
    async def begin(cls, engine: Engine, http: Request, body: BaseModel, model: str | None) -> Exchange:
        """Find the model that was asked for, and check that the body asks for nothing that is not served; wait for the
        model while the server starts, but what is streamed can say meanwhile that it waits. Raises ModelNotFound,
        Unavailable and BadRequest."""
        name = engine.config.find(model).served_name
        refuse(body)
        if engine.snapshot().state in LOADING and not getattr(body, "stream", False):
            await ready(engine, name)
        caller: Caller = http.state.caller
        created, backend = int(time.time()), fingerprint(engine.snapshot())
        envelope = Envelope(http.state.request_id, created, name, backend, caller.operator)
        return cls(engine, http, envelope, body, name)

    def asked(self, request: Generation) -> Generation:
        """The request, of the model that was asked for."""
        return replace(request, model=self.model, dialect=dialect(self.http.url.path))

    async def token_text(self) -> Callable[[int], TokenText]:
        """What a token id of the model stands for."""
        return await self.engine.token_texts(self.model)

    @property
    def headers(self) -> Mapping[str, str]:
        """Those of its answer, which name what of the body was not read."""
        return ignored_header(self.body, self.engine.snapshot().card_of(self.model))

    @property
    def id(self) -> str:
        return self.envelope.id

    @property
    def who(self) -> Caller:
        """Who asks."""
        caller: Caller = self.http.state.caller
        return caller

    async def stream(self, events: Events, form: StreamFormat) -> Response:
        """The answer as it comes. Raises an EngineError that comes before the first event."""
        opening = await open_stream(events, self.http.receive, self._waits_for)
        if opening is None:
            return Response(status_code=CLIENT_CLOSED)
        return EventStream(chunks(opening, form, self.id, self._waits_for), self.headers, form.wire.media_type)

    def _waits_for(self) -> str:
        """What its vision model is doing as long as that describes media; then what its model is doing as long as that
        is not there; "" once it is."""
        progress = self.engine.describing(self.id)
        name = progress.model if progress else self.model
        loading = next((loading_words(state) for state in self.engine.models() if state.name == name), "")
        return loading or (describing_words(progress) if progress else "")

    async def whole(self, events: Events, write: Callable[[Completion], Json]) -> Response:
        """The answer as one object. Raises EngineError."""
        return await self.awaited(_read(events), write)

    async def answer(self, events: Events, form: GrowingFormat, *, is_streamed: bool) -> Response:
        """The answer of a format that puts it together while it hears it: as it comes, or as one object. Raises
        EngineError; of a stream, one that comes before its first event."""
        if is_streamed:
            return await self.stream(events, form)
        return await self.awaited(_hear(events, form), lambda _: form.whole())

    async def count(self, request: Generation, write: Callable[[Preflight], Json]) -> Response:
        """What a request would cost. Raises EngineError."""
        return await self.awaited(self.engine.preflight(self.asked(request)), write)

    async def awaited(self, work: Coroutine[Any, Any, T], write: Callable[[T], Json]) -> Response:
        """What comes of work, as one object. It is cancelled if the client goes away. Raises what work raises."""
        found = await unless_gone(work, self.http.receive)
        return Response(status_code=CLIENT_CLOSED) if found is None else self.json(write(found))

    def json(self, value: Json) -> Response:
        """A value with the headers of this answer."""
        return JSONResponse(value, headers=dict(self.headers))


async def _read(events: Events) -> Completion:
    async with aclosing(events):
        completion = await Completion.read(events)
    check_finished(completion.done)
    return completion


async def _hear(events: Events, form: GrowingFormat) -> Done:
    """Read a stream for a format, which hears all of it; nothing is sent meanwhile."""
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Delta):
                list(form.pieces(event))
            else:
                list(form.ending(check_finished(event)))
                return event
    raise Internal("An answer ended without its last event.")
