"""Every request ends once and with the truth, whatever fails at its end; a storm of them leaves nothing held."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlx_lm.generate import BatchGenerator

from engine.cache.disk import store
from engine.cache.snapshots import SnapshotStore
from engine.config import CacheConfig, EngineConfig, MediaLimits, ModelSpec
from engine.core import Engine
from engine.errors import EngineError, Internal
from engine.media import read_medium
from engine.models import registry
from engine.prompt.text import TextPrompts
from engine.runtime import endings, thread
from engine.runtime.scheduler import Scheduler
from engine.runtime.worker import Worker
from engine.types import Request
from tests.engine.drive import GREEDY, ask, chat
from tests.engine.runtime.test_faults import fault, nothing_is_held, outcomes, serving
from tests.pictures import picture

TinyModel = Callable[..., Path]
IDS = tuple(range(5, 45))


async def test_an_end_that_fails_is_told(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tiny_model("llama")) as engine:
        whole = (await ask(engine, chat("I decode.", max_tokens=3))).text
        failing = fault(monkeypatch, endings, "make_trace")
        failing.left = 1
        async with asyncio.timeout(20):
            (result,) = await outcomes(ask(engine, chat("I end badly.", max_tokens=3)))
        assert failing.raised == 1 and isinstance(result, Internal)
        assert (await ask(engine, chat("I decode.", max_tokens=3))).text == whole
        await nothing_is_held(engine)


async def test_a_cancel_that_fails_costs_nobody_else(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tiny_model("llama")) as engine:
        expected = (await ask(engine, chat("Beside.", max_tokens=300))).text
        gone = engine.stream(chat("Gone.", max_tokens=2000, id="gone"))
        await anext(gone)
        beside = asyncio.create_task(ask(engine, chat("Beside.", max_tokens=300)))
        await asyncio.sleep(0.05)
        failing = fault(monkeypatch, endings, "make_trace", when=lambda sequence, *_: sequence.id == "gone")
        failing.left = 1
        await gone.aclose()
        assert (await beside).text == expected and failing.raised == 1
        await nothing_is_held(engine)


@pytest.mark.parametrize("family", ["gemma3", "llama"])
async def test_a_row_that_is_lost_stores_nothing(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    """An answer ends at a stop string, and the library fails to hand its KV out: the next prompt answers as cold."""
    with serving(tiny_model(family)) as engine:
        base = Request(prompt=IDS, max_tokens=12, sampling=GREEDY)
        stop = (await ask(engine, base)).text[3:6]
        await engine.cache.clear()
        removing = fault(monkeypatch, BatchGenerator, "remove")
        removing.left = 1
        cut = await ask(engine, replace(base, stop=(stop,), max_tokens=40))
        removing.left = 0
        longer = replace(base, prompt=(*IDS, *cut.token_ids, 7, 8, 9))
        warm, cold = await ask(engine, longer), await ask(engine, replace(longer, reuse=False))
        assert removing.raised == 1 and warm.token_ids == cold.token_ids


async def test_a_disk_tier_that_fails_when_idle_ends_nothing(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(thread, "_IDLE_S", 0.05)
    with serving(tiny_model("llama"), cache=CacheConfig(disk_folder=tmp_path)) as engine:
        failing = fault(monkeypatch, store, "to_tensor")
        failing.left = 10**9
        await ask(engine, chat("word " * 200, max_tokens=3))
        async with asyncio.timeout(20):
            while failing.raised < 2 * thread.MAX_FAILURES:
                await asyncio.sleep(0.05)
        assert (await ask(engine, chat("Still here?", max_tokens=3))).done.usage.completion_tokens == 3
        assert engine.snapshot().state == "ready"


async def test_the_reason_is_told_to_those_who_are_served_when_the_thread_ends(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tiny_model("llama")) as engine:
        await ask(engine, chat("I decode.", max_tokens=3))
        planning = fault(monkeypatch, Scheduler, "plan")
        planning.left = 10**9
        monkeypatch.setattr(Worker, "recover", lambda self: None)
        results = await outcomes(*(ask(engine, chat(f"Ask {i}", max_tokens=3)) for i in range(3)))
        assert all(isinstance(result, EngineError) for result in results)
        assert not any("shutting down" in str(result) for result in results)


async def test_snapshots_restored_by_several_at_once_are_counted_once(tiny_model: TinyModel, tmp_path: Path) -> None:
    request = Request(prompt=tuple(range(5, 205)), max_tokens=1, sampling=GREEDY)
    cache = CacheConfig(disk_folder=tmp_path)
    with serving(tiny_model("gemma3"), cache=cache) as engine:
        await ask(engine, request)
    with serving(tiny_model("gemma3"), cache=cache) as engine:
        await engine.ready()
        answers = await asyncio.gather(*(ask(engine, request) for _ in range(6)))
        assert any(answer.done.usage.cached_tokens for answer in answers)
        stores = [held for held in gc.get_objects() if isinstance(held, SnapshotStore) and len(held)]
        for held in stores:
            assert held.num_bytes == sum(snapshot.num_bytes for _, snapshot in held)


async def test_a_requests_own_media_are_not_those_of_others(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six pictures of one request take longer than a medium may wait for others: an idle server answers."""
    read = read_medium.load_media
    monkeypatch.setattr(read_medium, "load_media", lambda *args, **more: (time.sleep(0.4), read(*args, **more))[1])
    with serving(tiny_model("qwen3_vl"), media=MediaLimits(queue_timeout_s=0.6)) as engine:
        await engine.ready()
        colours = ("red", "green", "blue", "yellow", "purple", "orange")
        answer = await ask(engine, chat(*(picture(colour) for colour in colours), "x", max_tokens=1))
        assert len(answer.done.media) == 6


async def test_long_texts_are_fair_to_pictures(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight long texts of one caller, half a second each: another's picture waits for one of them, not for all."""
    build = TextPrompts.build
    with serving(tiny_model("qwen3_vl")) as engine:
        await ask(engine, chat(picture("blue"), "x", max_tokens=1))
        monkeypatch.setattr(TextPrompts, "build", lambda self, *a, **k: (time.sleep(0.5), build(self, *a, **k))[1])
        begun: list[str] = []

        async def asked(name: str, request: Request) -> None:
            await outcomes(ask(engine, request))
            begun.append(name)

        texts = [asyncio.create_task(asked("text", chat(f"{i} " + "word " * 10_000, max_tokens=1))) for i in range(8)]
        await asyncio.sleep(0.1)
        num_before = len(begun)
        await asked("picture", chat(picture("green"), "x", max_tokens=1, session="other"))
        assert begun.index("picture") - num_before <= 4
        await asyncio.gather(*texts)


async def test_stop_while_the_model_loads_stays_stopped(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread, "_LOADING_GRACE_S", 0.1)
    load, loading = registry.load_in_parts, threading.Event()
    slow = lambda *given: (loading.set(), time.sleep(1.5), load(*given))[2]  # noqa: E731
    monkeypatch.setattr(registry, "load_in_parts", slow)
    engine = Engine(EngineConfig(model=ModelSpec(str(tiny_model("llama")))))
    engine.start()
    running = engine._thread
    assert running is not None
    assert await asyncio.to_thread(loading.wait, 60)
    engine.stop()
    await asyncio.to_thread(running.join, 30)
    assert engine.snapshot().state == "stopped" and not running.is_alive()


async def test_a_storm_leaves_nothing_held(tiny_model: TinyModel, tmp_path: Path) -> None:
    """Random cancels, several answers, stop strings, pictures, a small pool and a folder: all are counted once."""
    rng = random.Random(5)
    settings: dict[str, Any] = {
        "cache": CacheConfig(disk_folder=tmp_path, max_blocks=40),
        "completion_batch_size": 4,
        "prefill_batch_size": 3,
        "prefill_chunk_tokens": 64,
    }

    async def one(engine: Engine, number: int) -> None:
        pieces: tuple[Any, ...] = (f"word{number % 7} " * rng.choice([3, 60, 300]),)
        if rng.random() < 0.3:
            pieces = (picture(rng.choice(["red", "blue", "green"])), *pieces)
        choices = {"max_tokens": rng.choice([1, 2, 5, 40]), "n": rng.choice([1, 1, 1, 2, 3])}
        request = chat(*pieces, **choices, stop=rng.choice([(), ("a",), ("e", "o")]), reuse=rng.random() < 0.9)
        await asyncio.sleep(rng.random() * 2)
        leave_after = rng.choice([None, None, 0, 1, 5])
        stream = engine.stream(request)
        try:
            if leave_after == 0:
                reading = asyncio.ensure_future(anext(stream))
                await asyncio.sleep(rng.random() * 0.3)
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
                return
            num_events = 0
            async for _ in stream:
                num_events += 1
                if num_events == leave_after:
                    return
        except EngineError:
            pass
        finally:
            await stream.aclose()

    with serving(tiny_model("qwen3_vl"), **settings) as engine:
        await engine.ready()
        async with asyncio.timeout(200):
            await asyncio.gather(*(one(engine, number) for number in range(40)))
        await nothing_is_held(engine)
        async with asyncio.timeout(20):  # a stream that is closed does not wait for its cancel
            while (totals := engine.snapshot().totals).requests != totals.finished + totals.cancelled + totals.failed:
                await asyncio.sleep(0.05)
        assert engine._tickets.num_requests == 0 and engine._tickets.held_bytes == 0
