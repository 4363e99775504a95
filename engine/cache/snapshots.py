"""Row snapshots, for families whose KV cannot be cut: sliding windows forget tokens, state-space layers have none.

A row snapshot is a copy of a row's cache at one point of its prompt; it serves prompts that begin with exactly those
tokens. Taken at the end of the last medium (another question about the same picture), before the prompt's last token
(the same again) and at the end of the turn (the next turn). Engine thread only.
"""

from __future__ import annotations

import copy
import hashlib
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx

from engine.cache.blocks import Miss


@dataclass(frozen=True, slots=True)
class RowSnapshot:
    """A row's cache layers after exactly these tokens."""

    root: bytes
    ids: tuple[int, ...]
    cache: list[Any]
    num_bytes: int


@dataclass
class SnapshotStore:
    """Row snapshots by the tokens before them, least recently used first. Bounded by count and by bytes.

    evicted is called with a row snapshot and its key before it is evicted.
    """

    max_snapshots: int
    max_bytes: int
    clock: Callable[[], float] = time.monotonic
    num_bytes: int = 0
    evictions: int = 0
    evicted: Callable[[bytes, RowSnapshot], None] | None = None
    _held: OrderedDict[bytes, RowSnapshot] = field(default_factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[tuple[bytes, RowSnapshot]]:
        """Keys and row snapshots, least recently used first."""
        return iter(tuple(self._held.items()))

    @property
    def most_tokens(self) -> int:
        """Tokens of the longest row snapshot of all."""
        return max((len(snapshot.ids) for snapshot in self._held.values()), default=0)

    def find(self, root: bytes, ids: Sequence[int]) -> tuple[list[Any], int, Miss]:
        """A copy of the longest row snapshot that ids[:-1] begins with, its length in tokens, and why it is not
        longer."""
        limit = len(ids) - 1
        length = self.longest(root, ids)
        if not length:
            return [], 0, self._why(root, ids, 0, limit)
        key = snapshot_key(root, ids[:length])
        self._held.move_to_end(key)
        return _copy(self._held[key].cache), length, self._why(root, ids, length, limit)

    def longest(self, root: bytes, ids: Sequence[int]) -> int:
        """Tokens of the longest row snapshot that ids[:-1] begins with, or 0. Not a use of it."""
        limit = len(ids) - 1
        for length in sorted({len(s.ids) for s in self._held.values() if len(s.ids) <= limit}, reverse=True):
            snapshot = self._held.get(snapshot_key(root, ids[:length]))
            if snapshot is not None and snapshot.root == root and snapshot.ids == tuple(ids[:length]):
                return length
        return 0

    def put(self, root: bytes, ids: Sequence[int], cache: Sequence[Any]) -> None:
        """Keep a copy of a row's cache, which holds exactly these tokens."""
        if ids and cache and snapshot_key(root, ids) not in self._held:
            self.adopt(root, ids, _copy(cache))

    def adopt(self, root: bytes, ids: Sequence[int], layers: list[Any]) -> None:
        """Keep these layers themselves, which nobody else holds."""
        snapshot = RowSnapshot(root, tuple(ids), layers, sum(int(layer.nbytes) for layer in layers))
        key = snapshot_key(root, ids)
        if (old := self._held.pop(key, None)) is not None:  # two prompts have restored it at once
            self.num_bytes -= old.num_bytes
        self._held[key] = snapshot
        self.num_bytes += snapshot.num_bytes
        self.trim()

    def trim(self) -> None:
        """Evict the least recently used until the limits hold."""
        while self._held and (len(self._held) > self.max_snapshots or self.num_bytes > self.max_bytes):
            key, oldest = self._held.popitem(last=False)
            self.num_bytes -= oldest.num_bytes
            self.evictions += 1
            if self.evicted is not None:
                self.evicted(key, oldest)

    def clear(self) -> None:
        self._held.clear()
        self.num_bytes = 0

    def _why(self, root: bytes, ids: Sequence[int], at: int, limit: int) -> Miss:
        if at >= limit:
            return Miss("complete", at)
        for snapshot in self._held.values():
            if snapshot.root == root and len(snapshot.ids) > at and snapshot.ids[: at + 1] == tuple(ids[: at + 1]):
                return Miss("between_snapshots", at)
        return Miss("first_use", at)


def snapshot_key(root: bytes, ids: Sequence[int]) -> bytes:
    """Under what the row snapshot after these tokens is kept."""
    return hashlib.blake2b(root + array("q", ids).tobytes(), digest_size=16).digest()


def _copy(cache: Sequence[Any]) -> list[Any]:
    """Layers that share no array with the row, evaluated: MLX writes into a cache's arrays in place."""
    layers = copy.deepcopy(list(cache))
    mx.eval([layer.state for layer in layers])
    return layers
