"""BoundedCache: what threads share and may forget. Least recently used out first, by number and by bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

from cachetools import Cache, LRUCache

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """A cache for any number of threads: at most max_count values, at most max_bytes by num_bytes(value).

    A value that alone is larger than max_bytes is not kept.
    """

    def __init__(self, max_count: int, max_bytes: float, num_bytes: Callable[[V], int]) -> None:
        self._max_count = max_count
        self._lock = threading.Lock()
        self._values: LRUCache[K, V] = LRUCache(max_bytes, getsizeof=num_bytes)
        self._in_work: dict[K, Future[V]] = {}

    def __len__(self) -> int:
        with self._lock:
            return len(self._values)

    @property
    def num_bytes(self) -> float:
        """Of all values together."""
        with self._lock:
            return self._values.currsize

    def get(self, key: K) -> V | None:
        """The value, which counts as a use. Returns None when it is not there."""
        with self._lock:
            return self._values.get(key)

    def values(self) -> list[V]:
        """All that are kept, in no order. Counts as no use."""
        with self._lock:
            return [Cache.__getitem__(self._values, key) for key in self._values]

    def put(self, key: K, value: V) -> None:
        """Keep a value, in place of the one that this key has. Evicts what was used longest ago."""
        with self._lock:
            self._put(key, value)

    def pop(self, key: K) -> V | None:
        """Forget one value and return it; None when it is not there."""
        with self._lock:
            return self._values.pop(key, None)

    def clear(self) -> None:
        """Forget all, also what is being made right now: whoever makes it gets it, and nobody else does."""
        with self._lock:
            self._values.clear()
            self._in_work = {}

    def retain(self, keys: Collection[K]) -> None:
        """Forget all but these, as `clear` forgets."""
        with self._lock:
            for key in [key for key in self._values if key not in keys]:
                del self._values[key]
            self._in_work = {}

    def get_or_make(self, key: K, make: Callable[[], V]) -> V:
        """The value, made and kept where it is not there.

        Threads that ask for the same key meanwhile wait for the one that makes it. Where that one fails, each of them
        makes its own: the error belongs to whoever met it. Raises what make raises.
        """
        with self._lock:
            if (value := self._values.get(key)) is not None:
                return value
            in_work = self._in_work
            if (other := in_work.get(key)) is None:
                mine = in_work[key] = Future()
        if other is not None:
            return make() if other.exception() is not None else other.result()
        try:
            value = make()
        except BaseException as error:
            self._finish(in_work, key)
            mine.set_exception(error)
            raise
        self._finish(in_work, key, value)
        mine.set_result(value)
        return value

    def _finish(self, in_work: dict[K, Future[V]], key: K, value: V | None = None) -> None:
        """The value is made, or is not. Nothing is kept of what was begun before `clear`."""
        with self._lock:
            del in_work[key]
            if value is not None and in_work is self._in_work:
                self._put(key, value)

    def _put(self, key: K, value: V) -> None:
        self._values.pop(key, None)
        try:
            self._values[key] = value
        except ValueError:  # larger than all that may be kept
            return
        while len(self._values) > self._max_count:
            self._values.popitem()
