"""fair_pool: callers take turns, each in its own order; what waits can be given up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from engine.media.fair_pool import FairPool


class Line:
    """One thread that is held until `open`, and the names of the jobs in the order in which they ran."""

    def __init__(self, num_threads: int = 1, max_per_caller: int | None = None) -> None:
        self.pool = FairPool(ThreadPoolExecutor(num_threads), max_per_caller)
        self.ran: list[str] = []
        self.gate = threading.Event()

    def hold(self, caller: str) -> Any:
        job = self.pool.submit(caller, partial(self.gate.wait, 10))
        job.started.result(10)
        return job

    def add(self, *names: str) -> list[Any]:
        """The first letter of a name is its caller."""
        return [self.pool.submit(name[0], partial(self.ran.append, name)) for name in names]


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.gate.set()
    made.pool.close()


def test_callers_take_turns_and_each_keeps_its_order(line: Line) -> None:
    line.hold("x")
    jobs = line.add("a1", "a2", "a3", "a4", "b1", "b2", "c1")
    line.gate.set()
    for job in jobs:
        job.result.result(10)
    assert line.ran == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]


def test_one_caller_has_its_share_of_the_threads_and_no_more() -> None:
    line = Line(num_threads=3, max_per_caller=2)
    held = [line.hold("a"), line.hold("a")]
    (more,) = line.add("a1")
    (other,) = line.add("b1")
    other.result.result(10)
    assert not more.started.done(), "a third thread is free, but not for this caller"
    line.gate.set()
    more.result.result(10)
    assert line.ran == ["b1", "a1"] and all(job.result.result(10) for job in held)
    line.pool.close()


def test_a_cancelled_job_is_not_begun_and_holds_nothing(line: Line) -> None:
    line.hold("x")
    first, second = line.add("a1", "a2")
    first.cancel()
    assert first._work is None and first.result.cancelled()
    line.gate.set()
    second.result.result(10)
    assert line.ran == ["a2"]


async def test_errors_reach_who_waits(line: Line) -> None:
    """StopIteration too, which asyncio cannot carry: whoever waited would have done so for ever."""

    def fail(error: BaseException) -> None:
        raise error

    for error, kind in ((KeyError("x"), KeyError), (StopIteration("x"), RuntimeError)):
        with pytest.raises(kind, match="x"):
            async with asyncio.timeout(10):
                await asyncio.wrap_future(line.pool.submit("a", partial(fail, error)).result)


def test_closing_cancels_what_waits(line: Line) -> None:
    held = line.hold("x")
    jobs = line.add("a1", "b1")
    line.pool.close()
    assert all(job.result.cancelled() for job in jobs)
    line.gate.set()
    assert held.result.result(10) and line.ran == []
    with pytest.raises(RuntimeError):
        line.add("a2")
