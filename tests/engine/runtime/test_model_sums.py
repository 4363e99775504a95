"""model_sums: the figures of several models as one, field by field."""

from __future__ import annotations

from dataclasses import fields, replace

from engine.runtime.model_sums import all_batches, all_caches, ended
from engine.types import BatchState, CacheStats, DiskStats

NOT_SUMMED = {"enabled", "block_tokens", "kv_layer_bytes", "disk"}
NOTHING = CacheStats()


def filled(of: type, value: int) -> dict[str, int]:
    return {field.name: value for field in fields(of) if field.type in ("int", int)}


def test_one_model_is_itself() -> None:
    batch, cache = BatchState(num_rows=3, max_kv_tokens=None), CacheStats(hits=2, kv_layer_bytes=(1, 2))
    assert all_batches([batch]) is batch and all_caches([cache], NOTHING) is cache


def test_batches_are_summed() -> None:
    batch = BatchState(**filled(BatchState, 2), max_kv_tokens=10)
    assert all_batches([batch, batch]) == BatchState(**filled(BatchState, 4), max_kv_tokens=20)
    assert all_batches([batch, replace(batch, max_kv_tokens=None)]).max_kv_tokens is None
    assert all_batches([]) == BatchState()


def test_every_number_of_a_cache_is_summed() -> None:
    """A counter that is added to CacheStats and forgotten here shows the first model's as everybody's."""
    one = CacheStats(enabled=True, **filled(CacheStats, 3), kv_layer_bytes=(1, 1))
    both = all_caches([one, replace(one, kv_layer_bytes=(2, 2, 2))], NOTHING)
    for field in fields(CacheStats):
        if field.name not in NOT_SUMMED:
            assert getattr(both, field.name) == 6, field.name
    assert both.kv_layer_bytes == (3, 3, 2) and both.enabled and both.block_tokens == 3


def test_the_folder_of_all_is_one() -> None:
    disk = DiskStats(**filled(DiskStats, 3), enabled=True)
    cache = CacheStats(disk=disk)
    both = all_caches([cache, replace(cache, disk=replace(disk, failing=True))], NOTHING).disk
    shared = {"num_bytes", "max_bytes", "files"}
    for field in fields(DiskStats):
        if field.type in ("int", int):
            assert getattr(both, field.name) == (3 if field.name in shared else 6), field.name
    assert both.failing


def test_what_was_counted_stays_and_what_was_held_does_not() -> None:
    cache = CacheStats(enabled=True, hits=2, tokens_saved=7, kv_bytes=100, blocks=4, disk=DiskStats(writes=5, files=9))
    gone = ended(ended(NOTHING, cache), cache)
    assert (gone.hits, gone.tokens_saved, gone.kv_bytes, gone.blocks) == (4, 14, 0, 0)
    assert (gone.disk.writes, gone.disk.files) == (10, 0)
    left = all_caches([cache], gone)
    assert (left.hits, left.kv_bytes, left.disk.writes, left.disk.files) == (6, 100, 15, 9)
    assert all_caches([], gone) == gone
