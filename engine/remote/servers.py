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
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import aclosing, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from engine.access.visibility import salt_beyond
from engine.config import EngineConfig
from engine.errors import BadGateway, BadRequest, EngineError, Unavailable, caused
from engine.media.loader import Loader
from engine.media.sniff import media_type
from engine.remote.answer import AnswerReader, as_text
from engine.remote.card import chosen, remote_card
from engine.remote.connection import OutgoingBody, answered, listed_models, whole
from engine.remote.counts import DETOKENIZE, TOKENIZE, at_root, read_tokens
from engine.remote.decisions import ROUTE as DECISIONS
from engine.remote.decisions import (
    decisions_body,
    read_decisions,
    sampled,
    unsayable_question,
    usage_of_chat,
    written_tokens,
)
from engine.remote.failures import NO_ROUTE, not_understood, said_in_the_middle, unreachable
from engine.remote.links import AGAIN_S, OpenRequest, RemoteLink
from engine.remote.vocabulary import RemoteVocabulary
from engine.request_body import openai_body, route, unsayable
from engine.runtime.intake.checks import check, check_numbers
from engine.runtime.intake.deadline import Deadline
from engine.runtime.intake.tickets import Ticket
from engine.runtime.loading.slots import ModelSlot, ModelSlots
from engine.types import (
    NO_LIMIT,
    Decisions,
    Event,
    Json,
    Message,
    Part,
    Preflight,
    Request,
    Running,
    Sampling,
    TypedQuestion,
)

LACKS_S = 300.0
"""So long it holds that a server lacks a route; or until it comes back from being away."""

T = TypeVar("T")
InThread = Callable[[Callable[[], None]], Any]
MakeBody = Callable[[str, Callable[[Part], str]], Json]
"""(the model's name there, the URL of a medium) -> a body."""


class RemoteServers:
    """slots: of all models; those of other servers are looked after here. aside: has a blocking work done in a thread
    of its own, one at a time for each of them."""

    def __init__(self, slots: ModelSlots, config: EngineConfig, media: Loader, aside: InThread) -> None:
        self._slots = slots
        self._config = config
        self._media = media
        self._aside = aside
        self._is_closed = False
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
        return tuple(one.running() for one in list(self._open.values()) if not one.is_preflight)

    def close(self) -> None:
        """The requests that are being answered end with an error. Any thread."""
        self._is_closed = True
        for one in list(self._open.values()):
            one.stop()

    async def events(
        self, request: Request, slot: ModelSlot, ticket: Ticket, deadline: Deadline
    ) -> AsyncGenerator[Event, None]:
        """The events of a request that has a place. Closing the iterator cancels it at the server, too."""
        with self._asking(self._asked(request, slot), slot, ticket, deadline) as (link, row):
            model, body = await self._sent(link, row, ticket, partial(_chat_body, row.request))
            reader = AnswerReader(link.server, model, row.request, link.words, deadline.accepted_s)
            async with aclosing(answered(link.server, link.server.url + route(request), body, row)) as chunks:
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
        yield done

    async def decide(
        self, request: Request, questions: Sequence[TypedQuestion], slot: ModelSlot, ticket: Ticket, deadline: Deadline
    ) -> Decisions:
        """What a server that has /v1/decisions answers. Raises BadRequest where it has not, and EngineError."""
        frames = request.frames.over(self._config.frames)
        questions = [replace(one, instructions=sampled(one.instructions, frames)) for one in questions]
        about = tuple(replace(message, parts=sampled(message.parts, frames)) for message in request.messages)
        own = Message("user", tuple(part for question in questions for part in question.instructions))
        with_all = replace(request, messages=(*about, own))  # the media of the questions are read, too
        prompts = [replace(request, messages=(*about, Message("user", one.instructions))) for one in questions]
        asked = self._asked(with_all, slot, unsayable_question(questions), prompts=prompts, cache_may_be_off=True)
        with self._asking(asked, slot, ticket, deadline) as (link, row):
            ask = partial(decisions_body, replace(asked, messages=about), questions)
            model, told = await self._told(link, link.server.url + DECISIONS, row, ticket, ask)
            reader = AnswerReader(link.server, model, asked, link.words, deadline.accepted_s)
            reader.read({"usage": usage_of_chat(told)})
            reader.read(None)
            answers = _read(link, partial(read_decisions, questions, told))
            return Decisions(answers, reader.done(), written_tokens(told))

    async def preflight(self, request: Request, slot: ModelSlot, ticket: Ticket, deadline: Deadline) -> Preflight:
        """What a server that has vLLM's /tokenize counts. Raises BadRequest where it has not, or does not say what the
        media of the request take; and EngineError."""
        with self._asking(self._asked(request, slot), slot, ticket, deadline) as (link, row):
            ask = partial(_salted_body, row.request)
            _, told = await self._told(link, at_root(link.server, TOKENIZE), row, ticket, ask)
            found = _read(link, partial(read_tokens, told, request.media_parts))
            if found is None:
                raise _elsewhere(slot, "it does not say how many tokens each medium takes")
            return found

    async def detokenize(self, token_ids: list[int], slot: ModelSlot, ticket: Ticket, deadline: Deadline) -> str:
        """The text of token ids, as vLLM's /detokenize. Raises as `preflight`."""
        with self._asking(Request(model=slot.name), slot, ticket, deadline) as (link, row):

            def ask(model: str, _: Callable[[Part], str]) -> Json:
                return {"model": model, "tokens": token_ids}

            _, told = await self._told(link, at_root(link.server, DETOKENIZE), row, ticket, ask)
            return _read(link, lambda: as_text(told["prompt"]))

    @contextmanager
    def _asking(
        self, request: Request, slot: ModelSlot, ticket: Ticket, deadline: Deadline
    ) -> Iterator[tuple[RemoteLink, OpenRequest]]:
        """Around all that is asked of a server: what comes of it says how that server is."""
        link = self._links[slot.name]
        row = self._open[id(ticket)] = OpenRequest(request, slot.name, deadline, is_preflight=ticket.is_preflight)
        slot.begin_use()
        try:
            yield link, row
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

    async def _sent(
        self, link: RemoteLink, row: OpenRequest, ticket: Ticket, make: MakeBody
    ) -> tuple[str, OutgoingBody]:
        """The model's name there, and a body with all media of the request, which leave memory with it."""
        contents = await row.wait(self._media.as_sent(row.request, ticket))
        ticket.clock.enter("prepare")
        model = await row.wait(self._model_of(link))
        encoded = await row.wait(self._media.compute(row.request, partial(_encoded, make, model, contents)))
        ticket.clock.enter("server")
        return model, OutgoingBody(encoded, ticket.release_media)

    async def _told(
        self, link: RemoteLink, url: str, row: OpenRequest, ticket: Ticket, make: MakeBody
    ) -> tuple[str, Json]:
        """The model's name there, and what a route answers that not every server has. Raises BadRequest at once where
        it lately had not: no media are read for it."""
        lacks, since_s = link.lacks.get(url, (None, 0.0))
        if lacks is not None and time.monotonic() - since_s < LACKS_S:
            raise replaced(lacks)
        model, body = await self._sent(link, row, ticket, make)
        try:
            told = await whole(link.server, url, body, row)
        except EngineError as error:
            if error.code != NO_ROUTE:
                raise
            refused = _elsewhere(link.slot, error.message)
            link.lacks[url] = (replaced(refused), time.monotonic())
            raise refused from error
        if told.get("error"):
            raise said_in_the_middle(link.server, told["error"])
        return model, told

    def _asked(
        self,
        request: Request,
        slot: ModelSlot,
        why: str = "",
        *,
        prompts: Sequence[Request] = (),
        cache_may_be_off: bool = False,
    ) -> Request:
        """The request with what this server's operator said for all. Raises BadRequest for what cannot be sent on, and
        for `why`. prompts: what that server's model reads each by itself, where that is not all of the request."""
        card, server = slot.card, slot.config.model.server
        assert card is not None and server is not None, "only models of other servers come here"
        if card.takes_known:
            for prompt in prompts or (request,):
                check(prompt, card, self._config.media)
        else:
            check_numbers(request)
        why = why or unsayable(request) or ("its token ids are known only there" if request.prompt_ids else "")
        is_off = not (request.reuse or cache_may_be_off)
        if why := why or ("whether it uses its cache is up to that server" if is_off else ""):
            raise _elsewhere(slot, why)
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
                self._look(link)
            finally:
                link.looked_s, link.probe = time.monotonic(), None
                probe.set_result(None)

        try:
            if self._is_closed:
                raise Unavailable("The engine was stopped.")
            self._aside(look)
        except Unavailable as error:
            link.probe = None
            probe.set_exception(error)
        except RuntimeError as error:  # the process ends, or may have no more threads
            link.probe = None
            why = Unavailable(f"Nobody can look at {link.server.host} just now: {error}.")
            probe.set_exception(caused(why, error))
        return probe

    def _look(self, link: RemoteLink) -> None:
        try:
            self._listed(link, listed_models(link.server))
            self._show(link, None)
        except EngineError as error:
            self._show(link, error)
        except Exception as error:
            self._show(link, unreachable(link.server, error))

    def _listed(self, link: RemoteLink, listed: list[Json]) -> None:
        told = chosen(listed, link.server)
        if link.server.model is None and told is not None and isinstance(told.get("id"), str):
            link.model = told["id"]
        if told is not None:
            link.is_settled = told.get("state", "ready") == "ready"
            link.slot.card = remote_card(link.slot.config.model, link.server, self._config, told, self._began)

    def _show(self, link: RemoteLink, error: EngineError | None) -> None:
        """The server was reached, or was not, for this reason."""
        if error is None and link.slot.stage == "failed":
            link.lacks.clear()  # perhaps it is a newer one
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


def _encoded(make: MakeBody, model: str, contents: Mapping[Part, bytes]) -> bytes:
    """A body, with every medium in it as it came."""

    def named(part: Part) -> str:
        data = contents[part]
        return f"data:{media_type(data)};base64,{base64.b64encode(data).decode()}"

    return json.dumps(make(model, named), separators=(",", ":"), allow_nan=False).encode()


def _chat_body(request: Request, model: str, named: Callable[[Part], str]) -> Json:
    return _salted_body(request, model, named) | {"stream": True, "stream_options": {"include_usage": True}}


def _salted_body(request: Request, model: str, named: Callable[[Part], str]) -> Json:
    """What a request and a preflight of it have in common: both find the same in that server's cache."""
    body = openai_body(request, model, named)
    return body | ({"cache_salt": salt} if (salt := salt_beyond(request.tenant)) else {})


def _read(link: RemoteLink, read: Callable[[], T]) -> T:
    """What a reader makes of an answer. Raises BadGateway where it is not in the form of its route."""
    try:
        return read()
    except (LookupError, ArithmeticError, TypeError, ValueError, AttributeError) as error:
        raise not_understood(link.server, "it is not in the form of this route") from error


def _elsewhere(slot: ModelSlot, why: str) -> BadRequest:
    server = slot.config.model.server
    assert server is not None
    words = f"{slot.name} is served by {server.host}, which cannot be asked for this: {why.removesuffix('.')}."
    return BadRequest(words, code="remote_model")
