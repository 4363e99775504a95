"""The figures of several models as one: batches and caches. Pure Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest

from engine.types import BatchState, CacheStats, DiskStats

_COUNTED = (
    "total_queries",
    "hits",
    "misses",
    "tokens_saved",
    "tokens_seen",
    "image_hits",
    "video_hits",
    "stored",
    "shared",
    "copied_on_write",
    "evictions",
    "feature_hits",
    "feature_misses",
    "media_reused",
    "cache_verified",
    "cache_mismatches",
)
"""Since the start; they only grow."""

_HELD = (
    "blocks",
    "blocks_in_use",
    "blocks_pinned",
    "max_blocks",
    "kv_bytes",
    "max_bytes",
    "snapshots",
    "snapshot_bytes",
    "features",
    "features_pinned",
    "feature_bytes",
    "max_feature_bytes",
)
_DISK_COUNTED = ("hits", "writes", "dropped", "faults", "evictions")
_DISK_HELD = ("blocks", "features", "snapshots", "pending")


def all_batches(batches: Sequence[BatchState]) -> BatchState:
    """What is worked on in all of them. max_kv_tokens: None where it is not known of one."""
    if len(batches) == 1:
        return batches[0]
    most = [batch.max_kv_tokens for batch in batches]
    return BatchState(
        num_rows=sum(batch.num_rows for batch in batches),
        max_rows=sum(batch.max_rows for batch in batches),
        max_requests=sum(batch.max_requests for batch in batches),
        kv_tokens=sum(batch.kv_tokens for batch in batches),
        max_kv_tokens=None if None in most or not most else sum(n for n in most if n is not None),
        num_waiting_for_memory=sum(batch.num_waiting_for_memory for batch in batches),
    )


def all_caches(caches: Sequence[CacheStats], gone: CacheStats) -> CacheStats:
    """What all of them hold, and have counted together with those that are gone (see `ended`)."""
    if not caches:
        return gone
    if len(caches) == 1 and gone == CacheStats():
        return caches[0]
    held = {name: sum(getattr(cache, name) for cache in caches) for name in _HELD}
    layers = zip_longest(*(cache.kv_layer_bytes for cache in caches), fillvalue=0)
    disks = [cache.disk for cache in caches]
    here = {name: sum(getattr(disk, name) for disk in disks) for name in _DISK_HELD}
    counted = {name: sum(getattr(disk, name) for disk in (*disks, gone.disk)) for name in _DISK_COUNTED}
    is_failing = any(disk.failing for disk in disks)
    first = replace(caches[0], **held, kv_layer_bytes=tuple(map(sum, layers)))  # its folder is that of all
    return _counted([*caches, gone], replace(first, disk=replace(disks[0], **here, **counted, failing=is_failing)))


def ended(gone: CacheStats, cache: CacheStats) -> CacheStats:
    """What a cache has counted that is held no more, added to those before it."""
    counted = {name: getattr(gone.disk, name) + getattr(cache.disk, name) for name in _DISK_COUNTED}
    disk = replace(DiskStats(enabled=cache.disk.enabled, max_bytes=cache.disk.max_bytes), **counted)
    before = replace(CacheStats(enabled=cache.enabled, block_tokens=cache.block_tokens), disk=disk)
    return _counted([gone, cache], before)


def _counted(caches: Sequence[CacheStats], into: CacheStats) -> CacheStats:
    return replace(into, **{name: sum(getattr(cache, name) for cache in caches) for name in _COUNTED})
