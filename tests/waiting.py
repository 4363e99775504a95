"""Waiting for a state, with a deadline. How long it takes to come is up to the machine; that it comes is the test's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

TIMEOUT_S = 60.0
POLL_S = 0.01


def wait_until(condition: Callable[[], Any], what: str = "it did not happen", timeout_s: float = TIMEOUT_S) -> None:
    """Return once the condition holds. Raises AssertionError with `what` when it does not within the time."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, what
        time.sleep(POLL_S)


async def until(condition: Callable[[], Any], what: str = "it did not happen", timeout_s: float = TIMEOUT_S) -> None:
    """The same in a coroutine: the event loop goes on meanwhile."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, what
        await asyncio.sleep(POLL_S)
