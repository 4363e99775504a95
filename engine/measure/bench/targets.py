"""What answers the questions. Every target takes the same Question and is timed by the same stopwatch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Protocol

from engine.core import Engine
from engine.measure.bench.questions import Medium, Question
from engine.measure.bench.samples import Sample, SeenMedia, Stopwatch, seen_of
from engine.types import (
    YES_NO,
    Done,
    FrameSampling,
    Grammar,
    Message,
    Option,
    Part,
    Request,
    Sampling,
    TypedQuestion,
)

SOURCE = "bench"
"""Request.source of a benchmark's requests, which tells them from those of others."""

SETTLE_S = 0.02
"""An answer's KV is stored shortly after its last event: how long to wait before the cache is counted."""

OnFirst = Callable[[], object] | None


@dataclass(frozen=True, slots=True)
class Status:
    """Memory and counters of the process that answers. Sizes in bytes; None where it does not report them.

    kv_bytes: KV stored for later prompts. feature_hits: vision encoder runs avoided so far. num_requests: since its
    start. num_others: requests of others that run now.
    """

    process_bytes: int | None = None
    mlx_active_bytes: int | None = None
    mlx_peak_bytes: int | None = None
    mlx_cache_bytes: int | None = None
    kv_bytes: int | None = None
    feature_hits: int | None = None
    num_requests: int | None = None
    num_others: int = 0


class Target(Protocol):
    """Something that answers questions."""

    name: str
    """In tables and files."""

    in_process: bool
    """Whether it answers in this process, else over HTTP. Targets of one kind are compared (run._pairs)."""

    @property
    def model_path(self) -> str:
        """The checkpoint's folder, "" where it is not known."""

    async def ask(self, question: Question, on_first: OnFirst = None) -> Sample:
        """Ask, read the answer to its end, and time it. on_first: called at the first text. Raises EngineError."""

    def status_nowait(self) -> Status:
        """The part of `status` that is known without waiting."""

    async def status(self) -> Status:
        """Its memory and counters now."""

    async def predict(self, question: Question) -> tuple[SeenMedia, ...] | None:
        """What the processor by itself makes of the question's media. Returns None where the target cannot say."""

    async def close(self) -> None:
        """Close what was opened for this target."""


class EngineTarget:
    """The engine of this process, without HTTP."""

    in_process = True

    def __init__(self, engine: Engine, name: str = "engine") -> None:
        self.name = name
        self._engine = engine

    @property
    def model_path(self) -> str:
        card = self._engine.snapshot().model
        return card.path if card else ""

    async def ask(self, question: Question, on_first: OnFirst = None) -> Sample:
        request = engine_request(question)
        expected_ms = (await self._engine.preflight(request)).ttft_ms if question.estimated else None
        watch = Stopwatch(on_first)
        if question.predicates:
            return await self._decide(request, question, watch)
        first: tuple[tuple[int, float], ...] = ()
        async with aclosing(self._engine.stream(request)) as events:
            async for event in events:
                if isinstance(event, Done):
                    done = event
                elif event.text or not watch.pieces:
                    watch.note(event.text)
                    first = first or (event.tokens[0].top if event.tokens else ())
        sample = watch.sample(self.name, question, done.usage.prompt_tokens, done.usage.completion_tokens)
        return replace(
            sample,
            cached_tokens=done.usage.cached_tokens,
            accepted_tokens=done.usage.accepted_prediction_tokens,
            seen=seen_of(done.media),
            reason=done.trace.reason if done.trace else "",
            cpu_s=watch.cpu_s,
            feature_hits=sum(receipt.features.hits for receipt in done.media if receipt.features),
            logprobs=first,
            expected_s=None if expected_ms is None else expected_ms / 1e3,
        )

    async def _decide(self, request: Request, question: Question, watch: Stopwatch) -> Sample:
        decided = await self._engine.decide(request, typed_questions(question))
        watch.note(" ".join("yes" if answer.best == 0 else "no" for answer in decided.answers))
        usage, done = decided.done.usage, decided.done
        sample = watch.sample(self.name, question, usage.prompt_tokens, usage.completion_tokens)
        return replace(sample, cached_tokens=usage.cached_tokens, seen=seen_of(done.media), cpu_s=watch.cpu_s)

    async def status(self) -> Status:
        await asyncio.sleep(SETTLE_S)
        return self.status_nowait()

    def status_nowait(self) -> Status:
        snapshot = self._engine.snapshot()
        return Status(
            process_bytes=snapshot.process_bytes,
            mlx_active_bytes=snapshot.active_bytes,
            mlx_peak_bytes=snapshot.peak_bytes,
            mlx_cache_bytes=snapshot.cache_bytes,
            kv_bytes=snapshot.cache.kv_bytes + snapshot.cache.snapshot_bytes,
            feature_hits=snapshot.cache.feature_hits,
            num_requests=snapshot.totals.requests,
            num_others=sum(request.source != SOURCE for request in snapshot.running),
        )

    async def predict(self, question: Question) -> tuple[SeenMedia, ...] | None:
        return seen_of((await self._engine.preflight(engine_request(question))).media)

    async def close(self) -> None:
        """Nothing to close: the caller owns the engine."""


def typed_questions(question: Question) -> tuple[TypedQuestion, ...]:
    """Its predicates, for Engine.decide."""
    return tuple(
        TypedQuestion("predicate", (Part("text", text=text),), tuple(map(Option, YES_NO)), "predicates")
        for text in question.predicates
    )


def engine_request(question: Question) -> Request:
    """The question as a Request."""
    messages = [Message("system", (Part("text", text=question.system, param="system"),))] if question.system else []
    for turn in question.earlier:
        messages += [_asked(turn.media, turn.text), Message("assistant", (Part("text", text=turn.answer),))]
    messages.append(_asked(question.media, question.text))
    return Request(
        messages=tuple(messages),
        sampling=Sampling(temperature=question.temperature, seed=question.seed),
        max_tokens=question.max_tokens,
        min_tokens=question.min_tokens,
        ignore_eos=question.ignore_end,
        grammar=Grammar("json_schema", question.schema) if question.schema else None,
        n=question.n,
        logprobs=question.logprobs or None,
        frames=FrameSampling(fps=question.fps, max_frames=question.max_frames),
        source=SOURCE,
    )


def _asked(media: Sequence[Medium], text: str) -> Message:
    parts = [Part(m.kind, url=m.url, max_pixels=m.max_pixels, param=m.kind) for m in media]
    words = [Part("text", text=text, param="text")] if text else []
    return Message("user", (*parts, *words))
