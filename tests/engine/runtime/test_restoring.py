"""A prompt that comes back from disk takes turns like any other: running rows go on, whatever the disk does."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from engine.cache.disk import checksummed, restore
from engine.cache.disk.restore import BlockRestore
from engine.config import CacheConfig, EngineConfig, ModelSpec
from engine.core import Engine
from engine.models.adapter import Adapter
from engine.models.batch import Batch
from engine.types import Request
from tests import tiny
from tests.engine.drive import TIMEOUT_S, ask, chat, settled
from tests.engine.runtime.test_worker import until

CHUNK = 512
STREAM = chat("Go on for ever.", max_tokens=2000)


def long_prompt(num_words: int = 2670) -> Request:
    """Some 8,000 tokens of the tiny models."""
    return chat("word " * num_words, max_tokens=4)


@asynccontextmanager
async def running(model: Path, folder: Path) -> AsyncIterator[Engine]:
    """An engine of its own, that is stopped in order at the end."""
    engine = Engine(EngineConfig(model=ModelSpec(str(model)), cache=CacheConfig(disk_folder=folder)))
    engine.start()
    try:
        await engine.ready()
        yield engine
    finally:
        await asyncio.to_thread(engine.stop)


@pytest.fixture(scope="module")
def model(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a context of 16,384 tokens."""
    folder = tmp_path_factory.mktemp("long") / "qwen3"
    shutil.copytree(tiny.build("qwen3", "float32", models_dir), folder)
    for name, key in (("config.json", "max_position_embeddings"), ("tokenizer_config.json", "model_max_length")):
        config = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**config, key: 16_384}))
    return folder


@pytest.fixture
async def folder(model: Path, tmp_path: Path) -> Path:
    """A folder with the long prompt's KV, as a server left it that has stopped."""
    async with running(model, tmp_path) as engine:
        await ask(engine, long_prompt())
    return tmp_path


@dataclass
class Log:
    """What the engine thread did, in order: "step" for a decode step, a number for prompt tokens that it computed or
    brought from disk."""

    events: list[str | int] = field(default_factory=list)

    def longest_gap(self) -> int:
        """Most prompt tokens between two steps."""
        longest = tokens = 0
        for event in self.events:
            tokens = tokens + event if isinstance(event, int) else 0
            longest = max(longest, tokens)
        return longest


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    out = Log()
    step, hand_in, prefill, finish = Batch.step, BlockRestore._hand_in, Adapter.prefill, Adapter.finish

    def logged_step(batch: Any) -> Any:
        out.events.append("step")
        return step(batch)

    def logged_hand_in(self: BlockRestore, slot: Any, contents: Any) -> Any:
        out.events.append(len(slot.ids))
        return hand_in(self, slot, contents)

    def logged_prefill(adapter: Any, ids: Any, span: tuple[int, int], *rest: Any) -> Any:
        out.events.append(span[1] - span[0])
        return prefill(adapter, ids, span, *rest)

    def logged_finish(adapter: Any, ids: Any, start: int, *rest: Any) -> Any:
        out.events.append(len(ids) - start)
        return finish(adapter, ids, start, *rest)

    monkeypatch.setattr(Batch, "step", logged_step)
    monkeypatch.setattr(BlockRestore, "_hand_in", logged_hand_in)
    monkeypatch.setattr(Adapter, "prefill", logged_prefill)
    monkeypatch.setattr(Adapter, "finish", logged_finish)
    return out


async def beside_a_stream(engine: Engine, request: Request) -> Any:
    """The end of a request that is answered while a stream runs, which must not have ended meanwhile."""
    stream = engine.stream(STREAM)
    await anext(stream)
    try:
        answer = await ask(engine, request)
        assert any(row.stage == "decode" for row in engine.snapshot().running), "it was over"
        return answer.done
    finally:
        await stream.aclose()


async def test_8000_tokens_are_restored_beside_a_running_stream(model: Path, folder: Path, log: Log) -> None:
    async with running(model, folder) as engine:
        log.events.clear()
        done = await beside_a_stream(engine, long_prompt())
        assert done.usage.cached_tokens == done.usage.prompt_tokens - 1 > 8000
        assert done.trace.disk_tokens > 7900, "but for the first block, which the stream has computed"
        assert log.longest_gap() <= 2 * CHUNK, "the stream waits for more than two chunks"
        assert (await settled(engine)).cache.blocks_in_use == 0


async def test_sabotage_restored_in_one_go_the_stream_waits(
    model: Path, folder: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = BlockRestore.turn

    def in_one_go(self: BlockRestore) -> bool:
        while not turn(self):
            pass
        return True

    monkeypatch.setattr(BlockRestore, "turn", in_one_go)
    with pytest.raises(AssertionError, match="waits for more than two chunks"):
        await test_8000_tokens_are_restored_beside_a_running_stream(model, folder, log)


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """No byte comes from disk before the event is set."""
    disk, read = threading.Event(), checksummed.read
    monkeypatch.setattr(checksummed, "read", lambda *args: disk.wait(60) and read(*args))
    monkeypatch.setattr(restore, "PATIENCE_S", 60.0)
    return disk


async def test_others_go_on_while_a_prompt_waits_for_the_disk(
    model: Path, folder: Path, slow_disk: threading.Event
) -> None:
    async with running(model, folder) as engine:
        waiting = asyncio.create_task(ask(engine, long_prompt()))
        while not [row for row in engine.snapshot().running if row.stage == "restoring"]:
            await asyncio.sleep(0.005)
        assert (await ask(engine, chat("Hello there", reuse=False))).done.usage.completion_tokens > 0
        assert not waiting.done()
        slow_disk.set()
        assert (await waiting).done.trace.disk_tokens > 7500


async def test_a_request_that_leaves_while_it_is_restored_leaves_nothing(
    model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle: some of its blocks are in memory, and the disk owes the next."""
    disk, read, count = threading.Event(), checksummed.read, [0]

    def read_some(*args: Any) -> Any:
        count[0] += 1
        return (count[0] <= 40 or disk.wait(60)) and read(*args)

    monkeypatch.setattr(checksummed, "read", read_some)
    async with running(model, folder) as engine:
        stream = engine.stream(Request(**{**_fields(long_prompt()), "id": "leaves"}))
        reading = asyncio.ensure_future(anext(stream))
        await until(engine, "leaves", "restoring")
        async with asyncio.timeout(TIMEOUT_S):
            while engine.snapshot().cache.blocks_in_use < 40:
                await asyncio.sleep(0.005)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await stream.aclose()
        await engine.cache.blocks(with_text=False)  # commands are carried out in order: the cancel has been by then
        snapshot = await settled(engine)
        assert (snapshot.cache.blocks_in_use, snapshot.totals.cancelled) == (0, 1), "blocks are still held"
        disk.set()
        assert (await ask(engine, long_prompt())).done.trace.reused_tokens > 7500


async def test_sabotage_a_restore_that_is_not_closed_is_seen(
    model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BlockRestore, "close", lambda self: None)
    with pytest.raises(AssertionError, match="still held"):
        await test_a_request_that_leaves_while_it_is_restored_leaves_nothing(model, folder, monkeypatch)


def _fields(request: Request) -> dict[str, Any]:
    return {name: getattr(request, name) for name in request.__dataclass_fields__}


def damage_files(folder: Path, _: pytest.MonkeyPatch) -> None:
    for path in sorted(folder.rglob("*.safetensors"))[::3]:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


def fail_reader(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksummed, "is_whole", _fails_after(checksummed.is_whole, 20, OSError(5, "I/O error")))


def fail_mlx(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        restore, "to_array", _fails_after(restore.to_array, 100, RuntimeError("[malloc] Unable to allocate"))
    )


def hang(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restore, "PATIENCE_S", 0.2)
    monkeypatch.setattr(checksummed, "read", lambda *args: threading.Event().wait(3))


def _fails_after(function: Callable[..., Any], num_calls: int, error: Exception) -> Callable[..., Any]:
    count = [0]

    def failing(*args: Any) -> Any:
        count[0] += 1
        if count[0] > num_calls:
            raise error
        return function(*args)

    return failing


@pytest.mark.parametrize("fault", [damage_files, fail_reader, fail_mlx, hang], ids=lambda fault: fault.__name__)
async def test_a_fault_in_a_restore_is_a_miss_and_the_server_serves(
    fault: Callable[[Path, pytest.MonkeyPatch], None],
    model: Path,
    engine_for: Any,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cold = await ask(await engine_for(model, cache=CacheConfig(enabled=False)), long_prompt())
    fault(folder, monkeypatch)
    async with running(model, folder) as engine:
        answer = await ask(engine, long_prompt())
        assert answer.text == cold.text
        assert answer.done.trace.disk_tokens < 7500, "the fault was not met"
        assert (await settled(engine)).cache.disk.faults >= 1
        again = await ask(engine, long_prompt())
        assert again.text == cold.text and again.done.usage.cached_tokens > 7500
        stats = (await settled(engine)).cache
        assert stats.blocks_in_use == 0
