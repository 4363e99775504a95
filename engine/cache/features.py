"""Vision features by content, bounded by bytes: the vision tower is skipped where KV was evicted or matches only in
part.

Keys are made from the processed pixels, so they cover the picture and the processor's settings alike. Features depend
on nothing else, so another tenant's would be right; but the time they save would tell that somebody has sent this very
picture. So the tenant is part of the key here too. Pure Python; payloads are opaque (arrays). Belongs to the engine
thread.

Pinned units are never evicted; others are, in their place. The bound of bytes holds all the same, so where pinned units
leave no room for a new one, the new one is used and not kept.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from engine.types import FeatureInfo, MediaPortion

_MAX_PORTIONS = 32


@dataclass(slots=True)
class FeatureUnit:
    """A payload that is held. portions: the media it is of by sha256, the most recently attributed last."""

    payload: Any
    num_bytes: int
    tenant: str
    created_s: float
    last_use_s: float
    hits: int = 0
    pinned: bool = False
    portions: dict[str, MediaPortion] = field(default_factory=dict)

    def add(self, new: MediaPortion) -> None:
        """A medium may have the same unit at several places."""
        old = self.portions.pop(new.sha256, new)
        frames = tuple(sorted({*old.frames, *new.frames}))
        self.portions[new.sha256] = MediaPortion(new.sha256, frames, new.num_frames)
        if len(self.portions) > _MAX_PORTIONS:
            self.portions.pop(next(iter(self.portions)))


class FeatureSource(Protocol):
    """Where payloads come from that memory has not."""

    def request(self, keys: Sequence[bytes]) -> None:
        """These will be fetched, in this order."""

    def fetch(self, key: bytes) -> tuple[Any, int] | None:
        """A payload and its bytes. Returns None when it is not there."""


@dataclass(slots=True)
class FeatureStore:
    """Least recently used first. hits and misses count pictures and pairs of frames, not calls of the vision tower.

    evicted is called with a payload before it is evicted; source is asked for what is not here.
    """

    max_bytes: int
    num_bytes: int = 0
    hits: int = 0
    misses: int = 0
    evictions: int = 0
    evicted: Callable[[bytes, Any], None] | None = None
    source: FeatureSource | None = None
    clock: Callable[[], float] = time.monotonic
    _held: OrderedDict[bytes, FeatureUnit] = field(default_factory=OrderedDict)
    _pinned_bytes: int = 0
    _tenant: str = ""
    _reuse: bool = True

    @contextmanager
    def tenant_scope(self, tenant: str, reuse: bool = True) -> Iterator[None]:
        """For whom the store is used inside; without reuse nothing is found, kept or counted."""
        before, (self._tenant, self._reuse) = (self._tenant, self._reuse), (tenant, reuse)
        try:
            yield
        finally:
            self._tenant, self._reuse = before

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[tuple[bytes, Any]]:
        """Keys and payloads, least recently used first."""
        return iter([(key, unit.payload) for key, unit in self._held.items()])

    @property
    def num_pinned(self) -> int:
        return sum(unit.pinned for unit in self._held.values())

    def request(self, keys: Sequence[bytes]) -> None:
        """`get` will be called for these, in this order: begin to read from disk what memory has not."""
        if self._reuse and self.source is not None:
            wanted = dict.fromkeys(map(self._own, keys))
            self.source.request([key for key in wanted if key not in self._held])

    def get(self, key: bytes) -> Any:
        """The payload, or None when there is none. Counts as a hit or a miss."""
        if not self._reuse:
            return None
        key = self._own(key)
        payload: Any = None
        if key not in self._held and self.source is not None and (fetched := self.source.fetch(key)) is not None:
            payload = fetched[0]
            self._put(key, *fetched)
        if (unit := self._held.get(key)) is not None:
            payload = unit.payload
            unit.hits += 1
            unit.last_use_s = self.clock()
            self._held.move_to_end(key)
        if payload is None:
            self.misses += 1
        else:
            self.hits += 1
        return payload

    def share_held(self, sha256: str, tenant: str, is_like: Callable[[Any], bool]) -> float:
        """Which share of a medium is in memory for a tenant, in units whose payload is_like the ones that are wanted
        (the same medium at another size has others). Not a use: nothing is counted or touched."""
        share = 0.0
        for unit in self._held.values():
            portion = unit.portions.get(sha256)
            if portion is not None and unit.tenant == tenant and is_like(unit.payload):
                share += len(portion.frames) / portion.num_frames if portion.num_frames else 1.0
        return min(1.0, share)

    def put(self, key: bytes, payload: Any, num_bytes: int) -> None:
        """Keep a payload; one for which there is no room, alone or beside what is pinned, is not kept."""
        if self._reuse:
            self._put(self._own(key), payload, num_bytes)

    def attribute(self, keys: Sequence[bytes], sha256: str, num_frames: int = 0) -> None:
        """The units of one medium, in order: of a clip each is of as many of its frames as any other."""
        if not self._reuse:
            return
        each = -(-num_frames // len(keys)) if keys else 0
        for place, key in enumerate(keys):
            frames = range(place * each, min((place + 1) * each, num_frames))
            if (unit := self._held.get(self._own(key))) is not None:
                unit.add(MediaPortion(sha256, tuple(frames), num_frames))

    def _put(self, key: bytes, payload: Any, num_bytes: int) -> None:
        old = self._held.get(key)
        pinned = self._pinned_bytes - (old.num_bytes if old and old.pinned else 0)
        if pinned + num_bytes > self.max_bytes:
            return
        now = self.clock()
        unit = FeatureUnit(payload, num_bytes, self._tenant, now, now)
        if old is not None:
            unit.hits, unit.pinned, unit.portions, unit.created_s = old.hits, old.pinned, old.portions, old.created_s
            self._remove(key)
        self._held[key] = unit
        self.num_bytes += num_bytes
        self._pinned_bytes += num_bytes * unit.pinned
        self.trim()

    def trim(self) -> None:
        """Evict the least recently used until the limit holds, or only pinned units are left."""
        while self.num_bytes > max(self.max_bytes, self._pinned_bytes):
            self._evict()

    def _evict(self) -> None:
        """Evict the least recently used. There is one that is not pinned: else nothing would have been put."""
        key, unit = next(iter(self._held.items()))
        if unit.pinned:
            self._held.move_to_end(key)  # so that it is not looked at again and again
            return
        if self.evicted is not None:
            self.evicted(key, unit.payload)
        self._remove(key)
        self.evictions += 1

    def _remove(self, key: bytes) -> None:
        unit = self._held.pop(key)
        self.num_bytes -= unit.num_bytes
        self._pinned_bytes -= unit.num_bytes * unit.pinned

    def _own(self, key: bytes) -> bytes:
        """The key among those of the tenant that is served."""
        if not self._tenant:
            return key
        return hashlib.blake2b(key + self._tenant.encode(), digest_size=16).digest()

    # For the Cache tab; keys are those of infos.

    def infos(self) -> list[FeatureInfo]:
        """Every unit, least recently used first."""
        now = self.clock()
        return [
            FeatureInfo(
                key=key.hex(),
                num_bytes=unit.num_bytes,
                hits=unit.hits,
                pinned=unit.pinned,
                age_s=now - unit.created_s,
                idle_s=now - unit.last_use_s,
                media=tuple(unit.portions.values()),
                tenant=unit.tenant,
            )
            for key, unit in self._held.items()
        ]

    def pin(self, key: bytes, *, pinned: bool) -> bool:
        """Keep a unit from eviction, or no longer. Returns False when there is no such unit."""
        unit = self._held.get(key)
        if unit is None:
            return False
        self._pinned_bytes += unit.num_bytes * (pinned - unit.pinned)
        unit.pinned = pinned
        return True

    def drop(self, key: bytes) -> bool:
        """Forget a unit. Returns False when there is no such unit, or it is pinned. Rows that use it keep it alive."""
        unit = self._held.get(key)
        if unit is None or unit.pinned:
            return False
        self._remove(key)
        return True

    def clear(self) -> None:
        """Forget all but what is pinned."""
        for key in [key for key, unit in self._held.items() if not unit.pinned]:
            self._remove(key)
