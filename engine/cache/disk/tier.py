"""The tier below memory: what goes down to disk, and what comes up again. Engine thread only.

    evicted, or held while the engine is idle, or held when it stops  ──> DiskStore ──> the next prompt that begins so

A block goes down after those before it, for without them it is worth nothing; so what a full writer turns away are
tails. It comes up only as far as a prompt goes on where memory ends. No attempt is made to guess whether computing
would be faster: of a model of 92 M parameters, reading and checking 64 tokens (2.4 MB) took 7 ms where two CPU cores
computed them in 1.2 s.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import mlx.core as mx

from engine.cache import tensors
from engine.cache.blocks import Block, BlockPool, Slot, block_hash, num_shared
from engine.cache.disk.store import DiskStore
from engine.cache.features import FeatureStore
from engine.cache.snapshots import RowSnapshot, SnapshotStore, snapshot_key
from engine.types import DiskStats

T = TypeVar("T")

STOP_S = 5.0
"""How long the engine's end may wait for what is still to be written."""

_FORMAT = 2
_FEATURES = "features"
_SNAPSHOTS = "snapshots"
_IDS = "ids"
_IDLE_S = 0.02
_MAX_SIBLINGS = 64
_TRIM_EVERY = 16


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
        pool.evicted = self._evicted_block
        features.evicted = self._evicted_features
        features.below = self._load_features
        snapshots.evicted = self._evicted_snapshot

    # up

    def restore(self, root: bytes, ids: Sequence[int]) -> frozenset[bytes]:
        """Bring into the pool what the prompt can use beyond what is there. Returns the hashes of these blocks."""
        pool, size = self._pool, self._pool.block_tokens
        restored: list[bytes] = []
        parent = root
        for start in range(0, len(ids) - 1, size):
            run = tuple(ids[start : start + size])
            block = pool.get(block_hash(parent, run))
            if block is None:
                block = self._load_block(parent, start, run)
                if block is None:
                    break
                restored.append(block.hash)
                if len(restored) % _TRIM_EVERY == 0:
                    pool.trim(root, ids)
            if block.ids != run or len(run) < size or pool.get(block.hash) is None:
                break  # a part of it, the prompt's end, or a prompt that is larger than the pool
            parent = block.hash
        if restored:
            pool.trim(root, ids)
            self._touch(restored[-1])
        return frozenset(restored)

    def _load_block(self, parent: bytes, start: int, run: tuple[int, ...]) -> Block | None:
        """The block on disk that shares the longest run with the prompt, if it is longer than what memory has."""
        _, have = self._pool.best(parent, run, len(run))
        for common, key in self._candidates(parent, run):
            if common <= have:
                return None
            found = self._load(parent.hex(), key, lambda arrays, facts: (tensors.from_arrays(arrays), _ids(facts)))
            if found is None:
                continue
            payload, ids = found
            # The seal says that the file is as it was written; this, that it is the one that was asked for.
            if num_shared(ids, run) == common and block_hash(parent, ids).hex() == key:
                slot = Slot(bytes.fromhex(key), parent, start, ids)
                return self._pool.put(slot, payload, tensors.num_bytes(payload))
        return None

    def _candidates(self, parent: bytes, run: tuple[int, ...]) -> list[tuple[int, str]]:
        """(shared tokens, key) of the blocks on disk behind `parent`, longest first."""
        group, exact = parent.hex(), block_hash(parent, run).hex()
        if self._store.holds(group, exact):
            return [(len(run), exact)]
        shared = []
        for key in self._store.keys(group)[-_MAX_SIBLINGS:]:
            ids = _ids(self._store.facts(group, key))
            if len(ids) <= self._pool.block_tokens:
                shared.append((num_shared(ids, run), key))
        return sorted(shared, reverse=True)

    def _touch(self, key: bytes) -> None:
        """A chain was used: from its tail to its root, so that on disk too a block is never older than its children."""
        block = self._pool.get(key)
        while block is not None:
            self._store.touch(block.parent.hex(), block.hash.hex())
            block = self._pool.get(block.parent)

    def restore_snapshot(self, root: bytes, ids: Sequence[int]) -> int:
        """Bring the longest snapshot that ids[:-1] begins with to memory, if it is longer than what is there. Returns
        its tokens, or 0."""
        have = self._snapshots.longest(root, ids)
        lengths = {_num_tokens(self._store.facts(_SNAPSHOTS, key)) for key in self._store.keys(_SNAPSHOTS)}
        for length in sorted((n for n in lengths if have < n < len(ids)), reverse=True):
            found = self._load(_SNAPSHOTS, snapshot_key(root, ids[:length]).hex(), _snapshot)
            if found is not None and found[0] == list(ids[:length]):
                self._snapshots.adopt(root, ids[:length], found[1])
                return length
        return 0

    def _load_features(self, key: bytes) -> tuple[Any, int] | None:
        unit = self._load(_FEATURES, key.hex(), lambda arrays, _: [arrays[str(i)] for i in range(len(arrays))])
        return None if unit is None else (unit, sum(array.nbytes for array in unit))

    def _load(self, group: str, key: str, build: Callable[[dict[str, mx.array], dict[str, str]], T]) -> T | None:
        """What `build` makes of a file; None when there is none, or one that is whole and yet not what it should be."""
        found = self._store.load(group, key)
        try:
            return None if found is None else build(*found)
        except (KeyError, ValueError, TypeError):
            self._store.drop(group, key)
            return None

    # down

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
        return self._store.save(_FEATURES, key.hex(), {str(i): array for i, array in enumerate(unit)}, {})

    def _save_snapshot(self, key: bytes, snapshot: RowSnapshot) -> bool:
        said = tensors.serialize(snapshot.cache)
        if said is None:
            return True  # a kind of layer that only memory can keep
        arrays, layers = said
        facts = {"tokens": str(len(snapshot.ids)), "layers": layers}
        return self._store.save(_SNAPSHOTS, key.hex(), {**arrays, _IDS: mx.array(snapshot.ids, mx.int64)}, facts)

    def _evicted_block(self, block: Block) -> None:
        self._dropped += not self._save_block(block)

    def _evicted_features(self, key: bytes, unit: Any) -> None:
        self._dropped += not self._save_features(key, unit)

    def _evicted_snapshot(self, key: bytes, snapshot: RowSnapshot) -> None:
        self._dropped += not self._save_snapshot(key, snapshot)

    def idle(self) -> None:
        """Use a moment without work to write what memory holds, so that what is evicted later is on disk already."""
        until = time.monotonic() + _IDLE_S
        for save in self._saves():
            if self._store.failing or time.monotonic() > until:
                return
            save()

    def close(self) -> None:
        """Write what memory holds and end the writer, within STOP_S."""
        until = time.monotonic() + STOP_S
        for save in self._saves():
            while not save() and self._store.wait(until - time.monotonic()):
                """The writer has room again."""
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

    # by hand

    def drop(self, block: Block) -> None:
        """Forget a block and all that continues from it."""
        self._store.drop(block.parent.hex(), block.hash.hex())

    def drop_features(self, key: bytes) -> None:
        self._store.drop(_FEATURES, key.hex())

    def clear(self) -> None:
        self._store.clear()

    def stats(self) -> DiskStats:
        return replace(self._store.stats(), dropped=self._dropped)


def _ids(facts: Mapping[str, str]) -> tuple[int, ...]:
    """The cache ids that a block's file names; () when it names none."""
    try:
        return tuple(map(int, facts["ids"].split(",")))
    except (KeyError, ValueError):
        return ()


def _snapshot(arrays: dict[str, mx.array], facts: dict[str, str]) -> tuple[list[int], list[Any]]:
    """The cache ids and layers of a snapshot's file."""
    ids: Any = arrays.pop(_IDS).tolist()
    return ids, tensors.deserialize(arrays, facts["layers"])


def _num_tokens(facts: Mapping[str, str]) -> int:
    """How many tokens a snapshot's file says it is of; 0 when it does not."""
    try:
        return int(facts["tokens"])
    except (KeyError, ValueError):
        return 0
