"""Sends requests to the engine, one alone or several at once, and returns what was observed. Any event loop."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from engine.config import EngineConfig
from engine.core import Engine
from engine.measure.selftest.fixtures import DrawnMedium
from engine.measure.selftest.judge import ObservedRun, noise
from engine.measure.selftest.observer import Observation, Observer
from engine.types import Done, Message, ModelCard, Part, Request, Sampling

ANSWER_TOKENS = 24
NEIGHBOUR_TOKENS = 4096
"""More than a neighbour needs, since it is cancelled, and few enough that a row waiting for its memory gets it."""

PATIENCE_S = 600.0
"""Longest time for one answer. Generous for a large model on a slow machine; what takes longer counts as a fault."""

GREEDY = Sampling(temperature=0.0)
SEEDED = Sampling(temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, seed=7)
WORDS = ("river", "stone", "lamp", "green", "seven", "window", "paper", "cloud", "bread", "silver", "garden", "music")


@dataclass(frozen=True)
class ObservedAnswer:
    """One answer: the engine's last event, and what the observer recorded."""

    done: Done
    observation: Observation

    @property
    def run(self) -> ObservedRun:
        return self.observation.run()

    @property
    def reused(self) -> int:
        return self.done.usage.cached_tokens


class Harness:
    """One engine, its observer and the picture of the test."""

    def __init__(self, engine: Engine, observer: Observer, card: ModelCard, picture: DrawnMedium) -> None:
        self.engine = engine
        self.observer = observer
        self.card = card
        self.picture = picture
        self.noise = noise(card.dtype, engine.snapshot().device.mlx_device)

    @property
    def in_turns(self) -> bool:
        """Whether rows decode one at a time, because of the model's family or the engine's settings."""
        loaded = self.observer.loaded
        config = self.engine.config
        return bool(loaded and loaded.family.serial) or min(config.max_num_seqs, config.max_rows) < 2

    @property
    def in_snapshots(self) -> bool:
        """Whether prefixes are kept as whole rows, because this family's KV cannot be cut into blocks."""
        return self.engine.snapshot().cache.snapshots > 0

    def text(self, end: str, *, sampling: Sampling = GREEDY) -> Request:
        """A text of some hundred tokens, fewer where the context is short. Only its last words, `end`, vary."""
        count = max(8, min(160, self.card.context_tokens // 16))
        words = " ".join(WORDS[(i * i + i // 7) % len(WORDS)] for i in range(count))
        return self.short(f"{words}. {end}", sampling=sampling)

    def short(self, text: str, *, sampling: Sampling = GREEDY) -> Request:
        return _request([Part("text", text=text)], sampling)

    def show(self, medium: DrawnMedium, question: str) -> Request:
        return _request([medium.part, Part("text", text=question)], GREEDY)

    async def forget(self) -> None:
        """Clear the cache, once no row holds a block of it."""
        await self.quiet()
        await self.engine.cache.clear()

    async def cold(self, request: Request, medium: DrawnMedium | None = None) -> ObservedAnswer:
        await self.forget()
        return await self.ask(request, medium)

    async def ask(self, request: Request, medium: DrawnMedium | None = None) -> ObservedAnswer:
        """The whole answer. medium: a picture or clip of the request, to be run through the processor by itself too."""
        request = replace(request, id=secrets.token_hex(8))
        self.observer.followed.add(request.id)
        if medium is not None:
            self.observer.media[request.id] = medium
        try:
            done = await self._read(request)
        except asyncio.CancelledError:
            await self._heard()  # else it would still be observed
            raise
        finally:
            self.observer.followed.discard(request.id)
            self.observer.media.pop(request.id, None)
            observation = self.observer.observations.pop(request.id, Observation())
        return ObservedAnswer(done, observation)

    @asynccontextmanager
    async def neighbour(self, request: Request) -> AsyncIterator[Callable[[], Observation]]:
        """Keep a row decoding while the body runs, then cancel it. It cannot end by itself: its stop tokens are biased
        away. Yields once it decodes; the callable returns what was observed of it so far."""
        loaded = self.observer.loaded
        bias = tuple((token, -100.0) for token in sorted(loaded.stop_ids)) if loaded else ()
        endless = replace(
            request,
            id=secrets.token_hex(8),
            sampling=replace(request.sampling, logit_bias=bias),
            max_tokens=min(NEIGHBOUR_TOKENS, self.card.context_tokens // 2),
        )
        observation = self.observer.observations.setdefault(endless.id, Observation())
        reading = asyncio.create_task(self._drain(endless))
        try:
            await self._until(lambda: len(observation.turns) >= 2 or reading.done())
            yield lambda: observation
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await self._heard()
            self.observer.observations.pop(endless.id, None)

    async def all_begun(self) -> None:
        """Wait until every running request has its second token, which the batch makes, or has ended."""
        await asyncio.sleep(0)  # tasks that were just created have sent their request by then
        observations, followed = self.observer.observations, self.observer.followed
        await self._until(lambda: all(id in observations and len(observations[id].turns) >= 2 for id in list(followed)))

    async def quiet(self) -> None:
        """Wait until the engine runs no request."""
        await self._heard()
        await self._until(lambda: not self.engine.snapshot().running)

    async def _heard(self) -> None:
        """Wait until the engine thread has done earlier commands, such as to cancel a request."""
        await self.engine.cache.blocks(with_text=False)

    async def _read(self, request: Request) -> Done:
        async with asyncio.timeout(PATIENCE_S):
            return (await self.engine.complete(request)).done

    async def _drain(self, request: Request) -> None:
        await self.engine.complete(request)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.005)


@asynccontextmanager
async def harnessed(config: EngineConfig, picture: DrawnMedium) -> AsyncIterator[Harness]:
    """A harness with an engine of its own, which ends with it. Raises EngineError where the model cannot be loaded."""
    observer = Observer()
    engine = Engine(config, observer)
    engine.start()
    try:
        yield Harness(engine, observer, await engine.ready(), picture)
    finally:
        engine.stop()


def _request(parts: list[Part], sampling: Sampling) -> Request:
    return Request((Message("user", tuple(parts)),), None, sampling, ANSWER_TOKENS, source="selftest")
