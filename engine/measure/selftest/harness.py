"""Asks the engine, alone or several at once, and hands back what the witness saw. Any event loop."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from engine.core import Engine
from engine.measure.selftest.fixtures import Drawn
from engine.measure.selftest.judge import ObservedRun, noise
from engine.measure.selftest.observer import Observation, Observer
from engine.types import Done, Message, ModelCard, Part, Request, Sampling

ANSWER_TOKENS = 24
NEIGHBOUR_TOKENS = 4096
"""More than a neighbour needs, which is cancelled; but a row that waits for its memory gets it in the end."""

PATIENCE_S = 600.0
"""For one answer: a large model on a slow machine takes its time; one that hangs is a fault."""

GREEDY = Sampling(temperature=0.0)
SEEDED = Sampling(temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, seed=7)
WORDS = ("river", "stone", "lamp", "green", "seven", "window", "paper", "cloud", "bread", "silver", "garden", "music")


@dataclass(frozen=True)
class HarnessAnswer:
    """One answer: how the engine says it ended, and what the witness saw."""

    done: Done
    seen: Observation

    @property
    def run(self) -> ObservedRun:
        return self.seen.run()

    @property
    def reused(self) -> int:
        return self.done.usage.cached_tokens


class Harness:
    """One engine, its witness and the pictures of the test."""

    def __init__(self, engine: Engine, witness: Observer, card: ModelCard, picture: Drawn) -> None:
        self.engine = engine
        self.witness = witness
        self.card = card
        self.picture = picture
        self.noise = noise(card.dtype, engine.snapshot().device.mlx_device)

    @property
    def in_turns(self) -> bool:
        """Whether rows decode one at a time: by their family, or as the engine was told to."""
        loaded = self.witness.loaded
        config = self.engine.config
        return bool(loaded and loaded.family.serial) or min(config.max_num_seqs, config.completion_batch_size) < 2

    @property
    def in_snapshots(self) -> bool:
        """Whether prefixes are kept as whole rows, because this family's KV cannot be cut into blocks."""
        return self.engine.snapshot().cache.snapshots > 0

    def text(self, end: str, *, sampling: Sampling = GREEDY) -> Request:
        """A text of some hundred tokens, the same for every end but for the end; shorter where the context is."""
        count = max(8, min(160, self.card.context_tokens // 16))
        words = " ".join(WORDS[(i * i + i // 7) % len(WORDS)] for i in range(count))
        return self.short(f"{words}. {end}", sampling=sampling)

    def short(self, text: str, *, sampling: Sampling = GREEDY) -> Request:
        return _request([Part("text", text=text)], sampling)

    def show(self, drawn: Drawn, question: str) -> Request:
        return _request([drawn.part, Part("text", text=question)], GREEDY)

    async def forget(self) -> None:
        """Nothing of earlier prompts may be reused. Waits until no row holds a block."""
        await self.quiet()
        await self.engine.clear_cache()

    async def cold(self, request: Request, shown: Drawn | None = None) -> HarnessAnswer:
        await self.forget()
        return await self.ask(request, shown)

    async def ask(self, request: Request, shown: Drawn | None = None) -> HarnessAnswer:
        """The whole answer. shown: hold the arrays of this picture or clip against the processor's own."""
        request = replace(request, id=secrets.token_hex(8))
        self.witness.followed.add(request.id)
        if shown is not None:
            self.witness.shown[request.id] = shown
        try:
            done = await self._read(request)
        finally:
            self.witness.followed.discard(request.id)
            self.witness.shown.pop(request.id, None)
            seen = self.witness.seen.pop(request.id, Observation())
        return HarnessAnswer(done, seen)

    @asynccontextmanager
    async def neighbour(self, request: Request) -> AsyncIterator[Callable[[], Observation]]:
        """Keep a row decoding beside what is asked meanwhile, then cancel it. It never ends by itself: the tokens that
        would end it are forbidden. Yields once it decodes; the callable says what was seen of it so far."""
        loaded = self.witness.loaded
        bias = tuple((token, -100.0) for token in sorted(loaded.stop_ids)) if loaded else ()
        endless = replace(
            request,
            id=secrets.token_hex(8),
            sampling=replace(request.sampling, logit_bias=bias),
            max_tokens=min(NEIGHBOUR_TOKENS, self.card.context_tokens // 2),
        )
        seen = self.witness.seen.setdefault(endless.id, Observation())
        reading = asyncio.create_task(self._drain(endless))
        try:
            await self._until(lambda: len(seen.turns) >= 2 or reading.done())
            yield lambda: seen
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await self.engine.blocks(with_text=False)  # the engine has cancelled it by then
            self.witness.seen.pop(endless.id, None)

    async def all_begun(self) -> None:
        """Wait until every answer that is asked for right now has a token of the batch's, the second, or is over."""
        await asyncio.sleep(0)  # tasks that were just made have asked by then
        seen, followed = self.witness.seen, self.witness.followed
        await self._until(lambda: all(id in seen and len(seen[id].turns) >= 2 for id in list(followed)))

    async def quiet(self) -> None:
        """Wait until the engine holds no request."""
        await self.engine.blocks(with_text=False)  # what was told to the engine before is done by then
        await self._until(lambda: not self.engine.snapshot().running)

    async def _read(self, request: Request) -> Done:
        async with asyncio.timeout(PATIENCE_S):
            return (await self.engine.complete(request)).done

    async def _drain(self, request: Request) -> None:
        await self.engine.complete(request)

    async def _until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not true():
                await asyncio.sleep(0.005)


def _request(parts: list[Part], sampling: Sampling) -> Request:
    return Request((Message("user", tuple(parts)),), None, sampling, ANSWER_TOKENS, source="selftest")
