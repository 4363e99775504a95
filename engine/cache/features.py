"""Vision features by content, bounded by bytes: the encoder is skipped where KV is gone or only part of it matches.

Keys are made from the processed pixels, so they cover the picture and the processor's settings alike. Features depend
on nothing else, so another tenant's would be right; but the time they save would tell that somebody has sent this very
picture. So the tenant is part of the key here too. Pure Python; payloads are opaque (arrays). Belongs to the engine
thread.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class FeatureStore:
    """Least recently used first. hits and misses count pictures and pairs of frames, not calls of the encoder.

    evicted is told of a payload that goes; below is asked for one that is not here, for (payload, bytes) or None.
    """

    max_bytes: int
    num_bytes: int = 0
    hits: int = 0
    misses: int = 0
    evictions: int = 0
    evicted: Callable[[bytes, Any], None] | None = None
    below: Callable[[bytes], tuple[Any, int] | None] | None = None
    _held: OrderedDict[bytes, tuple[Any, int]] = field(default_factory=OrderedDict)
    _tenant: str = ""
    _reuse: bool = True

    @contextmanager
    def serving(self, tenant: str, reuse: bool = True) -> Iterator[None]:
        """For whom get and put are called inside; without reuse nothing is found, kept or counted."""
        before, (self._tenant, self._reuse) = (self._tenant, self._reuse), (tenant, reuse)
        try:
            yield
        finally:
            self._tenant, self._reuse = before

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[tuple[bytes, Any]]:
        """Keys and payloads, least recently used first."""
        return iter([(key, payload) for key, (payload, _) in self._held.items()])

    def get(self, key: bytes) -> Any:
        """The payload, or None. Counts as a hit or a miss."""
        if not self._reuse:
            return None
        key = self._own(key)
        found = self._held.get(key)
        if found is not None:
            self._held.move_to_end(key)
        elif self.below is not None and (found := self.below(key)) is not None:
            self._put(key, *found)
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        return found[0]

    def put(self, key: bytes, payload: Any, num_bytes: int) -> None:
        """Keep a payload; one that alone is over the limit is not kept."""
        if self._reuse:
            self._put(self._own(key), payload, num_bytes)

    def _put(self, key: bytes, payload: Any, num_bytes: int) -> None:
        if num_bytes > self.max_bytes:
            return
        old = self._held.pop(key, None)
        self.num_bytes += num_bytes - (old[1] if old else 0)
        self._held[key] = (payload, num_bytes)
        while self.num_bytes > self.max_bytes:
            gone, (payload, num_bytes) = self._held.popitem(last=False)
            if self.evicted is not None:
                self.evicted(gone, payload)
            self.num_bytes -= num_bytes
            self.evictions += 1

    def _own(self, key: bytes) -> bytes:
        """The key among those of the tenant that is served."""
        if not self._tenant:
            return key
        return hashlib.blake2b(key + self._tenant.encode(), digest_size=16).digest()

    def clear(self) -> None:
        self._held.clear()
        self.num_bytes = 0
