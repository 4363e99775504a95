"""What is known of each model of another server, and what it is asked now. Any thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from engine.errors import EngineError, Unavailable
from engine.remote.vocabulary import RemoteVocabulary
from engine.runtime.intake.deadline import Deadline
from engine.runtime.loading.slots import ModelSlot
from engine.types import RemoteServer, Request, Running

T = TypeVar("T")

AGAIN_S = 15.0
"""So long what was learnt of a server holds, where somebody looks."""

AGAIN_FAILED_S = 3.0


@dataclass(eq=False)
class RemoteLink:
    """One model of another server. model: its name there, once it is known. probe: the look at it that goes on now.
    is_settled: False where the server said of the model that it is still on its way, as this project's do. lacks: the
    URLs that it was found not to have, each with its error and when that was (time.monotonic)."""

    slot: ModelSlot
    server: RemoteServer
    model: str | None
    words: RemoteVocabulary = field(default_factory=RemoteVocabulary)
    probe: Future[None] | None = None
    looked_s: float = -AGAIN_S
    is_settled: bool = True
    lacks: dict[str, tuple[EngineError, float]] = field(default_factory=dict)

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
    is_preflight: bool = False
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
