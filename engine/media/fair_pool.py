"""FairPool: callers take turns for the threads of a pool; within one caller, first in, first out. Any thread."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class PoolJob(Generic[T]):
    """Work that waits or runs. started is done when a thread begins with it, result when it ends."""

    def __init__(self, caller: Hashable, work: Callable[[], T]) -> None:
        self.caller = caller
        self._work: Callable[[], T] | None = work
        self.started: Future[None] = Future()
        self.result: Future[T] = Future()

    def cancel(self) -> None:
        """It will not be begun; what runs already goes on, and nobody reads its result."""
        if self.started.cancel():
            self._work = None  # what it would have read need not be held until its turn
        self.result.cancel()

    def run(self) -> None:
        """In a thread of the pool."""
        work, self._work = self._work, None
        if not self.started.set_running_or_notify_cancel() or work is None:
            return
        self.started.set_result(None)
        if not self.result.set_running_or_notify_cancel():
            return
        try:
            value = work()
        except StopIteration as error:  # asyncio cannot carry it, and whoever waits would wait for ever
            self.result.set_exception(RuntimeError(f"StopIteration: {error}"))
        except BaseException as error:
            self.result.set_exception(error)
        else:
            self.result.set_result(value)


class FairPool:
    """max_per_caller: jobs of one caller that run at once; without it one caller may have all threads at a time."""

    def __init__(self, executor: Executor, max_per_caller: int | None = None) -> None:
        self._executor = executor
        self._max_per_caller = max_per_caller
        self._lock = threading.Lock()
        self._waiting: OrderedDict[Hashable, deque[PoolJob[Any]]] = OrderedDict()
        self._running: Counter[Hashable] = Counter()

    def submit(self, caller: Hashable, work: Callable[[], T]) -> PoolJob[T]:
        """Queue work behind the caller's other jobs. Raises RuntimeError after close."""
        job = PoolJob(caller, work)
        with self._lock:
            self._waiting.setdefault(caller, deque()).append(job)
        self._executor.submit(self._work_on)
        return job

    def close(self) -> None:
        """Cancel what waits."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            jobs = [job for queue in self._waiting.values() for job in queue]
            self._waiting.clear()
        for job in jobs:
            job.cancel()

    def _work_on(self) -> None:
        """In a thread of the pool: jobs, until there is none that may run. A caller that has its number of threads goes
        on in these."""
        job = self._next()
        while job is not None:
            job.run()
            with self._lock:
                self._running[job.caller] -= 1
                if not self._running[job.caller]:
                    del self._running[job.caller]
            job = self._next()

    def _next(self) -> PoolJob[Any] | None:
        with self._lock:
            for caller in list(self._waiting):
                if self._max_per_caller is not None and self._running[caller] >= self._max_per_caller:
                    continue
                job = self._waiting[caller].popleft()
                self._waiting.move_to_end(caller)
                if not self._waiting[caller]:
                    del self._waiting[caller]
                self._running[caller] += 1
                return job
        return None
