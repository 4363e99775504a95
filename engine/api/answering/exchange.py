"""One request over HTTP and how it is answered: streamed or whole, and cancelled when the client goes away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from engine.access.visibility import Caller
from engine.api.answering.envelope import Envelope
from engine.api.answering.sse import (
    NO_HEADERS,
    EventStream,
    GrowingFormat,
    StreamFormat,
    check_finished,
    chunks,
    open_stream,
    unless_gone,
)
from engine.api.bodies.fields import ignored_header
from engine.api.bodies.refused import refuse
from engine.api.http.guard import CLIENT_CLOSED, dialect, traceparent
from engine.api.models.cards import LOADING, describing_words, fingerprint, loading_words, without_folders
from engine.core import Engine
from engine.errors import EngineError, Internal, Unavailable
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


class TokenTexts:
    """What a token id stands for, of a model that may not be loaded yet. look: finds it out."""

    def __init__(self, look: Callable[[], Awaitable[Callable[[int], TokenText]]]) -> None:
        self._look = look
        self._text: Callable[[int], TokenText] | None = None

    async def over(self, events: Events) -> Events:
        """The same events; with the first of them, whose model is there, it is found out."""
        async with aclosing(events):
            async for event in events:
                self._text = self._text or await self._look()
                yield event

    def __call__(self, token_id: int) -> TokenText:
        assert self._text is not None, "no event has come"
        return self._text(token_id)


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
        exchange = cls.of(engine, http, body, model)
        if engine.snapshot().state in LOADING and not getattr(body, "stream", False):
            await ready(engine, exchange.model)
        return exchange

    @classmethod
    def of(cls, engine: Engine, http: Request, body: BaseModel, model: str | None) -> Exchange:
        """The same without waiting, for what needs no model that is there."""
        name = engine.config.find(model).served_name
        refuse(body)
        caller: Caller = http.state.caller
        created, backend = int(time.time()), fingerprint(engine.snapshot())
        envelope = Envelope(http.state.request_id, created, name, backend, caller.operator)
        return cls(engine, http, envelope, body, name)

    def asked(self, request: Generation) -> Generation:
        """The request, of the model that was asked for."""
        name, parent = dialect(self.http.url.path), traceparent(self.http)
        return replace(request, model=self.model, dialect=name, traceparent=parent)

    def token_text(self) -> TokenTexts:
        """What a token id of the model stands for, once the first event of an answer is there."""
        return TokenTexts(lambda: self.engine.token_texts(self.model))

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
        opening = await open_stream(self._told(events), self.http.receive, self._waits_for)
        if opening is None:
            return Response(status_code=CLIENT_CLOSED)
        return EventStream(chunks(opening, form, self.id, self._waits_for), self.headers, form.wire.media_type)

    async def _told(self, events: Events) -> Events:
        """The same events, and errors as a client is told of them."""
        try:
            async with aclosing(events):
                async for event in events:
                    yield event
        except EngineError as error:
            raise without_folders(error, self.engine.models()) from error

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
        return await whole_unless_gone(work, self.http, write, self.headers)

    async def written(self, work: Coroutine[Any, Any, bytes]) -> Response:
        """JSON that work has written. It is cancelled if the client goes away. Raises what work raises."""
        found = await unless_gone(work, self.http.receive)
        if found is None:
            return Response(status_code=CLIENT_CLOSED)
        return Response(found, headers=dict(self.headers), media_type=JSONResponse.media_type)

    def json(self, value: Json) -> Response:
        """A value with the headers of this answer."""
        return JSONResponse(value, headers=dict(self.headers))


async def whole_unless_gone(
    work: Coroutine[Any, Any, T],
    http: Request,
    write: Callable[[T], Json],
    headers: Mapping[str, str] = NO_HEADERS,
) -> Response:
    """What comes of work, as one object. It is cancelled if the client goes away. Raises what work raises."""
    found = await unless_gone(work, http.receive)
    if found is None:
        return Response(status_code=CLIENT_CLOSED)
    return JSONResponse(write(found), headers=dict(headers))


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
