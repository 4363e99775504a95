"""One request on its way through the pools that fetch and decode: whose it is, what it may take, how far it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Hashable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from engine.errors import Busy
from engine.media.expected import MediaSize
from engine.media.fair_pool import FairPool
from engine.types import Request, StageClock

T = TypeVar("T")


class Room(Protocol):
    """Where a request's media are accounted for, decoded or as they are sent on (engine.runtime.intake.tickets)."""

    @property
    def clock(self) -> StageClock: ...
    def expect(self, sizes: Sequence[MediaSize]) -> None: ...
    def reserve(self, index: int, num_bytes: int) -> None: ...
    def busy(self, message: str) -> Busy: ...


@dataclass(frozen=True, slots=True)
class PoolStage:
    """Threads, and after how long one that does not come back is given up."""

    word: str
    pool: FairPool
    limit_s: float


@dataclass(eq=False)
class MediaLoad:
    """One call of Loader.load.

    fetched_bytes: over the network, of all its media so far. num_begun: of its jobs, so far. num_waiting: media that
    are not there yet. keys: of its media by place, what their facts are kept under; None where that is not known before
    they are fetched. num_fetching: media whose addresses are being read.
    """

    request: Request
    room: Room
    is_preflight: bool
    takes_clips: bool = False
    need_pixels: bool = True
    fetched_bytes: int = 0
    num_begun: int = 0
    num_waiting: int = 0
    keys: list[Hashable | None] = field(default_factory=list)
    num_fetching: int = 0

    @contextmanager
    def fetching(self) -> Iterator[None]:
        """Around the reading of one medium's addresses: its clock is at "fetch" as long as any of them is read."""
        self.num_fetching += 1
        self.room.clock.enter("fetch")
        try:
            yield
        finally:
            self.num_fetching -= 1
            if not self.num_fetching:
                self.room.clock.enter("media")


def caller_of(request: Request) -> Hashable:
    """Whose turn it is: a tenant's page, or all that a tenant sends by other ways."""
    return request.tenant, request.session or request.source


@asynccontextmanager
async def at_once(coroutines: Iterable[Coroutine[Any, Any, T]]) -> AsyncIterator[list[asyncio.Task[T]]]:
    """All of them as tasks. At the end of the block what still runs is cancelled."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
