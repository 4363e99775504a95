"""A list of several prompts as one answer: each is a request of its own, and all are computed in one batch.

The choices of a prompt follow those of the one before: choice index = prompt * n + its index among the n.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import astuple, replace

from engine.core import Engine
from engine.errors import EngineError
from engine.types import Delta, Done, Event, Request, Usage

Arrived = tuple[int, Event | Exception]


async def stream_each(engine: Engine, requests: Sequence[Request]) -> AsyncGenerator[Event, None]:
    """The events of all requests as those of one: every Delta with the index of its choice among all, then one Done
    with the sum of their usage. Closing cancels all.

    As many as there are rows in the batch are in the engine at once, so a long list leaves the queue to others.
    Raises the first EngineError of any, with the prompt's place in its param.
    """
    arrived: asyncio.Queue[Arrived] = asyncio.Queue()
    room = asyncio.Semaphore(engine.config.max_rows)

    async def run(i: int) -> None:
        try:
            async with room, aclosing(engine.stream(requests[i])) as events:
                async for event in events:
                    arrived.put_nowait((i, event))
        except Exception as error:
            arrived.put_nowait((i, error))

    tasks = [asyncio.create_task(run(i)) for i in range(len(requests))]
    ends: dict[int, Done] = {}
    try:
        while len(ends) < len(requests):
            i, event = await arrived.get()
            if isinstance(event, Exception):
                raise _placed(event, i)
            if isinstance(event, Delta):
                yield replace(event, index=i * requests[i].n + event.index)
            else:
                ends[i] = event
        yield _together([ends[i] for i in range(len(requests))])
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _placed(error: Exception, i: int) -> Exception:
    """An error about the prompt names which of the list."""
    if isinstance(error, EngineError) and error.param == "prompt":
        error.param = f"prompt[{i}]"
        error.message = f"prompt[{i}]: {error.message.removeprefix('prompt: ')}"
    return error


def _together(ends: list[Done]) -> Done:
    """One end for all. Nothing is said of how the cache served each of them."""
    counts = [astuple(end.usage) for end in ends]
    usage = Usage(*(sum(column) for column in zip(*counts, strict=True)))
    cancelled = next((end for end in ends if end.finish_reason == "cancelled"), ends[0])
    return replace(cancelled, usage=usage, media=(), trace=None)
