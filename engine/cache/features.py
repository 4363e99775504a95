"""Vision features by content, bounded by bytes: the encoder is skipped where KV is gone or only part of it matches.

Keys are made from the processed pixels, so they cover the picture and the processor's settings alike. Pure Python;
payloads are opaque (arrays). Belongs to the engine thread.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class FeatureStore:
    """Least recently used first. hits and misses count pictures and pairs of frames, not calls of the encoder."""

    max_bytes: int
    num_bytes: int = 0
    hits: int = 0
    misses: int = 0
    evictions: int = 0
    _held: OrderedDict[bytes, tuple[Any, int]] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: bytes) -> Any:
        """The payload, or None. Counts as a hit or a miss."""
        found = self._held.get(key)
        if found is None:
            self.misses += 1
            return None
        self._held.move_to_end(key)
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
            _, (_, gone) = self._held.popitem(last=False)
            self.num_bytes -= gone
            self.evictions += 1

    def clear(self) -> None:
        self._held.clear()
        self.num_bytes = 0
