"""The disk beneath the engine's cache: after a restart, under eviction and with damaged files, warm = cold."""

from __future__ import annotations

import asyncio
import random
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_vlm.models.cache import RotatingKVCache

from engine.cache import tensors
from engine.cache.blocks import BlockPool, Slot
from engine.cache.disk import checksummed, tier
from engine.cache.disk.restore import BlockRestore
from engine.cache.disk.store import DiskStore
from engine.cache.disk.tier import DiskTier
from engine.cache.features import FeatureStore
from engine.cache.snapshots import SnapshotStore, snapshot_key
from engine.cache.table import block_hash
from engine.config import CacheConfig, EngineConfig, ModelSpec
from engine.core import Engine
from engine.types import Request
from tests.engine.drive import Answer, ask, chat, settled
from tests.pictures import picture

RED, BLUE = picture("red"), picture("blue", "square", (120, 72))
REQUESTS = [
    chat(RED, "What is in this image?", max_tokens=10),
    chat(RED, "What color is the circle?", max_tokens=10),
    chat(BLUE, "What is in this image?", max_tokens=10),
    chat(RED, BLUE, "Compare.", max_tokens=10),
]
COLD = CacheConfig(enabled=False)


def on_disk(folder: Path, **more: Any) -> CacheConfig:
    return CacheConfig(disk_folder=folder, **{"block_tokens": 16} | more)


@asynccontextmanager
async def running(model: Path | str, cache: CacheConfig) -> AsyncIterator[Engine]:
    """An engine of its own, that is stopped in order at the end."""
    engine = Engine(EngineConfig(model=ModelSpec(str(model)), cache=cache))
    engine.start()
    try:
        await engine.ready()
        yield engine
    finally:
        await asyncio.to_thread(engine.stop)


async def answers(engine: Any, wanted: list[Request]) -> list[Answer]:
    return [await ask(engine, request) for request in wanted]


async def session(model: Path | str, cache: CacheConfig, wanted: list[Request]) -> list[Answer]:
    """An engine's life: start, answer, stop."""
    async with running(model, cache) as engine:
        return await answers(engine, wanted)


async def saved(engine: Engine) -> Any:
    """The cache's numbers, once an idle engine has written all that memory holds."""
    async with asyncio.timeout(20):
        while (held := engine.snapshot().cache).disk.files < held.blocks + held.features or not held.blocks:
            await asyncio.sleep(0.05)
    return held


def texts(found: list[Answer]) -> list[str]:
    return [answer.text for answer in found]


@pytest.fixture
async def cold(tiny_model: Any, engine_for: Any) -> list[str]:
    """What the tiny model says with no cache at all."""
    return texts(await answers(await engine_for(tiny_model("qwen3_vl"), cache=COLD), REQUESTS))


async def test_a_restart_finds_blocks_and_features(tiny_model: Any, tmp_path: Path, cold: list[str]) -> None:
    """The second engine has asked nothing before, and computes one token of a repeat."""
    model = tiny_model("qwen3_vl")
    first = await session(model, on_disk(tmp_path), REQUESTS[:1])
    async with running(model, on_disk(tmp_path)) as engine:
        same = await ask(engine, REQUESTS[0])
        stats = (await settled(engine)).cache.disk
        assert (stats.hits, stats.faults) == (stats.blocks, 0) and stats.features == 1
        rest = await answers(engine, REQUESTS[1:])
    assert [first[0].text, same.text, *texts(rest)] == [cold[0], *cold]
    trace, usage = same.done.trace, same.done.usage
    assert usage.cached_tokens == usage.prompt_tokens - 1 == trace.reused_tokens == trace.disk_tokens
    # Another question: its picture ends in the middle of a block, of which the first part is reused.
    other = rest[0].done
    assert other.media[0].tokens < other.usage.cached_tokens and other.trace.reason == "diverged"
    assert first[0].done.trace.disk_tokens == 0


async def test_the_question_alone_reads_the_picture_from_disk(tiny_model: Any, tmp_path: Path, cold: list[str]) -> None:
    """The first request after a restart is another question about the picture."""
    model = tiny_model("qwen3_vl")
    await session(model, on_disk(tmp_path), REQUESTS[:1])
    (answer,) = await session(model, on_disk(tmp_path), REQUESTS[1:2])
    assert answer.text == cold[1]
    assert answer.done.trace.disk_tokens == answer.done.usage.cached_tokens > answer.done.media[0].tokens


async def test_features_alone(tiny_model: Any, tmp_path: Path, cold: list[str], monkeypatch: Any) -> None:
    """Without KV the encoder is still not asked again."""
    from engine.models.vision_tower import CachedVisionTower

    model = tiny_model("qwen3_vl")
    await session(model, on_disk(tmp_path, enabled=False), REQUESTS)

    def refused(*_: Any) -> None:
        raise AssertionError("the encoder ran")

    monkeypatch.setattr(CachedVisionTower, "_encode", refused)
    assert texts(await session(model, on_disk(tmp_path, enabled=False), REQUESTS)) == cold


async def test_what_is_evicted_comes_back(tiny_model: Any, tmp_path: Path, cold: list[str]) -> None:
    """Memory for five blocks and no picture: everything else lives on disk."""
    async with running(tiny_model("qwen3_vl"), on_disk(tmp_path, max_blocks=5, max_feature_bytes=1)) as engine:
        for _ in range(2):
            found = await answers(engine, REQUESTS)
            assert texts(found) == cold
        stats = (await settled(engine)).cache
    assert stats.evictions > 0 and stats.disk.writes > 0 and stats.disk.faults == 0
    assert max(answer.done.trace.disk_tokens for answer in found) > 16
    for answer in found:
        assert answer.done.trace.disk_tokens <= answer.done.usage.cached_tokens


@pytest.mark.parametrize("family", ["gemma3", "gemma4", "qwen3_5"])
async def test_snapshots(family: str, tiny_model: Any, engine_for: Any, tmp_path: Path) -> None:
    """Sliding windows and state-space layers: the whole row comes back, after a restart and after eviction."""
    model = tiny_model(family)
    cold = texts(await answers(await engine_for(model, cache=COLD), REQUESTS))
    assert texts(await session(model, on_disk(tmp_path), REQUESTS[:1])) == cold[:1]
    async with running(model, on_disk(tmp_path, max_snapshots=2)) as engine:
        first = await answers(engine, [REQUESTS[1], REQUESTS[0], *REQUESTS[2:]])
        again = await answers(engine, REQUESTS)
        stats = (await settled(engine)).cache
    other, same = first[0].done, first[1].done
    assert texts([first[1], first[0], *first[2:]]) == texts(again) == cold
    assert other.trace.disk_tokens == other.usage.cached_tokens >= other.media[0].tokens, "another question"
    assert same.trace.disk_tokens == same.usage.cached_tokens == same.usage.prompt_tokens - 1, "a repeat"
    assert stats.evictions > 0 and stats.disk.faults == 0 and stats.disk.snapshots > 2
    assert all(answer.done.usage.cached_tokens == answer.done.usage.prompt_tokens - 1 for answer in again)


async def test_sabotage_a_snapshot_without_the_window_s_place(
    tiny_model: Any, engine_for: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that a layer says of itself is needed, not its arrays alone."""
    monkeypatch.setattr(RotatingKVCache, "meta_state", property(lambda layer: ("0", "32", "0", "0"), _set_meta))
    model = tiny_model("gemma3")
    (cold,) = texts(await answers(await engine_for(model, cache=COLD), REQUESTS[:1]))
    await session(model, on_disk(tmp_path), REQUESTS[:1])
    (wrong,) = await session(model, on_disk(tmp_path), REQUESTS[:1])
    assert wrong.done.trace.disk_tokens > 0 and wrong.text != cold


def _set_meta(layer: Any, said: Any) -> None:
    layer.keep, layer.max_size, layer.offset, layer._idx = map(int, said)


async def test_an_idle_engine_writes_what_it_holds(tiny_model: Any, tmp_path: Path) -> None:
    """So a process that is killed has lost little."""
    async with running(tiny_model("qwen3_vl"), on_disk(tmp_path)) as engine:
        await ask(engine, REQUESTS[0])
        stats = await saved(engine)
        assert stats.evictions == 0 and stats.disk.features == 1


async def test_bfloat16(tiny_model: Any, tmp_path: Path) -> None:
    model = tiny_model("qwen3_vl", "bfloat16")
    first = await session(model, on_disk(tmp_path), REQUESTS[:1] * 2)
    (again,) = await session(model, on_disk(tmp_path), REQUESTS[:1])
    assert again.text == first[1].text and again.done.trace.disk_tokens == again.done.usage.prompt_tokens - 1


def spoil(path: Path) -> None:
    """Other numbers of the same type, in a file that is otherwise as it was."""
    data = np.frombuffer(path.read_bytes(), dtype=np.uint8).copy()
    noise = np.random.default_rng(0).normal(scale=3.0, size=1 << 20).astype(np.float32).view(np.uint8)
    start = 8 + int(data[:8].view(np.uint64)[0])
    data[start:-16] = noise[: len(data) - 16 - start]
    path.write_bytes(data.tobytes())


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [spoil, truncate])
async def test_damaged_files_cost_a_miss(
    damage: Callable[[Path], None], tiny_model: Any, tmp_path: Path, cold: list[str]
) -> None:
    model = tiny_model("qwen3_vl")
    await session(model, on_disk(tmp_path), REQUESTS)
    for path in tmp_path.rglob("*.safetensors"):
        damage(path)
    async with running(model, on_disk(tmp_path)) as engine:
        found = await answers(engine, REQUESTS)
        assert (await settled(engine)).cache.disk.faults > 0
    assert texts(found) == cold
    assert not any(answer.done.trace.disk_tokens for answer in found)


async def test_sabotage_unchecked_files_give_wrong_answers(
    tiny_model: Any, tmp_path: Path, cold: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checksummed, "is_whole", lambda data: True)
    model = tiny_model("qwen3_vl")
    await session(model, on_disk(tmp_path), REQUESTS[:1])
    for path in tmp_path.rglob("*.safetensors"):
        spoil(path)
    (wrong,) = await session(model, on_disk(tmp_path), REQUESTS[:1])
    assert wrong.done.trace.disk_tokens > 0 and wrong.text != cold[0]


async def test_other_models_and_changed_files_share_nothing(tiny_model: Any, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model("qwen3_vl"), model)
    cache = on_disk(tmp_path / "cache")
    await session(model, cache, REQUESTS[:1])
    (other,) = await session(tiny_model("qwen3_vl", "bfloat16"), cache, REQUESTS[:1])
    weights = next(model.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes())
    (changed,) = await session(model, cache, REQUESTS[:1])
    assert other.done.usage.cached_tokens == changed.done.usage.cached_tokens == 0
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_the_scope_tells_software_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {tier.software("model"), tier.software("other model")}
    monkeypatch.setattr(tier.importlib.metadata, "version", lambda name: "99")
    assert len({*before, tier.software("model")}) == 3


async def test_clear_and_drop_reach_the_disk(tiny_model: Any, tmp_path: Path) -> None:
    async with running(tiny_model("qwen3_vl"), on_disk(tmp_path, max_feature_bytes=1)) as engine:
        await ask(engine, REQUESTS[0])
        await saved(engine)
        first = (await engine.cache.blocks())[0]
        assert await engine.cache.change_block("drop", first.key)
        assert (await ask(engine, REQUESTS[0])).done.usage.cached_tokens == 0
        await engine.cache.clear()
        assert engine.snapshot().cache.disk.files == 0
        assert (await ask(engine, REQUESTS[0])).done.usage.cached_tokens == 0


async def test_a_stuck_disk_holds_up_neither_answers_nor_the_end(
    tiny_model: Any, tmp_path: Path, cold: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = threading.Event()
    monkeypatch.setattr(checksummed, "write", lambda *_: disk.wait(60))
    monkeypatch.setattr(tier, "STOP_S", 0.2)
    async with running(tiny_model("qwen3_vl"), on_disk(tmp_path, max_blocks=5)) as engine:
        assert texts(await answers(engine, REQUESTS)) == cold
        stopping = time.monotonic()
    assert time.monotonic() - stopping < 10
    disk.set()


# The books, without a model.


def payload(slot: Slot, scope: int) -> tensors.Payload:
    """KV that tells which tokens it is of, of which scope, and where."""
    keys = mx.array(slot.ids, dtype=mx.float32).reshape(1, 1, -1, 1)
    values = mx.arange(slot.start, slot.start + len(slot.ids)).reshape(keys.shape) + 1000 * scope
    return [(keys, values)]


class Books:
    """A pool over a folder, as PrefixCache has it."""

    def __init__(self, folder: Path, max_blocks: int = 1000, **limits: int) -> None:
        self.pool = BlockPool(block_tokens=4, max_blocks=max_blocks)
        self.disk = DiskStore(folder, "a" * 32, 60_000, **limits)
        self.tier = DiskTier(self.disk, self.pool, FeatureStore(1 << 20), SnapshotStore(9, 1 << 20))

    def store(self, scope: int, ids: list[int]) -> None:
        root = self.pool.root(str(scope))
        for slot in self.pool.missing(root, ids):
            self.pool.put(slot, payload(slot, scope), 100)
        self.pool.trim(root, ids)

    def check_prompt(self, scope: int, ids: list[int]) -> int:
        """What a prompt would be served is its own tokens' KV. Returns how many of them came from disk."""
        root = self.pool.root(str(scope))
        restore = self.tier.restore_blocks(root, ids)
        hashes = finish(restore)
        match = self.pool.match(root, ids)
        found = [pair for block, n in match.used for pair in _flat(block.payload, n)]
        assert found == [(i, 1000 * scope + at) for at, i in enumerate(ids[: match.num_tokens])]
        if restore is not None:
            restore.close()
        return sum(n for block, n in match.used if block.hash in hashes)


def finish(restore: BlockRestore | None) -> set[bytes]:
    """Take all turns of a restore. Returns the hashes of what it brought."""
    while restore is not None and not restore.turn():
        time.sleep(0.0005)
    return set() if restore is None else restore.hashes


def _flat(held: tensors.Payload, num_tokens: int) -> list[tuple[int, int]]:
    ((keys, values),) = held
    return list(zip(keys.flatten().tolist()[:num_tokens], values.flatten().tolist()[:num_tokens], strict=True))


@pytest.mark.parametrize("seed", range(2))
def test_random_operations_with_restarts(seed: int, tmp_path: Path) -> None:
    """Stores, prompts, pins, drops, idle moments and restarts, with tiny limits; the books are checked after each."""
    rng = random.Random(seed)
    books, from_disk = Books(tmp_path, max_blocks=8), 0
    for _ in range(400):
        ids = [rng.randrange(3) for _ in range(rng.randrange(2, 20))]
        scope, what = rng.randrange(2), rng.randrange(20)
        blocks = list(books.pool)
        if what < 8:
            books.store(scope, ids)
        elif what < 14:
            from_disk += books.check_prompt(scope, ids)
        elif what < 16:
            books.tier.idle()
        elif what == 16 and blocks:
            books.pool.pin(rng.choice(blocks).hash, pinned=rng.random() < 0.4)
        elif what == 17 and blocks:
            block = rng.choice(blocks)
            if books.pool.drop(block.hash):
                books.tier.drop(block)
        elif what == 18 and rng.random() < 0.3:
            books.tier.close()
            books = Books(tmp_path, max_blocks=rng.choice([3, 8, 30]))
        elif what == 19 and rng.random() < 0.1:
            books.pool.clear()
            books.tier.clear()
        books.pool.check_integrity()
    books.tier.close()
    assert from_disk > 10


def test_a_file_under_another_name_is_not_taken_for_it(tmp_path: Path) -> None:
    """Token ids are compared after the hash in the name."""
    books = Books(tmp_path)
    books.store(0, [1, 2, 3, 4])
    books.store(1, [5, 6, 7, 8])
    books.tier.close()
    one, other = sorted(tmp_path.rglob("*.safetensors"))
    one_data, other_data = one.read_bytes(), other.read_bytes()
    one.write_bytes(other_data)
    other.write_bytes(one_data)
    books = Books(tmp_path)
    for scope, ids in ((0, [1, 2, 3, 4, 9]), (1, [5, 6, 7, 8, 9]), (0, [5, 6, 7, 8, 9]), (1, [1, 2, 3, 4, 9])):
        assert books.check_prompt(scope, ids) == 0
    books.tier.close()


def test_whole_files_with_something_else_in_them(tmp_path: Path) -> None:
    """Sealed, in the right place, under the right name, and yet not what they should be: a miss, and they go."""
    books = Books(tmp_path)
    ids, root = [1, 2, 3, 4, 5], books.pool.root("0")
    key = block_hash(root, ids[:4]).hex()
    snapshot = snapshot_key(root, ids[:3]).hex()
    other = {"something": mx.ones(4), "else": mx.ones(4)}
    books.disk.save(root.hex(), key, other, {"ids": "1,2,3,4"})
    books.disk.save("features", key, other, {})
    books.disk.save("snapshots", snapshot, other, {"tokens": "3", "layers": '[["os.system", [], null]]'})
    while books.disk.wait(10.0):
        """One more file is finished."""
    assert books.disk.stats().files == 3
    assert finish(books.tier.restore_blocks(root, ids)) == set()
    snapshots = books.tier.restore_snapshot(root, ids)
    assert snapshots is not None
    while not snapshots.turn():
        time.sleep(0.0005)
    assert snapshots.layers is None and snapshots.num_tokens == 0
    assert books.tier._features.get(bytes.fromhex(key)) is None
    assert books.disk.stats().files == 0
    books.tier.close()


def test_a_writer_with_little_room_keeps_beginnings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are evicted tail first; what is not written of a chain must be its tail, or nothing of it is of use."""
    disk, write = threading.Event(), checksummed.write
    monkeypatch.setattr(checksummed, "write", lambda *args: disk.wait(30) and write(*args))
    ids = list(range(40))
    books = Books(tmp_path, max_queue_bytes=1300)
    books.store(0, ids)
    books.pool.max_blocks = 0
    books.pool.trim(books.pool.root("0"), ids)
    disk.set()
    books.disk.close(10.0)
    again = Books(tmp_path)
    num_files = again.disk.stats().files
    assert 0 < num_files < 10
    assert again.check_prompt(0, ids) == 4 * num_files
    again.tier.close()


def test_a_prompt_larger_than_memory_is_restored_as_far_as_it_fits(tmp_path: Path) -> None:
    ids = list(range(400))
    books = Books(tmp_path)
    books.store(0, ids)
    books.tier.close()
    books = Books(tmp_path, max_blocks=30)
    assert books.check_prompt(0, ids) == 120
    assert len(books.pool) <= 30 and books.disk.stats().hits < 50, "and not all of it is read"
    books.pool.check_integrity()
    books.tier.close()


def test_a_restart_with_another_block_size(tmp_path: Path) -> None:
    ids = list(range(23))
    books = Books(tmp_path)
    books.store(0, ids)
    books.tier.close()
    for size in (2, 8, 3, 4):
        again = Books(tmp_path)
        again.pool.block_tokens = size
        for prompt in ([*ids, 99], [0, 1, 4, 5, 6, 7, 99], [0, 1, 2, 4, 5, 6, 7, 99]):
            again.check_prompt(0, prompt)
            again.pool.check_integrity()
        again.store(0, ids)
        again.pool.check_integrity()
        again.tier.close()
