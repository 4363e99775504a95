"""Reading a stream of events for a client that may go away, and writing it as it comes: as server-sent events, or as
lines of JSON.

A client that goes away cancels its request: the stream is closed, and the engine gives its row to someone else. That
is noticed while waiting, not at the next token, by listening for the disconnect beside every wait.
https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from engine.api.answering.failures import failure
from engine.api.chat.answers import ChatAnswer
from engine.api.http.lines import one_line
from engine.errors import EngineError, Internal
from engine.types import Delta, Done, Event, Json

log = logging.getLogger(__name__)

FIRST_EVENT_S = 10.0
"""How long a stream waits for its first event before its 200 is sent: errors until then have their own status."""

LOADING_S = 1.0
"""The same where its model has to be loaded or its media are described, and how often it is told then how far that
is."""

KEEPALIVE_S = 10.0
"""A long prefill sends a comment this often, so that proxies and clients do not give up."""

KEEPALIVE = ": still working\n\n"
DONE = "data: [DONE]\n\n"
Says = Callable[[], str]
"""What a stream waits for that has not begun, in words for its client; "" where that is only its turn."""

NO_HEADERS: Mapping[str, str] = {}
T = TypeVar("T")


def nothing() -> str:
    """Nothing to say of what is waited for."""
    return ""


async def unless_gone(work: Coroutine[Any, Any, T], receive: Receive) -> T | None:
    """The result of work, or None if the client went away first; work is then cancelled. Raises what work raises."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        await _cancel(task, gone)


class Opening:
    """A stream whose first event is asked for, but perhaps not there yet."""

    def __init__(self, events: AsyncGenerator[Event, None], waits_for: Says = nothing) -> None:
        self.events = events
        self.first = asyncio.ensure_future(anext(events))
        self._waits_for = waits_for

    async def wait(self) -> bool:
        """Wait a while for the first event. Raises its EngineError, so that it can be sent with its own status."""
        limit_s = 0.0
        while not self.first.done() and limit_s < FIRST_EVENT_S and not (limit_s and self._waits_for()):
            wait_s = min(LOADING_S, FIRST_EVENT_S - limit_s)
            await asyncio.wait({self.first}, timeout=wait_s)
            limit_s += wait_s
        if self.first.done():
            self.first.result()
        return True  # if it is still prefilling, errors from here on go into the stream

    async def close(self) -> None:
        await _cancel(self.first)
        await self.events.aclose()


async def open_stream(
    events: AsyncGenerator[Event, None], receive: Receive, waits_for: Says = nothing
) -> Opening | None:
    """Begin to read a stream. None, with the stream closed, if the client went away. Raises an early EngineError."""
    opening = Opening(events, waits_for)
    begun = False
    try:
        begun = bool(await unless_gone(opening.wait(), receive))
    finally:
        if not begun:
            await opening.close()
    return opening if begun else None


Piece = tuple[str, Json]
"""One event of an answer: its name, "" where it has none, and its JSON."""


@dataclass(frozen=True, slots=True)
class Wire:
    """How pieces are sent. write: one piece as text; keepalive: what is sent while nothing comes; end: what is sent
    behind a complete answer."""

    media_type: str
    write: Callable[[str, Json], str]
    keepalive: str = KEEPALIVE
    end: str = ""

    @property
    def has_comments(self) -> bool:
        """Whether something can be said that is no piece of the answer."""
        return self.keepalive.startswith(":")


def event(name: str, value: Json) -> str:
    """A value as one server-sent event, with its name where it has one."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {one_line(value)}\n\n"


def _line(name: str, value: Json) -> str:
    return one_line(value) + "\n"


SERVER_SENT = Wire("text/event-stream", event)
OPENAI = Wire("text/event-stream", event, end=DONE)
JSON_LINES = Wire("application/x-ndjson", _line, keepalive="")


class StreamFormat(Protocol):
    """How the events of one answer are written. Each method gives pieces, in order."""

    @property
    def wire(self) -> Wire:
        """How they are sent."""

    def opening(self) -> Iterator[Piece]:
        """What is sent before the first event."""

    def waiting(self) -> Iterator[Piece]:
        """What is sent while nothing comes, so that proxies and clients do not give up; nothing: the wire's own."""

    def pieces(self, delta: Delta) -> Iterator[Piece]:
        """One Delta."""

    def ending(self, done: Done) -> Iterator[Piece]:
        """The end of an answer that is complete."""

    def failed(self, error: EngineError) -> Iterator[Piece]:
        """The end of one that is not."""


class GrowingFormat(StreamFormat, Protocol):
    """A format that puts the answer together while it hears it."""

    def whole(self) -> Json:
        """The answer as one object, once it has ended."""


@dataclass(frozen=True, slots=True)
class OpenAIStream:
    """The chunks of a chat completion."""

    answer: ChatAnswer
    include_usage: bool
    wire: Wire = OPENAI

    def opening(self) -> Iterator[Piece]:
        yield from (("", chunk) for chunk in self.answer.opening())

    def waiting(self) -> Iterator[Piece]:
        yield from ()

    def pieces(self, delta: Delta) -> Iterator[Piece]:
        yield from (("", chunk) for chunk in self.answer.pieces(delta))

    def ending(self, done: Done) -> Iterator[Piece]:
        if self.include_usage:
            yield "", self.answer.usage(done)

    def failed(self, error: EngineError) -> Iterator[Piece]:
        yield "", error.to_openai()


async def chunks(
    opening: Opening, form: StreamFormat, request_id: str, waits_for: Says = nothing
) -> AsyncIterator[str]:
    """The whole body of a streamed answer. An error on the way is its last event. Closes the stream.

    waits_for: said in comments as long as nothing comes, of a format that has them.
    """
    try:
        async for text in _successful(opening, form, waits_for):
            yield text
    except EngineError as error:
        for piece in form.failed(error):
            yield form.wire.write(*piece)
    except Exception as error:
        for piece in form.failed(failure(error, request_id)):
            yield form.wire.write(*piece)
    finally:
        await opening.close()


async def _successful(opening: Opening, form: StreamFormat, waits_for: Says) -> AsyncIterator[str]:
    wire = form.wire
    for piece in form.opening():
        yield wire.write(*piece)
    while not opening.first.done():
        words = waits_for() if wire.has_comments else ""
        if words:
            yield f": {one_line(words)[1:-1]}\n\n"
        await asyncio.wait({opening.first}, timeout=LOADING_S if words else KEEPALIVE_S)
        if not words and not opening.first.done():
            yield "".join(wire.write(*piece) for piece in form.waiting()) or wire.keepalive
    latest = opening.first.result()
    while isinstance(latest, Delta):
        for piece in form.pieces(latest):
            yield wire.write(*piece)
        latest = await anext(opening.events)
    for piece in form.ending(check_finished(latest)):
        yield wire.write(*piece)
    if wire.end:
        yield wire.end


def check_finished(last: Event) -> Done:
    """The last event. Whoever still reads must not take a piece for the whole: "cancelled" is an error here."""
    if not isinstance(last, Done) or last.finish_reason == "cancelled":
        raise Internal("The answer was cancelled by the server before it was complete.", code="cancelled")
    return last


class EventStream(Response):
    """Sends text pieces as they come. Closes their source when the client goes away or when sending fails."""

    def __init__(
        self,
        pieces: AsyncIterator[str],
        headers: Mapping[str, str] = NO_HEADERS,
        media_type: str = SERVER_SENT.media_type,
    ) -> None:
        own = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        super().__init__(headers={**own, **headers}, media_type=media_type)
        del self.headers["content-length"]
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await unless_gone(self._send(send), receive)

    async def _send(self, send: Send) -> None:
        async with aclosing(self._pieces):  # type: ignore[type-var]
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for piece in self._pieces:
                await send({"type": "http.response.body", "body": piece.encode(), "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancel(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
