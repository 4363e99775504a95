"""Restoring in turns: bytes are read off the engine thread, a share is handed in each turn, and nothing stays held."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import RotatingKVCache

from engine.cache import tensors
from engine.cache.blocks import BlockPool
from engine.cache.disk import checksummed, restore
from engine.cache.disk import features as disk_features
from engine.cache.disk.reader import Reader
from engine.cache.disk.restore import BlockRestore
from engine.cache.disk.store import DiskStore
from engine.cache.prefix import PrefixCache
from engine.cache.table import block_hash
from engine.config import CacheConfig
from engine.types import Request
from engine.types.prompt import Prompt
from tests.engine.cache.test_mllm import filled

REQUEST = Request()
BLOCK_BYTES = 2 * 2 * 2 * 4 * 8 * 4
IDS = list(range(100, 140))  # ten blocks of four tokens


def make(folder: Path, **more: Any) -> PrefixCache:
    return PrefixCache(CacheConfig(block_tokens=4, disk_folder=folder, **more), scope="model")


def prompt(ids: list[int]) -> Prompt:
    return Prompt(ids, ids, ())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the KV of IDS on disk, as a server left it that has stopped."""
    cache = make(tmp_path)
    cache.store(cache.lease(), IDS, filled(len(IDS)))
    cache.close()
    return tmp_path


@pytest.fixture
def cache(folder: Path) -> Iterator[PrefixCache]:
    """After a restart."""
    cache = make(folder)
    yield cache
    cache.close()


@pytest.fixture
def share(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn hands in three blocks."""
    monkeypatch.setattr(restore, "TURN_BYTES", 3 * BLOCK_BYTES)


def until_ready(work: restore.Restore) -> None:
    deadline = time.monotonic() + 10
    while not work.ready and time.monotonic() < deadline:
        time.sleep(0.001)
    assert work.ready, "the reader has stopped"


def turns(work: restore.Restore | None) -> list[int]:
    """Take all turns. Returns the tokens that each handed in."""
    out: list[int] = []
    assert work is not None
    done = False
    while not done:
        until_ready(work)
        before = work.num_tokens
        done = work.turn()
        out.append(work.num_tokens - before)
    return out


def start(cache: PrefixCache, ids: list[int], work: restore.Restore | None) -> tuple[list[Any], Any]:
    """Begin a row. Its KV must be that of the tokens."""
    layers = filled(0)
    lease = cache.begin(prompt(ids), layers, REQUEST, work)
    assert lease is not None
    for layer, whole in zip(layers, filled(len(IDS)), strict=True):
        n = lease.match.num_tokens
        if n:
            assert mx.array_equal(layer.keys[..., :n, :], whole.keys[..., :n, :]), "other KV"
    return layers, lease


def check_nothing_is_held(cache: PrefixCache) -> None:
    cache.pool.check_integrity()
    assert cache.pool.num_held == 0, "blocks are still held"
    assert cache._disk is not None and not cache._disk._store._reader._readings, "files are still being read"


def test_a_prompt_comes_back_in_turns_and_begin_looks_at_memory_alone(cache: PrefixCache, share: None) -> None:
    work = cache.begin_restore(prompt([*IDS, 7]), filled(0), REQUEST)
    handed_in = turns(work)
    assert sum(handed_in) == 40
    assert max(handed_in) <= 12, "a few blocks each turn"
    _, lease = start(cache, [*IDS, 7], work)
    assert (lease.match.num_tokens, lease.disk_tokens) == (40, 40)
    cache.end(lease)
    check_nothing_is_held(cache)
    assert cache.begin_restore(prompt([*IDS, 7]), filled(0), REQUEST) is None, "it is in memory now"


def test_whether_the_disk_has_more_is_said_without_reading(cache: PrefixCache) -> None:
    """And it is no use of the cache: nothing is held, no file is read, no block gets younger."""

    def may_restore(ids: list[int]) -> bool:
        return cache.may_restore(prompt(ids), filled(0), REQUEST)

    assert may_restore([*IDS, 7]) and may_restore([*IDS[:10], 7, 8, 9]), "in part, too"
    check_nothing_is_held(cache)
    assert cache.stats().disk.hits == 0
    assert not cache.may_restore(prompt([*IDS, 7]), filled(0), Request(reuse=False))
    work = cache.begin_restore(prompt([*IDS, 7]), filled(0), REQUEST)
    turns(work)
    _, lease = start(cache, [*IDS, 7], work)
    cache.end(lease)
    assert not may_restore([*IDS, 7]), "it is in memory now"


def test_sabotage_a_restore_in_one_go_is_seen(cache: PrefixCache, share: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore, "TURN_BYTES", 1 << 40)
    with pytest.raises(AssertionError, match="a few blocks each turn"):
        test_a_prompt_comes_back_in_turns_and_begin_looks_at_memory_alone(cache, share)


def test_without_a_restore_begin_reads_nothing(cache: PrefixCache) -> None:
    _, lease = start(cache, [*IDS, 7], None)
    assert lease.match.num_tokens == 0 and cache.stats().disk.hits == 0


def test_nothing_is_read_on_the_engine_thread(cache: PrefixCache, monkeypatch: pytest.MonkeyPatch) -> None:
    names: set[str] = set()
    for name in ("read", "facts", "is_whole"):
        original = getattr(checksummed, name)

        def noted(*args: Any, original: Any = original) -> Any:
            names.add(threading.current_thread().name)
            return original(*args)

        monkeypatch.setattr(checksummed, name, noted)
    work = cache.begin_restore(prompt([*IDS[:38], 7, 8]), filled(0), REQUEST)
    assert sum(turns(work)) == 38, "the last block in part"
    _, lease = start(cache, [*IDS[:38], 7, 8], work)
    assert lease.disk_tokens == 38
    assert names == {"cache-reader"}


def test_the_engine_thread_never_waits_for_the_disk(cache: PrefixCache, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, read = threading.Event(), checksummed.read
    monkeypatch.setattr(checksummed, "read", lambda *args: disk.wait(30) and read(*args))
    began = time.monotonic()
    work = cache.begin_restore(prompt([*IDS, 7]), filled(0), REQUEST)
    assert work is not None
    assert not work.turn()
    for _ in range(100):
        assert not work.ready and not work.turn()
    assert time.monotonic() - began < 1.0
    disk.set()
    assert sum(turns(work)) == 40
    work.close()
    check_nothing_is_held(cache)


def test_reading_ahead_is_bounded_in_bytes(cache: PrefixCache, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.cache.disk import read_ahead

    monkeypatch.setattr(read_ahead, "AHEAD_BYTES", 3000)
    most, read = [0], Reader.read

    def counted(self: Reader, *args: Any) -> Any:
        reading = read(self, *args)
        most[0] = max(most[0], len(self._readings))
        return reading

    monkeypatch.setattr(Reader, "read", counted)
    work = cache.begin_restore(prompt([*IDS, 7]), filled(0), REQUEST)
    assert sum(turns(work)) == 40
    assert 1 < most[0] < 6


@pytest.mark.parametrize("num_turns", range(5))
def test_a_request_that_leaves_in_the_middle_holds_nothing(cache: PrefixCache, share: None, num_turns: int) -> None:
    work = cache.begin_restore(prompt([*IDS, 7]), filled(0), REQUEST)
    assert work is not None
    for _ in range(num_turns):
        until_ready(work)
        work.turn()
    assert cache.pool.num_held == work.num_tokens // 4
    work.close()
    work.close()
    check_nothing_is_held(cache)
    again = cache.begin_restore(prompt([*IDS, 7]), filled(0), REQUEST)
    assert (sum(turns(again)) if again else 0) == 40 - work.num_tokens
    start(cache, [*IDS, 7], again)


def test_sabotage_blocks_that_stay_held_are_seen(
    cache: PrefixCache, share: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BlockPool, "let_go", lambda self, chain: None)
    with pytest.raises(AssertionError, match="still held"):
        test_a_request_that_leaves_in_the_middle_holds_nothing(cache, share, 3)


def test_what_was_handed_in_is_not_evicted_before_the_row_begins(folder: Path, share: None) -> None:
    """Another row fills the pool between two turns."""
    cache = make(folder, max_blocks=12)
    work = cache.begin_restore(prompt([*IDS, 7]), filled(0), REQUEST)
    assert work is not None
    for scope in range(20):
        until_ready(work)
        if work.turn():
            break
        cache.store(cache.lease(f"other {scope}"), IDS[:16], filled(16))
    _, lease = start(cache, [*IDS, 7], work)
    assert lease.disk_tokens == 40 and len(cache.pool) <= 12
    cache.end(lease)
    check_nothing_is_held(cache)
    cache.close()


def test_two_prompts_that_begin_alike_share_what_is_read(cache: PrefixCache, share: None) -> None:
    works = [cache.begin_restore(prompt([*IDS, i]), filled(0), Request()) for i in range(2)]
    left = list(works)
    while left:
        for work in list(left):
            assert work is not None
            until_ready(work)
            if work.turn():
                left.remove(work)
    for i, work in enumerate(works):
        _, lease = start(cache, [*IDS, i], work)
        assert lease.disk_tokens == 40, "both were served from disk"
        cache.end(lease)
    assert cache.stats().disk.hits == 10, "each file was read once"
    check_nothing_is_held(cache)


def bring(cache: PrefixCache, ids: list[int], tenant: str = "") -> None:
    """Restore a prompt and let it go again."""
    work = cache.begin_restore(prompt(ids), filled(0), Request(tenant=tenant))
    turns(work)
    assert work is not None
    work.close()


def check_the_other_goes_first(folder: Path) -> None:
    """The beginning of a chain is in memory, its end was restored just now: on disk the other chain is older."""
    before = make(folder)
    before.store(before.lease("other"), IDS, filled(len(IDS)))
    before.close()
    cache = make(folder)
    bring(cache, [*IDS[:20], 7])
    bring(cache, [*IDS, 7], "other")
    bring(cache, [*IDS, 7])
    assert cache._disk is not None
    oldest = cache._disk._store._index.next_to_evict()
    root = cache._chain("other")
    keys = []
    for start in range(0, 40, 4):
        root = block_hash(root, IDS[start : start + 4])
        keys.append(root.hex())
    cache.close()
    assert oldest is not None and oldest.key == keys[-1], "the chain that was used last goes first"


def test_a_whole_chain_is_used_when_its_end_is_restored(folder: Path) -> None:
    check_the_other_goes_first(folder)


def test_sabotage_a_chain_whose_beginning_ages_is_seen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BlockRestore, "close", lambda self: self._pool.let_go(self._held) or self._held.clear())
    with pytest.raises(AssertionError, match="goes first"):
        check_the_other_goes_first(folder)


def test_what_memory_has_as_well_is_not_looked_up_again(cache: PrefixCache) -> None:
    """A prompt that parts from a block in memory: once the headers beside it are known, the disk is not asked."""
    bring(cache, [*IDS[:38], 7, 8])
    assert cache.begin_restore(prompt([*IDS[:38], 9, 8]), filled(0), REQUEST) is None
    assert cache.begin_restore(prompt([*IDS[:37], 9, 8, 7]), filled(0), REQUEST) is None


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def fails(error: BaseException, after: int) -> Callable[..., Any]:
    """is_whole of a reader that fails at the file after so many."""
    is_whole, count = checksummed.is_whole, [0]

    def failing(data: bytes) -> bool:
        count[0] += 1
        if count[0] > after:
            raise error
        return is_whole(data)

    return failing


def restored_with_a_fault(cache: PrefixCache) -> int:
    """A prompt is restored as far as it can be and begins. Returns its tokens from disk."""
    work = cache.begin_restore(prompt([*IDS, 7]), filled(0), REQUEST)
    turns(work)
    _, lease = start(cache, [*IDS, 7], work)
    cache.end(lease)
    check_nothing_is_held(cache)
    assert cache.stats().disk.faults == 1
    return int(lease.disk_tokens)


def test_damaged_bytes_end_as_a_miss(cache: PrefixCache, folder: Path) -> None:
    assert cache._disk is not None
    root = cache._chain("")
    chain = cache.pool.missing(root, IDS)
    (path,) = folder.rglob(f"{chain[3].parent.hex()}-{chain[3].hash.hex()}.safetensors")
    damage(path)
    assert restored_with_a_fault(cache) == 12


@pytest.mark.parametrize("error", [OSError(5, "I/O"), RuntimeError("x"), MemoryError(), KeyError("x")], ids=repr)
def test_a_reader_that_fails_ends_as_a_miss(
    error: BaseException, cache: PrefixCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checksummed, "is_whole", fails(error, after=3))
    assert restored_with_a_fault(cache) == 12


@pytest.mark.parametrize("error", [RuntimeError("[metal::malloc] x"), MemoryError()], ids=repr)
def test_mlx_that_fails_ends_as_a_miss(
    error: BaseException, cache: PrefixCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the fence: in the creation of an array."""
    array, count = mx.array, [0]

    def failing(*args: Any, **more: Any) -> Any:
        count[0] += 1
        if count[0] == 14:  # four arrays a block
            raise error
        return array(*args, **more)

    work = cache.begin_restore(prompt([*IDS, 7]), filled(0), REQUEST)
    with monkeypatch.context() as patched:
        patched.setattr(mx, "array", failing)
        turns(work)
    _, lease = start(cache, [*IDS, 7], work)
    assert lease.disk_tokens == 12 and cache.stats().disk.faults == 1
    cache.end(lease)
    check_nothing_is_held(cache)


def test_a_disk_that_is_silent_is_given_up(cache: PrefixCache, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, read = threading.Event(), checksummed.read
    monkeypatch.setattr(checksummed, "read", lambda *args: disk.wait(30) and read(*args))
    monkeypatch.setattr(restore, "PATIENCE_S", 0.05)
    work = cache.begin_restore(prompt([*IDS, 7]), filled(0), REQUEST)
    assert turns(work) == [0, 0]
    _, lease = start(cache, [*IDS, 7], work)
    assert lease.match.num_tokens == 0, "it is computed"
    assert cache.begin_restore(prompt([*IDS, 8]), filled(0), REQUEST) is None, "nobody waits for this disk again"
    disk.set()
    deadline = time.monotonic() + 10
    while (again := cache.begin_restore(prompt([*IDS, 8]), filled(0), REQUEST)) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sum(turns(again)) == 40, "until it answers"


def test_a_slow_disk_that_answers_is_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten files of somebody else come first: longer than the patience, but the disk is never silent for so long."""
    before = make(folder)
    before.store(before.lease("other"), IDS, filled(len(IDS)))
    before.close()
    cache, read = make(folder), checksummed.read
    monkeypatch.setattr(checksummed, "read", lambda *args: time.sleep(0.1) or read(*args))
    monkeypatch.setattr(restore, "PATIENCE_S", 0.5)
    other = cache.begin_restore(prompt([*IDS, 7]), filled(0), Request(tenant="other"))
    work = cache.begin_restore(prompt([*IDS, 7]), filled(0), REQUEST)
    assert other is not None and work is not None
    other.turn()
    assert sum(turns(work)) == 40, "it was given up"
    other.close()
    assert cache.stats().disk.faults == 0
    cache.close()


def test_sabotage_a_patience_that_ignores_answers_is_seen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DiskStore, "silent_s", lambda self, since_s: time.monotonic() - since_s)
    with pytest.raises(AssertionError, match="given up"):
        test_a_slow_disk_that_answers_is_waited_for(folder, monkeypatch)


def test_clear_and_drop_reach_what_is_being_read(cache: PrefixCache, share: None) -> None:
    work = cache.begin_restore(prompt([*IDS, 7]), filled(0), REQUEST)
    assert work is not None
    until_ready(work)
    work.turn()
    cache.clear()
    assert sum(turns(work)) == 0, "what was dropped does not come back"
    work.close()
    check_nothing_is_held(cache)


def test_a_row_without_cache_restores_nothing(cache: PrefixCache) -> None:
    assert cache.begin_restore(prompt([*IDS, 7]), filled(0), Request(reuse=False)) is None
    assert cache.begin_restore(prompt([*IDS, 7]), filled(0), Request(tenant="other")) is None
    assert cache.begin_restore(Prompt([1, 2], [], ()), filled(0), REQUEST) is None


# Snapshots: one file, whose arrays are made in shares.


def row(num_tokens: int) -> list[Any]:
    return filled(num_tokens, RotatingKVCache)


@pytest.fixture
def snapshots(tmp_path: Path) -> Iterator[PrefixCache]:
    """After a restart: two snapshots on disk, after 20 tokens of IDS and after all 40."""
    before = make(tmp_path)
    for num_tokens in (20, 40):
        before.store(before.lease(), IDS[:num_tokens], row(num_tokens))
    before.close()
    cache = make(tmp_path)
    yield cache
    cache.close()


def begun(cache: PrefixCache, work: restore.Restore | None) -> Any:
    """Begin a row from a snapshot. Its KV must be that of the tokens."""
    layers = row(0)
    lease = cache.begin(prompt([*IDS, 7]), layers, REQUEST, work)
    assert lease is not None
    if n := lease.match.num_tokens:
        for layer, whole in zip(layers, row(n), strict=True):
            assert layer.offset == n and mx.array_equal(layer.keys[..., :n, :], whole.keys[..., :n, :]), "other KV"
    return lease


def test_the_longest_snapshot_comes_back_in_turns(snapshots: PrefixCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore, "TURN_BYTES", 1)
    work = snapshots.begin_restore(prompt([*IDS, 7]), row(0), REQUEST)
    assert len(turns(work)) >= 4, "an array each turn"
    assert snapshots.stats().snapshots == 0, "it is the restore's own before the row begins"
    lease = begun(snapshots, work)
    assert (lease.match.num_tokens, lease.disk_tokens) == (40, 40)
    assert snapshots.stats().snapshots == 1
    assert snapshots.begin_restore(prompt([*IDS, 7]), row(0), REQUEST) is None


def test_a_snapshot_that_is_damaged_gives_way_to_a_shorter_one(snapshots: PrefixCache, tmp_path: Path) -> None:
    largest = max(tmp_path.rglob("snapshots-*.safetensors"), key=lambda path: path.stat().st_size)
    damage(largest)
    work = snapshots.begin_restore(prompt([*IDS, 7]), row(0), REQUEST)
    turns(work)
    assert begun(snapshots, work).disk_tokens == 20
    assert snapshots.stats().disk.faults == 1


@pytest.mark.parametrize("name", ["is_whole", "to_array"])
def test_a_fault_while_a_snapshot_is_read_is_a_miss(
    name: str, snapshots: PrefixCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(checksummed if name == "is_whole" else restore, name, Raises(RuntimeError("x")))
        work = snapshots.begin_restore(prompt([*IDS, 7]), row(0), REQUEST)
        turns(work)
    assert begun(snapshots, work).match.num_tokens == 0
    assert snapshots.stats().disk.faults >= 1
    check_nothing_is_held(snapshots)


def test_a_snapshot_may_be_left_in_the_middle(snapshots: PrefixCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore, "TURN_BYTES", 1)
    for num_turns in range(4):
        work = snapshots.begin_restore(prompt([*IDS, 7]), row(0), REQUEST)
        assert work is not None
        for _ in range(num_turns):
            until_ready(work)
            work.turn()
        work.close()
        check_nothing_is_held(snapshots)


# Features: read ahead of the tower, while running rows go on.

KEYS = [bytes([i]) * 16 for i in range(6)]


def unit(i: int) -> list[mx.array]:
    return [mx.full((3, 4), i, dtype=mx.float32), mx.full((2,), i, dtype=mx.bfloat16)]


@pytest.fixture
def features(tmp_path: Path) -> Iterator[PrefixCache]:
    """After a restart: six units of features on disk."""
    before = make(tmp_path)
    for i, key in enumerate(KEYS):
        before.features.put(key, unit(i), 100)
    before.close()
    cache = make(tmp_path)
    yield cache
    cache.close()


def same(payload: Any, i: int) -> bool:
    return all(mx.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(payload, unit(i), strict=True))


def test_features_are_read_off_the_engine_thread_while_rows_step(
    features: PrefixCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, steps, read = set(), [0], checksummed.read

    def slow(*args: Any) -> Any:
        names.add(threading.current_thread().name)
        time.sleep(0.02)
        return read(*args)

    def step() -> None:
        steps[0] += 1

    monkeypatch.setattr(checksummed, "read", slow)
    features.interleave(step)
    features.features.request(KEYS)
    assert all(same(features.features.get(key), i) for i, key in enumerate(KEYS))
    assert features.features.get(b"x" * 16) is None
    assert names == {"cache-reader"} and steps[0] >= 6
    check_nothing_is_held(features)


def test_features_in_another_order_or_not_requested_come_too(features: PrefixCache) -> None:
    assert same(features.features.get(KEYS[3]), 3)
    features.features.request(KEYS)
    assert same(features.features.get(KEYS[5]), 5) and same(features.features.get(KEYS[0]), 0)
    features.features.request(KEYS)
    features.features.request([])
    check_nothing_is_held(features)


def test_features_of_a_silent_disk_are_encoded(features: PrefixCache, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, read = threading.Event(), checksummed.read
    monkeypatch.setattr(checksummed, "read", lambda *args: disk.wait(30) and read(*args))
    monkeypatch.setattr(disk_features, "PATIENCE_S", 0.1)
    began = time.monotonic()
    features.features.request(KEYS)
    assert [features.features.get(key) for key in KEYS] == [None] * 6
    assert time.monotonic() - began < 2, "it is waited for once, not for each unit"
    disk.set()


@pytest.mark.parametrize("error", [OSError(5, "I/O"), MemoryError()], ids=repr)
def test_features_that_cannot_be_read_are_encoded(
    error: BaseException, features: PrefixCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(checksummed, "is_whole", Raises(error))
        features.features.request(KEYS)
        assert [features.features.get(key) for key in KEYS] == [None] * 6
    assert features.stats().disk.faults == 6
    check_nothing_is_held(features)


def test_mlx_that_fails_on_features_is_a_miss(features: PrefixCache, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(disk_features, "to_array", Raises(RuntimeError("[malloc] x")))
        assert features.features.get(KEYS[0]) is None
    assert features.stats().disk.faults == 1
    assert same(features.features.get(KEYS[0]), 0)


# Memory that runs out where a row begins.


@pytest.mark.parametrize("error", [RuntimeError("[metal::malloc] x"), MemoryError()], ids=repr)
def test_a_row_whose_copy_fails_holds_nothing(
    error: BaseException, cache: PrefixCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the fence: in MLX's concatenation inside tensors.join."""
    cache.store(cache.lease(), IDS, filled(len(IDS)))
    with monkeypatch.context() as patched:
        patched.setattr(tensors.mx, "concatenate", Raises(error))
        with pytest.raises(type(error)):
            cache.begin(prompt([*IDS, 7]), filled(0), REQUEST)
    check_nothing_is_held(cache)
    assert cache.stats().total_queries == 0, "it never began"
    assert start(cache, [*IDS, 7], None)[1].match.num_tokens == 40


def test_sabotage_a_row_that_acquires_first_is_seen(cache: PrefixCache, monkeypatch: pytest.MonkeyPatch) -> None:
    match = BlockPool.match

    def acquiring(self: BlockPool, *args: Any) -> Any:
        found = match(self, *args)
        self.acquire(found)
        return found

    monkeypatch.setattr(BlockPool, "match", acquiring)
    with pytest.raises(AssertionError, match="still held"):
        test_a_row_whose_copy_fails_holds_nothing(MemoryError(), cache, monkeypatch)


def test_a_restore_is_over_when_the_row_cannot_begin(cache: PrefixCache, monkeypatch: pytest.MonkeyPatch) -> None:
    work = cache.begin_restore(prompt([*IDS, 7]), filled(0), REQUEST)
    turns(work)
    monkeypatch.setattr(tensors.mx, "concatenate", Raises(MemoryError()))
    with pytest.raises(MemoryError):
        cache.begin(prompt([*IDS, 7]), filled(0), REQUEST, work)
    check_nothing_is_held(cache)


@pytest.mark.parametrize("name", ["contiguous", "eval"])
def test_kv_that_cannot_be_copied_is_not_kept(
    name: str, cache: PrefixCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lease, layers = cache.lease(), filled(len(IDS))
    with monkeypatch.context() as patched:
        patched.setattr(tensors.mx, name, Raises(RuntimeError("[metal::malloc] x")))
        cache.store(lease, IDS, layers)
    assert "not kept" in caplog.text and len(cache.pool) == 0
    cache.pool.check_integrity()
    cache.store(lease, IDS, layers)
    assert len(cache.pool) == 10


def test_a_disk_that_fails_at_eviction_does_not_fail_the_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = make(tmp_path, max_blocks=4)
    cache.store(cache.lease("a"), IDS[:16], filled(16))
    with monkeypatch.context() as patched:
        patched.setattr(checksummed, "num_bytes", Raises(RuntimeError("x")))
        cache.store(cache.lease("b"), IDS[:16], filled(16))
    cache.pool.check_integrity()
    assert len(cache.pool) == 4 and cache.stats().disk.dropped == 4
    cache.close()


class Raises:
    """A function that raises."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise self.error


# The check in idle moments.


def spoil_bytes(pool: BlockPool) -> None:
    pool.num_bytes += 1


def spoil_queue(pool: BlockPool) -> None:
    pool._free.popitem()


def spoil_hash(pool: BlockPool) -> None:
    block = list(pool)[3]
    block.ids = (1, 2, 3, 4)


def spoil_refs(pool: BlockPool) -> None:
    pool.hold(list(pool)[:2])


def spoil_parents(pool: BlockPool) -> None:
    del pool._blocks[next(iter(pool)).hash]


SPOILED = {
    "bytes": (spoil_bytes, 10), "free queue": (spoil_queue, 10), "hashes": (spoil_hash, 3),
    "held": (spoil_refs, 10), "orphans": (spoil_parents, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", list(SPOILED))
def test_damaged_tables_are_found_when_idle_and_mended(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The damaged part goes, the rest serves, and the log says so once."""
    spoil, num_left = SPOILED[name]
    cache = PrefixCache(CacheConfig(block_tokens=4), scope="model")
    cache.store(cache.lease(), IDS, filled(len(IDS)))
    cache.idle()
    assert not caplog.records
    spoil(cache.pool)
    for _ in range(3):
        cache.idle()
    cache.pool.check_integrity()
    assert [record.levelname for record in caplog.records] == ["ERROR"] and name in caplog.text
    assert len(cache.pool) == num_left and cache.pool.num_held == 0
    assert start(cache, [*IDS, 7], None)[1].match.num_tokens == 4 * num_left
    cache.store(cache.lease(), IDS, filled(len(IDS)))
    cache.pool.check_integrity()


def test_a_sample_comes_to_every_block(tmp_path: Path) -> None:
    cache = PrefixCache(CacheConfig(block_tokens=4), scope="model")
    cache.store(cache.lease(), IDS, filled(len(IDS)))
    spoil_hash(cache.pool)
    found = 0
    for _ in range(5):
        try:
            cache.pool.check_integrity(sample=2)
        except Exception:
            found += 1
    assert found == 1


def test_the_check_is_cheap() -> None:
    pool = BlockPool(block_tokens=64, max_blocks=10_000)
    for chain in range(100):
        root, ids = pool.root(str(chain)), list(range(6400))
        for slot in pool.missing(root, ids):
            pool.put(slot, None, 1)
    best_s = min(_seconds(lambda: pool.check_integrity(64)) for _ in range(5))
    assert best_s < 0.05, "10,000 blocks"


def _seconds(run: Callable[[], None]) -> float:
    """Of this thread: what others do on the machine does not count."""
    began_s = time.thread_time()
    run()
    return time.thread_time() - began_s
