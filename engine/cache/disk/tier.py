"""The tier below memory: what is written to disk, and what is read again. Engine thread only.

    evicted, or held while the engine is idle, or held when it stops  ──> DiskStore ──> the next prompt that begins so

A block is written after those before it, for without them it is of no use; so what a full writer refuses are tails. It
is read only as far as a prompt goes on where memory ends. No attempt is made to guess whether computing would be
faster: of a model of 92 M parameters, reading and checking 64 tokens (2.4 MB) took 7 ms where two CPU cores computed
them in 1.2 s.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import mlx.core as mx

from engine.cache import tensors
from engine.cache.blocks import BlockPool
from engine.cache.disk.features import FEATURES, FeatureReader
from engine.cache.disk.restore import IDS, SNAPSHOTS, BlockRestore, SnapshotRestore
from engine.cache.disk.store import DiskStore
from engine.cache.features import FeatureStore
from engine.cache.snapshots import RowSnapshot, SnapshotStore
from engine.cache.table import Block, block_hash
from engine.types import DiskStats

log = logging.getLogger(__name__)

R = TypeVar("R", BlockRestore, SnapshotRestore)

STOP_S = 5.0
"""How long the end of the engine may wait for what is still to be written."""

_FORMAT = 3
_IDLE_S = 0.02


def software(fingerprint: str) -> str:
    """The scope of the files: this model's files under these versions on this device. 32 hex digits.

    A library that computes something else after an update (a mended RoPE) makes other KV.
    """
    versions = [importlib.metadata.version(name) for name in ("mlx", "mlx-lm", "mlx-vlm")]
    facts = (_FORMAT, fingerprint, versions, str(mx.default_device().type))
    return hashlib.blake2b(repr(facts).encode(), digest_size=16).hexdigest()


class DiskTier:
    """Connects what memory keeps with a folder."""

    def __init__(self, store: DiskStore, pool: BlockPool, features: FeatureStore, snapshots: SnapshotStore) -> None:
        self._store = store
        self._pool = pool
        self._features = features
        self._snapshots = snapshots
        self._dropped = 0
        self._step: Callable[[], None] | None = None
        pool.evicted = self._evicted_block
        features.evicted = self._evicted_features
        features.source = FeatureReader(store, self._step_between)
        snapshots.evicted = self._evicted_snapshot

    def interleave(self, step: Callable[[], None]) -> None:
        """Call `step` while features are read, so that running rows go on."""
        self._step = step

    def _step_between(self) -> None:
        if self._step is not None:
            self._step()

    # From disk to memory.

    def restore_blocks(self, root: bytes, ids: Sequence[int]) -> BlockRestore | None:
        """Begin to bring blocks into the pool beyond what is there. Returns None when the disk has none of use."""
        return None if self._store.is_stuck else _unless_empty(BlockRestore(self._store, self._pool, root, ids))

    def restore_snapshot(self, root: bytes, ids: Sequence[int]) -> SnapshotRestore | None:
        """Begin to bring the longest row snapshot that ids[:-1] begins with. Returns None when the disk has none of
        use."""
        return None if self._store.is_stuck else _unless_empty(SnapshotRestore(self._store, self._snapshots, root, ids))

    def may_restore(self, root: bytes, ids: Sequence[int], *, plain: bool) -> bool:
        """Whether a restore would have something to do, or may have. Changes nothing. plain: stored in blocks."""
        if self._store.is_stuck:
            return False
        if not plain:
            return not SnapshotRestore(self._store, self._snapshots, root, ids).is_empty
        parent = root
        for start in range(0, len(ids) - 1, self._pool.block_tokens):
            run = tuple(ids[start : start + self._pool.block_tokens])
            key = block_hash(parent, run)
            block = self._pool.get(key)
            if block is None or block.ids != run:
                break
            parent = key
        return any(self._pool.get(bytes.fromhex(key)) is None for key in self._store.keys(parent.hex()))

    # From memory to disk.

    def _save_block(self, block: Block) -> bool:
        """Hand a block to the writer, those before it first. False when the writer has no room."""
        chain: list[Block] = []
        above: Block | None = block
        while above is not None and not self._store.holds(above.parent.hex(), above.hash.hex()):
            chain.append(above)
            above = self._pool.get(above.parent)
        return all(self._save_one(above) for above in reversed(chain))

    def _save_one(self, block: Block) -> bool:
        facts = {"ids": ",".join(map(str, block.ids))}
        return self._store.save(block.parent.hex(), block.hash.hex(), tensors.to_arrays(block.payload), facts)

    def _save_features(self, key: bytes, unit: Any) -> bool:
        return self._store.save(FEATURES, key.hex(), {str(i): array for i, array in enumerate(unit)}, {})

    def _save_snapshot(self, key: bytes, snapshot: RowSnapshot) -> bool:
        serialized = tensors.serialize(snapshot.cache)
        if serialized is None:
            return True  # a kind of layer that only memory can keep
        arrays, layers = serialized
        facts = {"tokens": str(len(snapshot.ids)), "layers": layers}
        return self._store.save(SNAPSHOTS, key.hex(), {**arrays, IDS: mx.array(snapshot.ids, mx.int64)}, facts)

    def _evicted_block(self, block: Block) -> None:
        self._try(partial(self._save_block, block))

    def _evicted_features(self, key: bytes, unit: Any) -> None:
        self._try(partial(self._save_features, key, unit))

    def _evicted_snapshot(self, key: bytes, snapshot: RowSnapshot) -> None:
        self._try(partial(self._save_snapshot, key, snapshot))

    def _try(self, save: Callable[[], bool]) -> None:
        """Whoever evicts must not fail because the disk tier does."""
        self._dropped += not self._saved(save)

    def _saved(self, save: Callable[[], bool]) -> bool:
        try:
            return save()
        except Exception:
            log.exception("what memory holds could not be kept on disk")
            return False

    def idle(self) -> None:
        """Use a moment without work to write what memory holds, so that what is evicted later is on disk already."""
        self._store.idle()
        until = time.monotonic() + _IDLE_S
        for save in self._saves():
            if not self._store.may_write or time.monotonic() > until:
                return
            self._saved(save)

    def close(self) -> None:
        """Write what memory holds and end the threads, within STOP_S."""
        until = time.monotonic() + STOP_S
        for save in self._saves():
            is_saved = self._saved(save)
            while not is_saved and self._store.wait(until - time.monotonic()):
                is_saved = self._saved(save)  # the writer has room again
            if time.monotonic() > until:
                break
        self._store.close(max(0.0, until - time.monotonic()))

    def _saves(self) -> Iterator[Callable[[], bool]]:
        """An attempt to save each thing that memory holds, the most recently used first."""
        for block in sorted(self._pool, key=lambda block: block.last_use_s, reverse=True):
            yield partial(self._save_block, block)
        for key, unit in reversed(list(self._features)):
            yield partial(self._save_features, key, unit)
        for key, snapshot in reversed(list(self._snapshots)):
            yield partial(self._save_snapshot, key, snapshot)

    # For the Cache tab.

    def drop(self, block: Block) -> None:
        """Forget a block and all that continues from it."""
        self._store.drop(block.parent.hex(), block.hash.hex())

    def drop_features(self, key: bytes) -> None:
        self._store.drop(FEATURES, key.hex())

    def clear(self) -> None:
        self._store.clear()

    def stats(self) -> DiskStats:
        return replace(self._store.stats(), dropped=self._dropped)


def _unless_empty(restore: R) -> R | None:
    """The restore, if it has something to do."""
    if not restore.is_empty:
        return restore
    restore.close()
    return None
