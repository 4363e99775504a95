"""One engine and its event loop, in a thread, for calls that wait. Objects with the same settings share one.

    LLM, MLXMultimodalLM ──lease──> SharedEngine: Engine + event loop thread
                                       run, run_all, iterate: from any thread, also beside a loop that runs (Jupyter)

The threads are daemons and are ended at exit, so a script that closes nothing ends by itself.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from queue import SimpleQueue
from typing import Any, TypeVar

from engine.config import EngineConfig
from engine.core import Engine
from engine.errors import Busy, Conflict, Unavailable
from engine.ranks.place import OPTION
from engine.runtime.following import follow_unless_first
from engine.types import Completion, Event, Request

T = TypeVar("T")
GRACE_S = 10.0
"""For calls that wait when the engine is closed under them: each ends with an error."""

_engines: dict[EngineConfig, SharedEngine] = {}
_lock = threading.Lock()
"""Guards _engines, each one's number of leases, and _had_ranks."""
_had_ranks = threading.Event()


class EngineLease:
    """The right to use the engine of these settings. It ends with close(), or when nobody holds it any more; with the
    last one the model leaves memory."""

    def __init__(self, config: EngineConfig) -> None:
        follow_unless_first(config)
        with _lock:
            shared = _engines.get(config)
            if shared is None:
                _note_ranks(config)
                shared = _engines[config] = SharedEngine(config)
            shared.num_leases += 1
        self._shared = shared
        self._end = weakref.finalize(self, shared.give_back, wait=False)
        self._end.atexit = False  # the engine has its own way to end at exit

    @property
    def shared(self) -> SharedEngine:
        """Raises Unavailable after close()."""
        if not self._end.alive:
            raise Unavailable("This model was closed.", code="shutting_down")
        return self._shared

    def close(self) -> None:
        """Idempotent. Waits until the engine is gone where this was the last lease."""
        if self._end.detach():
            self._shared.give_back(wait=True)


def _note_ranks(config: EngineConfig) -> None:
    """Raise Conflict for a second model with ranks: the other processes follow the first one, and end with it."""
    if config.ranks is not None:
        if _had_ranks.is_set():
            why = "a script has one model that is divided among processes, and this is the second"
            message = f"{OPTION} {config.ranks.size}: {why}; the other processes end with the first."
            raise Conflict(message, param=OPTION, code="unsupported_parameter")
        _had_ranks.set()


class SharedEngine:
    """Any thread but its own may call it."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.num_leases = 0
        self.engine = Engine(config)
        self._num_running = 0
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="offline", daemon=True)
        self._thread.start()
        self._started.wait()
        # Also for one that a garbage collector has begun to close: a process that ends meanwhile would abort in MLX.
        atexit.register(self._finish)
        self.engine.start()

    def give_back(self, *, wait: bool) -> None:
        """One lease less. wait: until the engine is gone, where it was the last; not from a garbage collector, which
        runs in any thread."""
        with _lock:
            self.num_leases -= 1
            if self.num_leases:
                return
            _engines.pop(self.config, None)
        if wait:
            self._finish()
        else:
            self._loop.call_soon_threadsafe(self._closing.set)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What a coroutine returns or raises. Cancelled where this thread is interrupted meanwhile."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def run_all(self, requests: Sequence[Request], ended: Callable[[Completion], None]) -> list[Completion]:
        """Run requests as one batch. ended: called in the loop's thread with each that has come to its end.

        Raises the first error; the others are cancelled then.
        """

        async def one(request: Request) -> Completion:
            async with self._place:
                completion = await self._complete(request)
            ended(completion)
            return completion

        async def all_of_them() -> list[Completion]:
            tasks = [asyncio.ensure_future(one(request)) for request in requests]
            try:
                return list(await asyncio.gather(*tasks))
            finally:
                for task in tasks:
                    task.cancel()

        return self.run(all_of_them())

    def iterate(self, request: Request) -> Iterator[Event]:
        """The events of a request. Closing the iterator cancels it."""
        events: SimpleQueue[Event | None] = SimpleQueue()

        async def pump() -> None:
            try:
                async with self._working(), aclosing(self.engine.stream(request)) as stream:
                    async for event in stream:
                        events.put(event)
            finally:
                events.put(None)

        future = asyncio.run_coroutine_threadsafe(pump(), self._loop)
        try:
            while (event := events.get()) is not None:
                yield event
            future.result()
        finally:
            future.cancel()

    async def _complete(self, request: Request) -> Completion:
        """As Engine.complete; where the engine has no room it waits until another request has ended."""
        while True:
            try:
                async with self._working():
                    return await self.engine.complete(request)
            except Busy:
                if not self._num_running:  # it is too much by itself
                    raise
            async with self._change:
                if self._num_running:
                    await self._change.wait()

    @asynccontextmanager
    async def _working(self) -> AsyncGenerator[None, None]:
        self._num_running += 1
        try:
            yield
        finally:
            self._num_running -= 1
            async with self._change:
                self._change.notify_all()

    def _finish(self) -> None:
        """End the engine and the loop. Idempotent."""
        if self._thread.is_alive():
            with suppress(RuntimeError):  # it has closed its loop this moment
                self._loop.call_soon_threadsafe(self._closing.set)
            self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner() as runner:
            runner.run(self._until_closed())
        atexit.unregister(self._finish)

    async def _until_closed(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        self._change = asyncio.Condition()
        self._place = asyncio.Semaphore(self.config.max_num_seqs)
        self._started.set()
        await self._closing.wait()
        self.engine.stop()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=GRACE_S)
