"""Vision features by content, bounded by bytes: the encoder is skipped where KV is gone or only part of it matches.

Keys are made from the processed pixels, so they cover the picture and the processor's settings alike. Pure Python;
payloads are opaque (arrays). Belongs to the engine thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
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

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[tuple[bytes, Any]]:
        """Keys and payloads, least recently used first."""
        return iter([(key, payload) for key, (payload, _) in self._held.items()])

    def get(self, key: bytes) -> Any:
        """The payload, or None. Counts as a hit or a miss."""
        found = self._held.get(key)
        if found is not None:
            self._held.move_to_end(key)
        elif self.below is not None and (found := self.below(key)) is not None:
            self.put(key, *found)
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        return found[0]

    def put(self, key: bytes, payload: Any, num_bytes: int) -> None:
        """Keep a payload; one that alone is over the limit is not kept."""
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

    def clear(self) -> None:
        self._held.clear()
        self.num_bytes = 0
