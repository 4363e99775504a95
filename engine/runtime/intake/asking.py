"""One request of one model, from its place to its last event. Any event loop; no MLX."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from engine.errors import EngineError, PixelsMissing
from engine.grounding.coordinates import CoordinateWriter, why_not, with_own_coordinates
from engine.grounding.forms import FORMS
from engine.grounding.place import RegionReader
from engine.runtime.commands import Answered, Cancel, Command, PreflightCommand, Submit
from engine.runtime.intake.deadline import Deadline
from engine.runtime.intake.poster import poster
from engine.runtime.intake.preparation import Preparation
from engine.runtime.intake.tickets import Ticket
from engine.runtime.intake.waiting_readers import Readers
from engine.runtime.loading.slots import LoadedModel
from engine.runtime.sequence import Sequence
from engine.types import Coordinates, Done, Event, ModelCard, Preflight, Request, StageClock

if TYPE_CHECKING:
    from engine.types.media import Media

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asking:
    """Prepares requests and hands them to the engine thread. tell: queues a command for it. coordinates: of answers to
    requests that say nothing of them. readers: those whose answer is still to come."""

    preparation: Preparation
    tell: Callable[[Command], None]
    coordinates: Coordinates = "model"
    readers: Readers = field(default_factory=Readers)

    async def reply(self, make_command: Callable[[Future[T]], Answered]) -> T:
        """What the engine thread replies to a command, which is made with the future for its reply."""
        reply: Future[T] = Future()

        def ended(error: EngineError) -> None:
            with suppress(InvalidStateError):  # it is answered this moment, or nobody waits any more
                reply.set_exception(error)

        with self.readers.reading(ended):
            self.tell(make_command(reply))
            return await asyncio.wrap_future(reply)

    async def preflight(
        self, request: Request, model: LoadedModel, ticket: Ticket, *, need_pixels: bool
    ) -> tuple[Preflight, tuple[Media, ...]]:
        """What a request would cost, and its media. need_pixels: of media, also where the facts alone would do."""
        prepare = self.preparation
        loaded, media = await self._load(request, model.card, ticket, need_pixels=need_pixels)
        prompt = await prepare.prompt(model, loaded, must_fit=False)
        try:
            found: Preflight = await self.reply(lambda reply: PreflightCommand(loaded, media, reply, prompt))
        except PixelsMissing:
            loaded, media = await self._load(request, model.card, ticket, need_pixels=True)
            found = await self.reply(lambda reply: PreflightCommand(loaded, media, reply, prompt))
        return found, media

    def _wants_original(self, request: Request) -> bool:
        return (request.coordinates or self.coordinates) == "original" and not request.questions

    async def _load(
        self, request: Request, card: ModelCard, ticket: Ticket, *, need_pixels: bool
    ) -> tuple[Request, tuple[Media, ...]]:
        """See Preparation.load; earlier answers as the model wrote them."""
        loaded, media = await self.preparation.load(request, card, ticket, need_pixels=need_pixels)
        if self._wants_original(request) and any(message.role == "assistant" for message in loaded.messages):
            change = partial(with_own_coordinates, loaded, media, card.model_type)
            loaded = await self.preparation.aside(change)
        return loaded, media

    async def events(
        self,
        request: Request,
        model: LoadedModel,
        ticket: Ticket,
        deadline: Deadline,
        media: tuple[Media, ...] | None = None,
    ) -> AsyncGenerator[Event, None]:
        """The events of a request that has a place. Closing the iterator cancels it.

        media: those of the request with their pixels, where they are loaded already; whoever did that releases them.
        """
        given = media
        clock = ticket.clock if given is None else StageClock()  # those that have theirs share a ticket
        events: asyncio.Queue[Event | EngineError] = asyncio.Queue()
        post = poster(events)
        prepare = self.preparation
        regions = RegionReader(FORMS.get(model.card.model_type) if request.media_parts else None)

        async def submit(before: Sequence | None = None) -> Sequence:
            """before: the same without pixels that it turned out to need; what else was prepared is taken from it."""
            clock.enter("prepare")
            grammar = before.grammar if before else await prepare.grammar(model, request)
            loaded, media = request, given
            if media is None:
                loaded, media = await self._load(request, model.card, ticket, need_pixels=before is not None)
            loaded_s = time.perf_counter()
            clock.enter("prepare", loaded_s)
            sequence = Sequence(
                request=loaded,
                post=post,
                accepted_s=deadline.accepted_s,
                loaded_s=loaded_s,
                media=media,
                prepared_prompt=await prepare.prompt(model, loaded, must_fit=True),
                grammar=grammar,
                scoring=before.scoring if before else await prepare.scoring(model, loaded, media),
                submitted_s=time.perf_counter(),
                clock=clock,
            )
            clock.enter("queue", sequence.submitted_s)
            self.tell(Submit(sequence))
            return sequence  # which alone holds the media: the engine thread lets them go once its prompt is read

        with self.readers.reading(post):
            sequence = await deadline.wait(submit())
            coordinates = None
            if self._wants_original(request):
                model_type = model.card.model_type
                why = why_not(request, model_type)
                coordinates = CoordinateWriter(FORMS.get(model_type), lambda: sequence.prompt.media, why)
            finished = False
            try:
                while not finished:
                    event = await deadline.wait(events.get())
                    if isinstance(event, PixelsMissing):
                        sequence = await deadline.wait(submit(sequence))
                        continue
                    if given is None:
                        ticket.release_media()
                    finished = isinstance(event, Done | EngineError)
                    if isinstance(event, EngineError):
                        raise event
                    read = regions.read(event)
                    for told in (read,) if coordinates is None else coordinates.write(read):
                        yield told
            finally:
                if not finished:
                    self.tell(Cancel(sequence))
