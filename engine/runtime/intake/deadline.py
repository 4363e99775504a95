"""How long one request may take, from its arrival to its last token (--timeout). Event loop only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TypeVar

from engine.errors import TimedOut

T = TypeVar("T")


class Deadline:
    """The moment at which a request that is accepted now must have ended. limit_s: None for never.

    accepted_s: now, in seconds of time.perf_counter.
    """

    def __init__(self, limit_s: float | None) -> None:
        self.accepted_s = time.perf_counter()
        self._limit_s = limit_s
        self._ends_s = None if limit_s is None else asyncio.get_running_loop().time() + limit_s

    async def wait(self, work: Awaitable[T]) -> T:
        """What work gives, if it does so in time. Raises TimedOut, with work cancelled, and what work raises."""
        if self._ends_s is None:
            return await work
        timeout = asyncio.timeout_at(self._ends_s)
        try:
            async with timeout:
                return await work
        except TimeoutError as error:
            if not timeout.expired():
                raise
            why = f"The answer was not complete after {self._limit_s:g} s, the server's limit (--timeout)."
            raise TimedOut(why) from error
