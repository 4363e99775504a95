"""Media that a text model is asked about, described by its vision model. Any event loop; no MLX.

    media of a request ── decoded once ──> what was said before about the same content, to the same question
                                           └─ else asked of the vision model, several at once ──> Description

The vision model and the text model are used one after the other, never together: where there is room for one of them
only, each would wait for the other.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Hashable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from engine.bounded import BoundedCache
from engine.config import MediaLimits, ModelSpec, VisionProxy
from engine.errors import BadRequest, EngineError, ModelNotFound, Unavailable
from engine.runtime.intake.asking import Asking
from engine.runtime.intake.checks import check, check_numbers
from engine.runtime.intake.deadline import Deadline
from engine.runtime.intake.tickets import Ticket
from engine.runtime.loading.slots import LoadedModel, ModelSlot, ModelSlots
from engine.types import (
    Completion,
    Description,
    DescriptionProgress,
    Message,
    ModelCard,
    Part,
    Reasoning,
    Request,
    Sampling,
)
from engine.vision_proxy.prompts import WORDS, question_prompt, turn_questions, with_descriptions

if TYPE_CHECKING:
    from engine.types.media import Media

MAX_TOKENS = 512
"""Of one description; at most a quarter of the vision model's context."""

MAX_AT_ONCE = 16
"""Descriptions of one request that are made at once: they share the vision model's batch with other requests."""

MAX_KEPT = 4096
MAX_KEPT_BYTES = 16 * 1024**2
_ENTRY_BYTES = 512
"""What a description takes in memory beside its text."""


@dataclass(frozen=True, slots=True)
class Described:
    """A request as the text model reads it. descriptions: one for each medium that it had."""

    request: Request
    descriptions: tuple[Description, ...] = ()


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A description that is asked for. request: what the vision model is asked; key: by which it is kept."""

    request: Request
    part: Part
    medium: Media
    key: Hashable


@dataclass(frozen=True, slots=True)
class _Work:
    """A request that is being served. spec: its text model; eyes: its vision model."""

    request: Request
    spec: ModelSpec
    eyes: ModelSlot
    proxy: VisionProxy
    ticket: Ticket
    deadline: Deadline


class Describer:
    """Describes media, and remembers what was said about them."""

    def __init__(self, slots: ModelSlots, asking: Asking, limits: MediaLimits) -> None:
        self._slots = slots
        self._asking = asking
        self._limits = limits
        self._kept: BoundedCache[Hashable, Description] = BoundedCache(
            MAX_KEPT, MAX_KEPT_BYTES, lambda one: _ENTRY_BYTES + len(one.text) * 4
        )
        self._progress: dict[str, DescriptionProgress] = {}

    def progress(self, request_id: str) -> DescriptionProgress | None:
        """How far the descriptions of a request are; None for one that waits for none. Any thread."""
        return self._progress.get(request_id)

    def forget(self) -> None:
        """Keep no description."""
        self._kept.clear()

    async def describe(self, request: Request, spec: ModelSpec, ticket: Ticket, deadline: Deadline) -> Described:
        """The request with texts in place of its media, and what was said about each, in their order.

        spec: the text model, of vision "proxy". ticket: the request's place, which holds the media until this ends.
        Raises EngineError: what is wrong with a medium; Unavailable where the vision model is not there or does not
        see; for a description that fails the vision model's error with the medium named; TimedOut. Cancelled with the
        task that waits for it.
        """
        check_numbers(request)
        _check_kinds(request, spec)
        request = replace(request, id=request.id or secrets.token_hex(8))
        eyes, proxy = self._eyes(spec)
        work = _Work(request, spec, eyes, proxy, ticket, deadline)
        self._progress[request.id] = DescriptionProgress(eyes.name, len(request.media_parts))
        try:
            opened, wanted = await self._wanted(work)
            self._progress[request.id] = DescriptionProgress(eyes.name, len(wanted))
            found = await self._described(work, wanted)
        finally:
            self._progress.pop(request.id, None)
            ticket.release_media()
        return Described(with_descriptions(opened, [one.text for one in found]), found)

    def _eyes(self, spec: ModelSpec) -> tuple[ModelSlot, VisionProxy]:
        proxy = spec.vision_proxy
        if proxy is None:
            raise _unavailable(spec, "none is configured (vision_proxy)")
        try:
            eyes = self._slots.find(proxy.model)
        except ModelNotFound as error:
            raise _unavailable(spec, error.message) from error
        if eyes.config.model.vision != "native":
            raise _unavailable(spec, f"{eyes.name} is not shown media itself (vision_mode: {eyes.config.model.vision})")
        return eyes, proxy

    async def _wanted(self, work: _Work) -> tuple[Request, list[_Wanted]]:
        """The request as it is once its documents are pages, and what is to be asked about each of its media."""
        card = work.eyes.card
        if card is None:  # it was never loaded, so nobody knows what it takes
            async with self._using(work) as model:
                card = model.card
        if not card.vision:
            raise _unavailable(work.spec, f"{card.id} does not see")
        taking = replace(card, id=f"the vision model {card.id}", images_per_prompt=None)  # each is shown alone
        check(work.request, taking, self._limits)
        preparing = self._asking.preparation.load(work.request, taking, work.ticket, need_pixels=True)
        opened, media = await work.deadline.wait(preparing)
        work.ticket.clock.enter("describe")
        return opened, list(_asked(work, opened, media, card))

    async def _described(self, work: _Work, wanted: Sequence[_Wanted]) -> tuple[Description, ...]:
        found: dict[Hashable, Description] = {}
        if work.request.reuse:
            found = {one.key: kept for one in wanted if (kept := self._kept.get(one.key)) is not None}
        found |= {one.key: given for one in wanted if (given := _given(one, work.eyes.name)) is not None}
        missing = list({one.key: one for one in wanted if one.key not in found}.values())
        new: dict[Hashable, Description] = {}
        if missing:
            self._count(work, len(wanted) - len(missing))
            async with self._using(work) as model:
                made = await self._ask_all(work, model, missing)
            new = {one.key: description for one, description in zip(missing, made, strict=True)}
        uses: Counter[Hashable] = Counter()
        out = []
        for one in wanted:
            uses[one.key] += 1
            is_new = one.key in new and uses[one.key] == 1
            description = new[one.key] if one.key in new else found[one.key]
            is_kept = not (is_new or description.edited)
            out.append(replace(description, param=one.part.param, kept=is_kept))
        return tuple(out)

    async def _ask_all(self, work: _Work, model: LoadedModel, wanted: Sequence[_Wanted]) -> list[Description]:
        """Several at once. At the first that fails, or when this is cancelled, the others are cancelled."""
        free = asyncio.Semaphore(MAX_AT_ONCE)

        async def ask(one: _Wanted) -> Description:
            async with free:
                description = await self._ask(work, model, one)
            self._count(work)
            return description

        tasks = [asyncio.ensure_future(ask(one)) for one in wanted]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, work: _Work, model: LoadedModel, one: _Wanted) -> Description:
        began_s = time.perf_counter()
        with _naming(f"{one.part.param}: the vision model {model.card.id}: ", one.part.param):
            events = self._asking.events(one.request, model, work.ticket, work.deadline, media=(one.medium,))
            async with aclosing(events):
                completion = await Completion.read(events)
            if completion.done.finish_reason == "cancelled":
                raise Unavailable("it was cancelled by the server.", code="vision_proxy_failed")
            if not completion.text.strip():
                raise Unavailable("it said nothing.", code="vision_proxy_failed")
        usage = completion.done.usage
        description = Description(
            kind=one.medium.kind,
            param=one.part.param,
            sha256=one.medium.sha256,
            text=completion.text.strip(),
            model=model.card.id,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            seconds=time.perf_counter() - began_s,
        )
        if work.request.reuse:
            self._kept.put(one.key, description)
        return description

    @asynccontextmanager
    async def _using(self, work: _Work) -> AsyncIterator[LoadedModel]:
        """The vision model while it is used. What keeps it from loading is told as its failure."""
        use = self._slots.using(work.eyes, work.deadline)
        with _naming(f"The vision model {work.eyes.name}: ", None):
            model = await use.__aenter__()
        try:
            yield model
        finally:
            await use.__aexit__(None, None, None)

    def _count(self, work: _Work, num_done: int = 1) -> None:
        progress = self._progress.get(work.request.id)
        if progress is not None:  # ids may repeat, and another request of this one has ended
            self._progress[work.request.id] = replace(progress, num_done=progress.num_done + num_done)


def _asked(work: _Work, opened: Request, media: Sequence[Media], card: ModelCard) -> Iterator[_Wanted]:
    """What is asked about each medium: the template, with the question of its own turn."""
    questions = turn_questions(work.request.messages)  # a document's own text is no question
    in_order = iter(media)
    number = 0
    for message, question in zip(opened.messages, questions, strict=True):
        for part in message.parts:
            if part.kind == "text":
                continue
            medium, number = next(in_order), number + 1
            prompt = question_prompt(work.proxy.prompt_template, question, medium.kind, number)
            seen = (part.detail, part.max_pixels, part.min_pixels, part.exact_px, opened.frames.max_pixels)
            yield _Wanted(
                request=_asking(work.request, part, prompt, card),
                part=part,
                medium=medium,
                key=(work.request.tenant, medium.sha256, seen, prompt, card.fingerprint, part.description),
            )


def _given(one: _Wanted, model: str) -> Description | None:
    """The description that came with the request. model: which one was not asked."""
    text = one.part.description
    if text is None:
        return None
    return Description(one.medium.kind, one.part.param, one.medium.sha256, text, model, 0, 0, edited=True)


def _asking(request: Request, part: Part, prompt: str, card: ModelCard) -> Request:
    """The question to the vision model, greedy, of the same asker."""
    return Request(
        messages=(Message("user", (part, Part("text", text=prompt, param=part.param))),),
        sampling=Sampling(temperature=0.0),
        max_tokens=max(1, min(MAX_TOKENS, card.context_tokens // 4)),
        reasoning=Reasoning(enabled=False) if card.can_turn_reasoning_off else Reasoning(),
        frames=request.frames,
        model=card.id,
        id=f"{request.id}-eyes",
        source=request.source,
        session=request.session,
        tenant=request.tenant,
        reuse=request.reuse,
    )


def _check_kinds(request: Request, spec: ModelSpec) -> None:
    for part in request.media_parts:
        if part.kind not in WORDS and part.kind != "document":
            why = f"{spec.served_name} cannot take {part.kind} input; its vision model is shown pictures and clips"
            raise BadRequest(f"{part.param}: {why}.", param=part.param, code="unsupported_media")


def _unavailable(spec: ModelSpec, why: str) -> Unavailable:
    what = f"{spec.served_name} has no vision model that could describe media for it"
    return Unavailable(f"{what}: {why.rstrip('.')}.", code="vision_proxy_unavailable")


@contextmanager
def _naming(where: str, param: str | None) -> Iterator[None]:
    """Errors of the vision model say where they come from."""
    try:
        yield
    except EngineError as error:
        raise error.told(where, param) from error
