"""Waiting for a state, with a deadline. How long it takes to come is up to the machine; that it comes is the test's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

TIMEOUT_S = 60.0
FIRST_S, LONGEST_S = 0.005, 0.04
"""Between two looks, growing: a look at a page or at a server takes time of the processor that those need, too."""


def wait_until(condition: Callable[[], Any], what: str = "it did not happen", timeout_s: float = TIMEOUT_S) -> None:
    """Return once the condition holds. Raises AssertionError with `what` when it does not within the time."""
    deadline_s, pause_s = time.monotonic() + timeout_s, FIRST_S
    while not condition():
        assert time.monotonic() < deadline_s, what
        time.sleep(pause_s)
        pause_s = min(1.3 * pause_s, LONGEST_S)


async def until(condition: Callable[[], Any], what: str = "it did not happen", timeout_s: float = TIMEOUT_S) -> None:
    """The same in a coroutine: the event loop goes on meanwhile."""
    deadline_s, pause_s = time.monotonic() + timeout_s, FIRST_S
    while not condition():
        assert time.monotonic() < deadline_s, what
        await asyncio.sleep(pause_s)
        pause_s = min(1.3 * pause_s, LONGEST_S)
