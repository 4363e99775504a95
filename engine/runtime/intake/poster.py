"""From the engine thread to the task that reads an answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from engine.errors import EngineError
from engine.types import Event

log = logging.getLogger(__name__)


def poster(events: asyncio.Queue[Event | EngineError]) -> Callable[[Event | EngineError], None]:
    """A function for the engine thread that hands events to this task's loop; a loop that is gone reads no more."""
    loop = asyncio.get_running_loop()

    def post(event: Event | EngineError) -> None:
        try:
            loop.call_soon_threadsafe(events.put_nowait, event)
        except RuntimeError:
            log.debug("the reader's event loop is closed")

    return post
