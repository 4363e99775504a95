"""The models that other servers answer for: whether these can be reached, and their answers as events. No MLX.

Serving.stream ── events ──> media as they came ──> OpenAI's body ──> POST, streamed ──> Deltas, Done
whoever looks  ── look ────> a thread: GET /v1/models, seldom ──> the slot's stage and card
"""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from concurrent.futures import Future
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from engine.config import EngineConfig
from engine.errors import BadGateway, BadRequest, EngineError, Unavailable
from engine.media.loader import Loader
from engine.media.sniff import media_type
from engine.remote.answer import AnswerReader
from engine.remote.card import chosen, remote_card
from engine.remote.connection import answered, listed_models
from engine.remote.failures import unreachable
from engine.remote.vocabulary import RemoteVocabulary
from engine.request_body import openai_body, route, unsayable
from engine.runtime.checks import check, check_numbers
from engine.runtime.deadline import Deadline
from engine.runtime.slots import ModelSlot, ModelSlots
from engine.runtime.tickets import Ticket
from engine.types import NO_LIMIT, Event, Json, Part, RemoteServer, Request, Running, Sampling

AGAIN_S = 15.0
"""So long what was learnt of a server holds, where somebody looks."""

AGAIN_FAILED_S = 3.0

T = TypeVar("T")
InThread = Callable[[Callable[[], None]], Any]


@dataclass(eq=False)
class RemoteLink:
    """One model of another server. model: its name there, once it is known. probe: the look at it that goes on now.
    is_settled: False where the server said of the model that it is still on its way, as this project's do."""

    slot: ModelSlot
    server: RemoteServer
    model: str | None
    words: RemoteVocabulary = field(default_factory=RemoteVocabulary)
    probe: Future[None] | None = None
    looked_s: float = -AGAIN_S
    is_settled: bool = True

    @property
    def is_due(self) -> bool:
        again_s = AGAIN_S if self.is_settled and self.slot.stage != "failed" else AGAIN_FAILED_S
        return self.probe is None and time.monotonic() - self.looked_s >= again_s


@dataclass(eq=False)
class OpenRequest:
    """One that a server answers now, in the event loop that made this. What it waits for ends with its deadline, and
    when the engine is stopped."""

    request: Request
    model: str
    deadline: Deadline
    has_begun: bool = False
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self, work: Awaitable[T]) -> T:
        """What work gives. Raises TimedOut, Unavailable, and what work raises."""
        working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(self.stopped.wait())
        try:
            await self.deadline.wait(asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED))
            if not working.done():
                raise Unavailable("The engine was stopped.")
            return working.result()
        finally:
            stopping.cancel()
            if not working.done():
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)

    def stop(self) -> None:
        """Any thread."""
        with suppress(RuntimeError):  # its loop is closed
            self.loop.call_soon_threadsafe(self.stopped.set)

    def running(self) -> Running:
        age_ms = (time.perf_counter() - self.deadline.accepted_s) * 1e3
        stage: Any = "decode" if self.has_begun else "prefill"
        request = self.request
        return Running(request.id, stage, 0, 0, 0, age_ms, request.source, request.session, self.model)


class RemoteServers:
    """slots: of all models; those of other servers are looked after here. submit: has a blocking work done in a
    thread."""

    def __init__(self, slots: ModelSlots, config: EngineConfig, media: Loader, submit: InThread) -> None:
        self._slots = slots
        self._config = config
        self._media = media
        self._submit = submit
        self._lock = threading.Lock()
        self._began = int(time.time())
        self._links: dict[str, RemoteLink] = {}
        self._open: dict[int, OpenRequest] = {}
        for slot in slots:
            if (server := slot.config.model.server) is not None:
                slot.card = remote_card(slot.config.model, server, config, None, self._began)
                self._links[slot.name] = RemoteLink(slot, server, server.model)

    def __bool__(self) -> bool:
        return bool(self._links)

    def look(self) -> None:
        """Ask the servers that nobody has asked for a while, in the background. Any thread, never blocks."""
        for link in self._links.values():
            if link.is_due:
                self._probe(link)

    async def reached(self, slot: ModelSlot) -> None:
        """Look at a server now. Raises what keeps it from answering."""
        probe = self._probe(self._links[slot.name])
        await asyncio.shield(asyncio.wrap_future(probe))  # others may wait for the same
        if slot.stage == "failed" and slot.failure is not None:
            raise replaced(slot.failure)

    def vocabulary(self, slot: ModelSlot) -> RemoteVocabulary:
        """What the numbers of its tokens stand for."""
        return self._links[slot.name].words

    def running(self) -> tuple[Running, ...]:
        """Those that are being answered. Any thread."""
        return tuple(one.running() for one in list(self._open.values()))

    def close(self) -> None:
        """The requests that are being answered end with an error. Any thread."""
        for one in list(self._open.values()):
            one.stop()

    async def events(
        self, request: Request, slot: ModelSlot, ticket: Ticket, deadline: Deadline
    ) -> AsyncGenerator[Event, None]:
        """The events of a request that has a place. Closing the iterator cancels it at the server, too."""
        link = self._links[slot.name]
        request = self._asked(request, slot)
        row = self._open[id(ticket)] = OpenRequest(request, slot.name, deadline)
        slot.begin_use()
        try:
            contents = await row.wait(self._media.as_sent(request, ticket))
            ticket.clock.enter("prepare")
            model = await row.wait(self._model_of(link))
            body = await row.wait(self._media.compute(request, partial(_encoded, request, model, contents)))
            del contents
            ticket.release_media()
            ticket.clock.enter("server")
            reader = AnswerReader(link.server, model, request, link.words, deadline.accepted_s)
            async with aclosing(answered(link.server, route(request), body, row)) as chunks:
                async for chunk in chunks:
                    deltas = reader.read(chunk)
                    if reader.has_begun and not row.has_begun:
                        row.has_begun = True
                        ticket.clock.enter("decode")
                    for delta in deltas:
                        yield delta
                    if chunk is None:
                        break
            done = reader.done()
            self._show(link, None)
        except EngineError as error:
            if error.code == "server_key_refused":
                self._show(link, error)
            elif error.code == "server_unreachable":
                self._probe(link)  # perhaps only this request could not be sent
            link.looked_s = -AGAIN_S  # whoever looks next learns how it is now
            raise
        finally:
            slot.end_use()
            self._open.pop(id(ticket), None)
        yield done

    def _asked(self, request: Request, slot: ModelSlot) -> Request:
        """The request with what this server's operator said for all. Raises BadRequest for what cannot be sent on."""
        card, server = slot.card, slot.config.model.server
        assert card is not None and server is not None, "only models of other servers come here"
        if card.takes_known:
            check(request, card, self._config.media)
        else:
            check_numbers(request)
        why = unsayable(request) or ("its token ids are known only there" if request.prompt_ids else "")
        if why := why or ("" if request.reuse else "whether it uses its cache is up to that server"):
            raise BadRequest(
                f"{slot.name} is served by {server.host}, which cannot be asked for this: {why}.", code="remote_model"
            )
        return replace(
            request,
            model=slot.name,
            sampling=_over(request.sampling, self._config.sampling),
            frames=request.frames.over(self._config.frames),
            coordinates=request.coordinates or ("original" if self._config.coordinates == "original" else None),
            max_tokens=None if request.max_tokens == NO_LIMIT else request.max_tokens,
        )

    async def _model_of(self, link: RemoteLink) -> str:
        if link.model is None:
            await self.reached(link.slot)
        if link.model is None:
            why = f"{link.server.host} does not say which models it has: name one (server_model)."
            raise BadGateway(why, code="server_model_unknown")
        return link.model

    def _probe(self, link: RemoteLink) -> Future[None]:
        """The look that goes on, or one that begins now."""
        with self._lock:
            if link.probe is not None:
                return link.probe
            probe: Future[None] = Future()
            link.probe = probe

        def look() -> None:
            try:
                self._listed(link, listed_models(link.server))
                self._show(link, None)
            except EngineError as error:
                self._show(link, error)
            except Exception as error:
                self._show(link, unreachable(link.server, error))
            link.looked_s, link.probe = time.monotonic(), None
            probe.set_result(None)

        try:
            self._submit(look)
        except RuntimeError:  # the pool is closed
            link.probe = None
            probe.set_exception(Unavailable("The engine was stopped."))
        return probe

    def _listed(self, link: RemoteLink, listed: list[Json]) -> None:
        told = chosen(listed, link.server)
        if link.server.model is None and told is not None and isinstance(told.get("id"), str):
            link.model = told["id"]
        if told is not None:
            link.is_settled = told.get("state", "ready") == "ready"
            link.slot.card = remote_card(link.slot.config.model, link.server, self._config, told, self._began)

    def _show(self, link: RemoteLink, error: EngineError | None) -> None:
        """The server was reached, or was not, for this reason."""
        link.slot.failure = error and replaced(error)
        link.slot.show("failed" if error else "ready", error=error.message if error else None)


def replaced(error: EngineError) -> EngineError:
    """The same without what it was raised by: one may be that of many requests."""
    told = error.told("")
    told.__traceback__ = told.__cause__ = told.__context__ = None
    return told


def _over(said: Sampling, default: Sampling) -> Sampling:
    """Where a request leaves it open, the default's."""
    left = {name: getattr(default, name) for name in Sampling.__dataclass_fields__ if getattr(said, name) in (None, ())}
    return replace(said, **left)


def _encoded(request: Request, model: str, contents: Mapping[Part, bytes]) -> bytes:
    """The body, with every medium in it as it came."""

    def named(part: Part) -> str:
        data = contents[part]
        return f"data:{media_type(data)};base64,{base64.b64encode(data).decode()}"

    body = openai_body(request, model, named) | {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(body, separators=(",", ":"), allow_nan=False).encode()
