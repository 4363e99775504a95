"""What becomes of a request: it is logged, waits for a place and for its model, and is asked. Any event loop; no MLX.

request ──> log ──> ticket ──> described, where the model cannot see ──> model ──> checked ──> asking ──> events
                          └──> of a model that another server answers for: remote ──> events
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from engine.config import EngineConfig
from engine.errors import Internal, Unavailable
from engine.media.loader import Loader
from engine.remote.servers import RemoteServers
from engine.request_log.log import RequestLog
from engine.runtime.decisions.decide import check_questions, decide
from engine.runtime.intake.asking import Asking
from engine.runtime.intake.checks import check, check_vision_mode
from engine.runtime.intake.deadline import Deadline
from engine.runtime.intake.embedding import check_documents, check_texts, embed, rank
from engine.runtime.intake.tickets import Ticket, TicketOffice
from engine.runtime.loading.slots import LoadedModel, ModelSlot, ModelSlots
from engine.runtime.replay import Replayer
from engine.types import (
    Decisions,
    DocumentsToRank,
    Done,
    Embedded,
    Event,
    Preflight,
    Ranked,
    Request,
    StageClock,
    TextsToEmbed,
    TypedQuestion,
)
from engine.vision_proxy.describe import Described, Describer

R = TypeVar("R", Embedded, Ranked)
ReaderOf = Callable[..., Coroutine[Any, Any, R]]


@dataclass(frozen=True, slots=True)
class Serving:
    """Requests of every kind, as Engine's methods of the same names say. is_running: whether the engine thread is."""

    config: EngineConfig
    log: RequestLog
    tickets: TicketOffice
    slots: ModelSlots
    describer: Describer
    media: Loader
    asking: Asking
    replayer: Replayer
    remote: RemoteServers
    is_running: Callable[[], bool]

    async def stream(self, request: Request) -> AsyncGenerator[Event, None]:
        """See Engine.stream."""
        deadline = Deadline(self.config.request_timeout_s)
        request, clock = _labelled(request), StageClock(accepted_s=deadline.accepted_s)
        with self.log.open(request, clock) as logged:
            slot = self.slots.find(request.model)
            logged.named(slot.name)
            check_vision_mode(request, spec := slot.config.model, describes=True)
            # First: who waits for a model to be loaded waits in the queue.
            with self.tickets.take(clock, server=_server_of(slot)) as ticket:
                answer = self._answer if spec.server is None else self._answer_of_another
                async with aclosing(answer(request, slot, ticket, deadline)) as events:
                    async for event in events:
                        if isinstance(event, Done):
                            ticket.release()  # before the reader learns of it: who comes next finds the place free
                        logged.add(event)
                        yield event

    async def _answer(
        self, request: Request, slot: ModelSlot, ticket: Ticket, deadline: Deadline
    ) -> AsyncGenerator[Event, None]:
        """Of a model in this process."""
        spec = slot.config.model
        described = Described(request)
        if request.media_parts and spec.vision == "proxy":
            described = await self.describer.describe(request, spec, ticket, deadline)
        async with self.slots.using(slot, deadline) as model:
            request = self._checked(described.request, model)
            async with aclosing(self.asking.events(request, model, ticket, deadline)) as events:
                async for event in events:
                    if not isinstance(event, Done):
                        yield event
                        continue
                    self.replayer.remember(request, event)
                    yield replace(event, descriptions=described.descriptions)

    def _answer_of_another(
        self, request: Request, slot: ModelSlot, ticket: Ticket, deadline: Deadline
    ) -> AsyncGenerator[Event, None]:
        """Of another server."""
        self._check_running()
        return self.remote.events(request, slot, ticket, deadline)

    async def decide(self, request: Request, questions: tuple[TypedQuestion, ...]) -> Decisions:
        """See Engine.decide."""
        deadline = Deadline(self.config.request_timeout_s)
        request, clock = _labelled(request), StageClock(accepted_s=deadline.accepted_s)
        asked = replace(request, questions=questions)
        with self.log.open(asked, clock) as logged:
            check_questions(questions)
            slot = self._slot(request)
            logged.named(slot.name)
            with self.tickets.take(clock, server=_server_of(slot)) as ticket:
                if slot.config.model.server is not None:
                    self._check_running()
                    decisions = await self.remote.decide(request, questions, slot, ticket, deadline)
                    logged.decided(decisions)
                    return decisions
                async with self.slots.using(slot, deadline) as model:
                    request = self._checked(request, model)

                    async def ask(group: Request) -> Done:
                        check(group, model.card, self.config.media)
                        async with aclosing(self.asking.events(group, model, ticket, deadline)) as events:
                            async for event in events:
                                if isinstance(event, Done):
                                    return event
                        raise Internal("Questions ended without an answer.")

                    group = partial(self.asking.preparation.group, model, request)
                    decisions = await decide(questions, lambda asked: deadline.wait(group(asked)), ask)
                    logged.decided(decisions)
                    return decisions

    async def embed(self, asked: TextsToEmbed) -> Embedded:
        """See Engine.embed."""
        return await self._read(asked, lambda: check_texts(asked), partial(embed, asked=asked, asking=self.asking))

    async def rank(self, asked: DocumentsToRank) -> Ranked:
        """See Engine.rank."""
        return await self._read(asked, lambda: check_documents(asked), partial(rank, asked=asked, asking=self.asking))

    async def preflight(self, request: Request, *, pictures: bool) -> Preflight:
        """See Engine.preflight."""
        slot = self._slot(request)
        deadline = Deadline(self.config.request_timeout_s)
        with self.tickets.take(server=_server_of(slot), is_preflight=True) as ticket:
            if slot.config.model.server is not None and not pictures:
                self._check_running()
                return await self.remote.preflight(request, slot, ticket, deadline)
            async with self.slots.using(slot, deadline) as model:
                check(request, model.card, self.config.media)
                request = replace(request, model=model.card.id)
                found, media = await self.asking.preflight(request, model, ticket, need_pixels=pictures)
                if not pictures:
                    return found
                return replace(found, pictures=await self.media.as_seen(request, media, found.media))

    async def detokenize(self, token_ids: list[int], model: str | None) -> str:
        """See Engine.detokenize."""
        slot, deadline = self.slots.find(model), Deadline(self.config.request_timeout_s)
        if slot.config.model.server is not None:
            with self.tickets.take(server=_server_of(slot), is_preflight=True) as ticket:
                self._check_running()
                return await self.remote.detokenize(token_ids, slot, ticket, deadline)
        async with self.slots.using(slot, deadline) as loaded:
            return await deadline.wait(self.asking.preparation.aside(partial(loaded.texts.decode, token_ids)))

    async def _read(self, asked: TextsToEmbed | DocumentsToRank, check: Callable[[], None], read: ReaderOf[R]) -> R:
        deadline = Deadline(self.config.request_timeout_s)
        clock = StageClock(accepted_s=deadline.accepted_s)
        with self.log.open(_labelled(replace(asked.sent, model=asked.model)), clock) as logged:
            logged.num_texts = asked.num_texts
            check()
            slot = self.slots.find(asked.model)
            logged.named(slot.name)
            with self.tickets.take(clock):
                async with self.slots.using(slot, deadline) as model:
                    found = await deadline.wait(read(model, clock=clock))
                    logged.has_read(found.num_tokens)
                    return found

    def _check_running(self) -> None:
        if not self.is_running():
            raise Unavailable("The engine was stopped.")

    def _slot(self, request: Request) -> ModelSlot:
        """The model of a request. Raises EngineError for one that is not here, or not for this request."""
        slot = self.slots.find(request.model)
        check_vision_mode(request, slot.config.model)
        return slot

    def _checked(self, request: Request, model: LoadedModel) -> Request:
        """The request with an id and the name of its model. Raises EngineError for one that cannot be served."""
        self._check_running()
        check(request, model.card, self.config.media)
        reuse = request.reuse and request.prompt_logprobs is None  # stored KV has no logits
        return replace(request, model=model.card.id, reuse=reuse)


def _server_of(slot: ModelSlot) -> str | None:
    """The line in which requests for a model of another server wait."""
    return slot.name if slot.config.model.server is not None else None


def _labelled(request: Request) -> Request:
    """With an id, where it came without one."""
    return request if request.id else replace(request, id=secrets.token_hex(8))
