"""bounded: by number and by bytes, and what threads do to it at the same time."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from engine.bounded import BoundedCache
from tests.waiting import wait_until


@pytest.fixture
def many_switches() -> Iterator[None]:
    """Threads change places after every few instructions."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)  # shorter, and other tests' idle engines take all the time
    yield
    sys.setswitchinterval(interval)


def small(max_count: int = 3, max_bytes: int = 100) -> BoundedCache[str, bytes]:
    return BoundedCache(max_count, max_bytes, len)


def test_what_was_used_longest_ago_goes_first() -> None:
    cache = small()
    for key in "abc":
        cache.put(key, b"1")
    assert cache.get("a") == b"1"
    cache.put("d", b"1")
    assert [cache.get(key) for key in "abcd"] == [b"1", None, b"1", b"1"]
    cache.put("e", b"x" * 99)
    assert (len(cache), cache.num_bytes) == (2, 100)
    assert cache.pop("e") == b"x" * 99 and cache.pop("e") is None


def test_one_that_is_larger_than_all_is_given_and_not_kept() -> None:
    cache = small()
    cache.put("a", b"old")
    assert len(cache.get_or_make("b", lambda: b"x" * 101)) == 101
    cache.put("a", b"x" * 101)
    assert (cache.get("b"), cache.get("a"), len(cache)) == (None, None, 0), "nor is the old value told for the new"


def test_clear_forgets_what_is_being_made_too() -> None:
    cache = small()

    def make() -> bytes:
        cache.clear()
        return b"old"

    assert cache.get_or_make("a", make) == b"old"
    assert cache.get("a") is None
    assert cache.get_or_make("a", lambda: b"new") == b"new" == cache.get("a")


def together(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Results, or errors, of as many threads that begin at once."""
    barrier = threading.Barrier(count)

    def run(number: int) -> Any:
        barrier.wait()
        try:
            return work(number)
        except Exception as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_what_is_asked_for_twice_at_once_is_made_once() -> None:
    cache = small()
    made: list[int] = []
    come: list[int] = []

    def make() -> bytes:
        made.append(1)
        wait_until(lambda: len(come) == 4)
        time.sleep(0.1)  # they ask right after they have come
        return b"x" * 101  # even one that cannot be kept

    def asked(number: int) -> int:
        come.append(number)
        return len(cache.get_or_make("a", make))

    assert together(4, asked) == [101] * 4
    assert len(made) == 1


def test_one_that_fails_poisons_nobody() -> None:
    """The error is that of whoever met it; those who waited for it make their own."""
    cache, first = small(), threading.Event()

    def make() -> bytes:
        if not first.is_set():
            first.set()
            time.sleep(0.1)
            raise KeyError("the first")
        return b"good"

    results = together(3, lambda _: cache.get_or_make("a", make))
    assert sorted(map(repr, results)) == ["KeyError('the first')", "b'good'", "b'good'"]
    assert cache.get_or_make("a", make) == b"good"


def hammer(cache: Any, rounds: int) -> list[Any]:
    """Two threads that make, read, drop and clear in a cache that holds almost nothing. Returns what went wrong."""

    def work(number: int) -> None:
        for i in range(rounds):
            key, value = f"{i % 7}", f"{i % 7}".encode() * (1 + i % 40)
            got = cache.get_or_make(key, lambda value=value: value)
            assert set(got.decode()) == {key}, "another key's value"
            cache.put(f"{(i + number) % 5}", b"" + f"{(i + number) % 5}".encode())
            cache.get(f"{i % 3}")
            cache.pop(f"{i % 4}")
            if i % 97 == 0:
                cache.clear()
            assert len(cache) <= 3 and cache.num_bytes <= 100, "over its bounds"

    return [error for error in together(2, work) if error is not None]


@pytest.mark.usefixtures("many_switches")
def test_two_threads_on_one_small_cache_for_ten_thousand_rounds() -> None:
    cache = small()
    assert hammer(cache, 10_000) == []
    assert not cache._in_work, "somebody still seems to make something"


class NoLock:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


@pytest.mark.usefixtures("many_switches")
def test_sabotage_without_the_lock_two_threads_break_it() -> None:
    """Twin: the other thread comes in the middle of the library's eviction."""

    def unlocked() -> list[Any]:
        cache = small()
        cache._lock = NoLock()  # type: ignore[assignment]
        return hammer(cache, 10_000)

    broken = next(errors for _ in range(20) if (errors := unlocked()))
    assert all(isinstance(e, KeyError | RuntimeError) or "over its bounds" in str(e) for e in broken), broken
