"""Asks for many items at once, in the order that reuses most, and writes each answer down before the next. One loop."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from engine.batch_run.journal import Journal
from engine.errors import BadRequest, Busy, EngineError, Unavailable
from engine.types import Json

MAX_WAITS = 100
"""How often an item waits for room before it counts as failed; each wait is as long as the engine says."""


@dataclass(frozen=True, slots=True)
class WorkItem:
    """key: names its record. stamp: what its answer depends on beside the run's settings; a record with another stamp
    is asked for again. group: items of one group share the beginning of their prompts; "" for none."""

    key: str
    stamp: str = ""
    group: str = ""


class BatchPlaces(asyncio.Semaphore):
    """Items that all runs and batches of a server may ask for at once: half of what the engine works on, so that
    whoever waits at a screen finds a place. number: how many there are."""

    def __init__(self, at_once: int) -> None:
        self.number = max(1, at_once // 2)
        super().__init__(self.number)


Ask = Callable[[WorkItem], Awaitable[Json]]
"""What an item's record holds beside key and stamp. An EngineError that it raises becomes the record's "error"."""


@dataclass
class Runner:
    """concurrency: items asked for at once. on_record: called with every new record. retries: how often an item whose
    failure was not its own fault is asked for again."""

    journal: Journal
    concurrency: int
    on_record: Callable[[Json], None] = field(default=lambda record: None)
    retries: int = 1
    _end: Callable[[], None] | None = field(default=None, init=False, repr=False)

    def pause(self) -> None:
        """Begin with no more items: run() returns once those in flight have their records. Nothing while it is not
        running."""
        if self._end is not None:
            self._end()

    async def run(self, items: Sequence[WorkItem], ask: Ask) -> None:
        """Ask for the items that have no answer in the journal. Cancelling it loses the items in flight, and no others.

        The first item of a group goes before the others of it, which then find what they share computed. Raises
        Unavailable when the engine is gone or the journal cannot be written.
        """
        queue: asyncio.PriorityQueue[tuple[int, int, WorkItem | None]] = asyncio.PriorityQueue()
        waiting: defaultdict[str, list[tuple[int, int, WorkItem | None]]] = defaultdict(list)
        leads: set[str] = set()
        todo = [item for item in items if not self.journal.has_answer(item.key, item.stamp)]
        for place, item in enumerate(todo):
            if item.group in leads:
                waiting[item.group].append((0, place, item))
            else:
                queue.put_nowait((1, place, item))
                leads.update({item.group} - {""})
        left, has_end = len(todo), False

        def end() -> None:
            """Before all items that wait: each worker takes one, and goes."""
            nonlocal has_end
            for place in range(0 if has_end else self.concurrency):
                queue.put_nowait((-1, place, None))
            has_end = True

        async def work() -> None:
            nonlocal left
            while left:
                _, _, item = await queue.get()
                if item is None:
                    return
                await self._settle(item, ask)
                left -= 1
                for follower in waiting.pop(item.group, ()):
                    queue.put_nowait(follower)
            end()  # the others wait for items that will not come

        self._end = end
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self.concurrency, left)):
                    group.create_task(work())
        except* EngineError as errors:
            raise errors.exceptions[0] from None
        finally:
            self._end = None

    async def _settle(self, item: WorkItem, ask: Ask) -> None:
        """Ask until there is an answer or a failure to write down."""
        waits = tries = 0
        while True:
            try:
                found = await ask(item)
            except Unavailable:
                raise
            except Busy as error:
                waits += 1
                if waits < MAX_WAITS:
                    await asyncio.sleep(error.retry_after_s)
                    continue
                found = {"error": error_json(error)}
            except EngineError as error:
                tries += 1
                if tries <= self.retries and not isinstance(error, BadRequest):
                    continue
                found = {"error": error_json(error)}
            record = {"key": item.key, "stamp": item.stamp, **found}
            self.journal.add(record)
            self.on_record(record)
            return


def error_json(error: EngineError) -> Json:
    """A failure as a record has it."""
    return {**error.to_openai()["error"], "status": error.status}
