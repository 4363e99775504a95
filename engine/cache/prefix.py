"""Prefix reuse as the engine thread calls it: start a row from what is stored, store what a row has computed.

A hit never ends inside a medium: it is cut back to the medium's first token, so the vision tower always sees a whole
picture or none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from engine.cache import tensors
from engine.cache.blocks import BlockPool, Match, Miss
from engine.cache.disk.restore import BlockRestore, Restore, SnapshotRestore
from engine.cache.disk.store import DiskStore
from engine.cache.disk.tier import DiskTier, software
from engine.cache.features import FeatureStore
from engine.cache.provenance import DecodeIds, Provenance
from engine.cache.snapshots import SnapshotStore
from engine.cache.table import Block
from engine.config import CacheConfig
from engine.errors import Internal
from engine.types import BlockInfo, CacheStats, DiskStats, Request
from engine.types.prompt import Prompt

log = logging.getLogger(__name__)

_CHECKED_BLOCKS = 64


@dataclass(frozen=True, slots=True)
class Lease:
    """What a row holds while it runs: its chain's root and the blocks it started from.

    snapshot_ends: token positions at which prefill must pause to store a row snapshot; None for families stored in
    blocks.
    keeps: what the row computes is stored.
    disk_tokens: how many of the match's last tokens were read from disk for it.
    """

    root: bytes
    match: Match
    snapshot_ends: tuple[int, ...] | None = None
    keeps: bool = True
    disk_tokens: int = 0

    @property
    def is_in_blocks(self) -> bool:
        """Whether this family is stored in blocks; else as row snapshots."""
        return self.snapshot_ends is None


class PrefixCache:
    """Blocks and row snapshots of one loaded model, and the front of its vision features and of its folder on disk.
    scope: model and processor identity, part of every key."""

    def __init__(self, config: CacheConfig, scope: str) -> None:
        self._scope = scope
        self._enabled = config.enabled
        self._provenance = Provenance()
        self.pool = BlockPool(config.block_tokens, config.max_blocks, config.max_bytes)
        self.snapshots = SnapshotStore(config.max_snapshots, config.max_bytes)
        self.features = FeatureStore(config.max_feature_bytes)
        self._verified = self._mismatches = 0
        self._repaired = False
        self._disk: DiskTier | None = None
        if config.disk_folder is not None:
            store = DiskStore(config.disk_folder, software(scope), config.max_disk_bytes)
            self._disk = DiskTier(store, self.pool, self.features, self.snapshots)

    def begin_restore(self, prompt: Prompt, cache: list[Any], request: Request) -> Restore | None:
        """Begin to read from disk what this prompt can use beyond what is in memory; to be called before `begin`.

        Returns None when there is nothing of use on disk. Otherwise call `turn` whenever the restore is `ready`, until
        it returns True, then `begin` with it; or `close` it, when the request is gone.
        """
        if self._disk is None or not self._may_use_cache(prompt, request):
            return None
        root = self._chain(request.tenant)
        if tensors.is_plain(cache):
            return self._disk.restore_blocks(root, prompt.cache_ids)
        return self._disk.restore_snapshot(root, prompt.cache_ids)

    def begin(self, prompt: Prompt, cache: list[Any], request: Request, restore: Restore | None = None) -> Lease | None:
        """Fill an empty row's cache with the longest prefix of the prompt that memory has for the request's tenant.

        restore: what was read from disk for it; it is closed here. A replay looks, but is neither counted nor stored:
        the statistics are of what users sent. Returns None when the cache is off, when the request wants no reuse, or
        when the prompt's media carry no key. Raises what MLX raises where memory is short; nothing is held then.
        """
        try:
            if not self._may_use_cache(prompt, request):
                return None
            self._provenance.add_media(prompt)
            root, keeps = self._root(request.tenant), request.source != "replay"
            if tensors.is_plain(cache):
                return self._begin_from_blocks(root, prompt, cache, keeps, restore)
            return self._begin_from_snapshot(root, prompt, cache, keeps, restore)
        finally:
            if restore is not None:
                restore.close()

    def _may_use_cache(self, prompt: Prompt, request: Request) -> bool:
        return self._enabled and request.reuse and bool(prompt.cache_ids)

    def _begin_from_blocks(
        self, root: bytes, prompt: Prompt, cache: list[Any], keeps: bool, restore: Restore | None
    ) -> Lease:
        match = self._whole_media(self.pool.match(root, prompt.cache_ids), prompt)
        if match.used:
            tensors.join([(block.payload, num_tokens) for block, num_tokens in match.used], cache)
        # Not before: the copy above is where memory runs out, and a row that never begins must hold nothing.
        self._acquire(root, match, prompt, keeps)
        hashes = restore.hashes if isinstance(restore, BlockRestore) else ()
        disk_tokens = sum(num_tokens for block, num_tokens in match.used if block.hash in hashes)
        return Lease(root, match, None, keeps, disk_tokens)

    def peek(self, prompt: Prompt, cache: list[Any], request: Request) -> int:
        """How many tokens `begin` would reuse from memory right now. Not a use: nothing is counted, held or touched."""
        if not self._may_use_cache(prompt, request):
            return 0
        root = self._chain(request.tenant)
        if not tensors.is_plain(cache):
            return self.snapshots.longest(root, prompt.cache_ids)
        return self._whole_media(self.pool.match(root, prompt.cache_ids), prompt).num_tokens

    def may_restore(self, prompt: Prompt, cache: list[Any], request: Request) -> bool:
        """Whether `begin_restore` would find something of use on disk, as far as that is known without reading. Not a
        use, as `peek` is none."""
        if self._disk is None or not self._may_use_cache(prompt, request):
            return False
        return self._disk.may_restore(self._chain(request.tenant), prompt.cache_ids, plain=tensors.is_plain(cache))

    def _chain(self, tenant: str) -> bytes:
        """The start of every chain of this model and tenant."""
        return self.pool.root(f"{self._scope}\0{tenant}")

    def _root(self, tenant: str) -> bytes:
        """The same, and remembers whose it is."""
        root = self._chain(tenant)
        self._provenance.add_tenant(root, tenant)
        return root

    def _begin_from_snapshot(
        self, root: bytes, prompt: Prompt, cache: list[Any], keeps: bool, restore: Restore | None
    ) -> Lease:
        restored = 0
        if isinstance(restore, SnapshotRestore) and restore.layers is not None:
            restored = restore.num_tokens
            self.snapshots.adopt(root, prompt.cache_ids[:restored], restore.layers)
        layers, num_tokens, miss = self.snapshots.find(root, prompt.cache_ids)
        self._acquire(root, match := Match((), num_tokens, miss), prompt, keeps)
        if layers:
            cache[:] = layers
        last_medium, end = prompt.spans[-1].end if prompt.spans else 0, len(prompt.ids) - 1
        ends = tuple(at for at in sorted({last_medium, end}) if keeps and num_tokens < at <= end)
        return Lease(root, match, ends, keeps, disk_tokens=num_tokens if num_tokens == restored else 0)

    def store(self, lease: Lease, cache_ids: Sequence[int], cache: Sequence[Any]) -> None:
        """Keep a row's KV of these tokens. cache holds them all; where it cannot be cut, it holds nothing more.

        Where memory is too short for the copies, they are not kept, and the row goes on.
        """
        if not lease.keeps:
            return
        try:
            self._store(lease, cache_ids, cache)
        except (RuntimeError, MemoryError) as e:  # what MLX raises
            log.warning("the KV of %d tokens is not kept for later prompts: %s", len(cache_ids), e)

    def _store(self, lease: Lease, cache_ids: Sequence[int], cache: Sequence[Any]) -> None:
        if not tensors.is_plain(cache):
            self.snapshots.put(lease.root, cache_ids, cache)
            return
        slots = self.pool.missing(lease.root, cache_ids)
        if not slots:
            return
        payloads = tensors.cut(cache, [(slot.start, slot.start + len(slot.ids)) for slot in slots])
        for slot, payload in zip(slots, payloads, strict=True):
            self.pool.put(slot, payload, tensors.num_bytes(payload))
        self.pool.trim(lease.root, cache_ids)

    def lease(self, tenant: str = "") -> Lease:
        """For storing what was not begun here: nothing is held, so there is no end to it."""
        return Lease(self._root(tenant), Match((), 0, Miss("first_use", 0)))

    def end(self, lease: Lease) -> None:
        """The row is gone: its blocks may be evicted."""
        self.pool.release(lease.match)

    def blocks(self, decode: DecodeIds | None) -> list[BlockInfo]:
        """Every stored block, oldest first. decode turns plain token ids into text; without it there is no text."""
        roots: dict[bytes, bytes] = {}
        for block in self.pool:  # parents come first
            roots[block.hash] = roots.get(block.parent, block.parent)
        now_s = self.pool.clock()
        return [self._provenance.describe(block, roots[block.hash], decode, now_s) for block in self.pool]

    def block(self, key: bytes, decode: DecodeIds) -> BlockInfo | None:
        """One stored block with its text."""
        block = self.pool.get(key)
        if block is None:
            return None
        first = block
        while parent := self.pool.get(first.parent):
            first = parent
        return self._provenance.describe(block, first.parent, decode, self.pool.clock())

    def clear(self) -> None:
        """Forget every block, row snapshot and unit of features that no running row uses and nobody pinned, on disk
        too."""
        self.pool.clear()
        self.snapshots.clear()
        self.features.clear()
        self._provenance.clear()
        if self._disk:
            self._disk.clear()

    def pin_block(self, key: bytes, pinned: bool) -> bool:
        """Keep a block and all before it from eviction, or no longer. Returns False when it is not stored."""
        return self.pool.pin(key, pinned)

    def drop_block(self, key: bytes) -> bool:
        """Forget a block and all that continue from it, on disk too.

        Returns False when it is not stored, or a pin or a row holds a part of it.
        """
        block = self.pool.get(key)
        if block is None or not self.pool.drop(key):
            return False
        if self._disk:
            self._disk.drop(block)
        return True

    def pin_features(self, key: bytes, pinned: bool) -> bool:
        """Keep a unit of features from eviction, or no longer. Returns False when it is not stored."""
        return self.features.pin(key, pinned=pinned)

    def drop_features(self, key: bytes) -> bool:
        """Forget a unit of features, on disk too. Returns False when it is not stored, or pinned."""
        if not self.features.drop(key):
            return False
        if self._disk:
            self._disk.drop_features(key)
        return True

    def count_replay(self, mismatch: bool) -> None:
        """A hit was asked again without the cache. mismatch: the answers differed."""
        self._verified += 1
        self._mismatches += mismatch

    def idle(self) -> None:
        """Use a moment in which no row runs. Returns within some 20 ms."""
        self._check_blocks()
        if self._disk:
            self._disk.idle()

    def _check_blocks(self) -> None:
        """Look at some of the blocks; drop what is damaged, rather than serve it."""
        try:
            self.pool.check_integrity(_CHECKED_BLOCKS)
            if self.pool.num_held:
                raise Internal(f"cache integrity: {self.pool.num_held} blocks are held and no row runs")
        except Exception as e:
            num_dropped = self.pool.repair()
            if not self._repaired:
                log.error(
                    "%s; %d blocks were dropped. This is a fault of the server: please report it.", e, num_dropped
                )
            self._repaired = True

    def interleave(self, step: Callable[[], None]) -> None:
        """Call `step` while features are read from disk, so that running rows go on."""
        if self._disk:
            self._disk.interleave(step)

    def close(self) -> None:
        """The engine stops: write to disk what memory holds, for a few seconds at most."""
        if self._disk:
            self._disk.close()

    def stats(self) -> CacheStats:
        """Counters and sizes, as /v1/cache/stats and the tab show them."""
        pool, counters = self.pool, self.pool.counters
        blocks: list[Block] = list(pool)
        tokens, layers = sum(len(b.ids) for b in blocks), tensors.layer_bytes(blocks[0].payload) if blocks else []
        return CacheStats(
            enabled=self._enabled,
            total_queries=counters.queries,
            hits=counters.hits,
            misses=counters.queries - counters.hits,
            tokens_saved=counters.tokens_saved,
            tokens_seen=counters.tokens_seen,
            image_hits=counters.image_hits,
            video_hits=counters.video_hits,
            blocks=len(blocks),
            blocks_in_use=pool.num_held,
            blocks_pinned=sum(b.pinned for b in blocks),
            block_tokens=pool.block_tokens,
            max_blocks=pool.max_blocks,
            kv_bytes=pool.num_bytes,
            max_bytes=pool.max_bytes,
            stored=counters.stored,
            shared=counters.shared,
            copied_on_write=counters.copied_on_write,
            evictions=counters.evictions + self.snapshots.evictions,
            snapshots=len(self.snapshots),
            snapshot_bytes=self.snapshots.num_bytes,
            features=len(self.features),
            features_pinned=self.features.num_pinned,
            feature_bytes=self.features.num_bytes,
            max_feature_bytes=self.features.max_bytes,
            feature_hits=self.features.hits,
            feature_misses=self.features.misses,
            media_reused=counters.media_reused,
            kv_layer_bytes=tuple(size // len(blocks[0].ids) * tokens for size in layers),
            cache_verified=self._verified,
            cache_mismatches=self._mismatches,
            disk=self._disk.stats() if self._disk else DiskStats(),
        )

    def limit(self, config: CacheConfig) -> None:
        """Hold no more bytes than this from now on: other models have come, or gone."""
        self.pool.max_bytes = self.snapshots.max_bytes = config.max_bytes
        self.features.max_bytes = config.max_feature_bytes
        self.pool.trim(b"", ())
        self.snapshots.trim()
        self.features.trim()

    def get_stats(self) -> dict[str, Any]:
        """All counters and sizes by name: hits, misses, hit_rate, tokens_saved, total_queries, image_hits, ..."""
        stats = self.stats()
        return {**asdict(stats), "hit_rate": stats.hit_rate, "memory_used_mb": stats.memory_used_mb}

    @property
    def hit_rate(self) -> float:
        """Prompts that reused something over all prompts."""
        return self.stats().hit_rate

    @property
    def tokens_saved(self) -> int:
        """Prompt tokens that were not computed."""
        return self.pool.counters.tokens_saved

    @property
    def memory_used_mb(self) -> float:
        """MiB of KV, row snapshots and vision features."""
        return self.stats().memory_used_mb

    def _acquire(self, root: bytes, match: Match, prompt: Prompt, counts: bool) -> None:
        """The row starts from this match: hold its blocks; count the prompt, and the media that were reused whole."""
        self.pool.acquire(match, len(prompt.ids) if counts else 0)
        if not counts:
            return
        whole = [placed.media for placed in prompt.media if placed.ends_by(match.num_tokens)]
        self._provenance.count_reuses(root, whole)
        self.pool.counters.media_reused += len(whole)
        kinds = {medium.kind for medium in whole}
        self.pool.counters.image_hits += "image" in kinds
        self.pool.counters.video_hits += "video" in kinds

    @staticmethod
    def _whole_media(match: Match, prompt: Prompt) -> Match:
        """The match, cut back to the first token of a medium that it would split."""
        end = match.num_tokens
        for span in prompt.spans:
            if span.start < end < span.end:
                return _cut_back(match, span.start)
        return match


def _cut_back(match: Match, num_tokens: int) -> Match:
    used, left = [], num_tokens
    for block, n in match.used:
        if left <= 0:
            break
        used.append((block, min(n, left)))
        left -= n
    return Match(tuple(used), num_tokens, Miss("inside_media", num_tokens))
