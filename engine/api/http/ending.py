"""The end of a server in order: no new requests, running answers go on for a while, then whatever is left is ended.

    SIGTERM or Ctrl-C ──> requests get 503 ──> answers are complete, or --shutdown-timeout is over ──> the port closes

A second signal ends the wait. The port stays open during it, so that clients and probes are told what happens.
A restart that was asked for (engine.own_process) begins in the same way; a signal meanwhile ends it for good.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Protocol

import uvicorn

from engine.own_process import Restart
from engine.runtime.intake.tickets import ClosedFor

log = logging.getLogger(__name__)

POLL_S = 0.05


class Answering(Protocol):
    """What gives the answers, as far as it matters to their end: an Engine."""

    @property
    def num_open(self) -> int:
        """Answers that are not complete."""

    def drain(self, why: ClosedFor) -> None:
        """Begin no more answers."""

    def stop(self) -> None:
        """End those that go on, with an error."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What ends with a server, and what it may end for beside a signal."""

    answering: Answering | None = None
    restart: Restart = field(default_factory=Restart)


class EndingServer(uvicorn.Server):
    """uvicorn's server, whose first signal only says that the end is near; the second one is uvicorn's first."""

    is_ending = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The handler of SIGINT and SIGTERM while it serves."""
        if self.is_ending:
            super().handle_exit(sig, frame)
        else:
            self.is_ending = True
            self._captured_signals.append(sig)  # raised again when all is over, as uvicorn does


async def end_in_order(server: EndingServer, ending: Ending, limit_s: float) -> None:
    """Wait for the server to be asked to end, and see to it. limit_s: how long answers may go on."""
    answering, restart = ending.answering, ending.restart
    await until(lambda: server.is_ending or server.should_exit or restart.is_asked)
    is_restart = restart.is_asked and not server.is_ending
    if is_restart:
        server.is_ending = True
        log.warning("a restart was asked for")
    if answering is not None:
        answering.drain("restarting" if is_restart else "shutting_down")
        if answering.num_open and not server.should_exit:
            log.warning("%d answers may go on for %g s; interrupt again to end them now", answering.num_open, limit_s)
        try:
            async with asyncio.timeout(limit_s):
                await until(lambda: server.should_exit or not answering.num_open)
        except TimeoutError:
            log.warning("%d answers are ended after %g s", answering.num_open, limit_s)
    server.should_exit = True
    if answering is not None:
        answering.stop()


async def until(condition: Callable[[], bool]) -> None:
    """uvicorn tells its state by flags, not by events."""
    while not condition():
        await asyncio.sleep(POLL_S)
