"""Several models behind one engine: each answers as alone, in turns in memory, and none costs another one anything."""

from __future__ import annotations

import asyncio
import gc
import random
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import psutil
import pytest

from engine.config import CacheConfig, EngineConfig, ModelSpec
from engine.core import Engine
from engine.errors import Conflict, EngineError, ModelNotFound, TimedOut, Unavailable
from engine.models import loading
from engine.models.checkpoint import expected_bytes, expected_weights
from engine.runtime import thread
from engine.runtime.loading import roster
from engine.runtime.memory_use.memory import room
from engine.runtime.scheduler import Scheduler
from engine.types import Delta, ModelState
from tests import tiny
from tests.engine.drive import TIMEOUT_S, ask, chat
from tests.pictures import picture
from tests.waiting import until

TinyModel = Callable[..., Path]
NO_CACHE = CacheConfig(enabled=False, features=False)


@pytest.fixture(scope="module")
def three(tiny_model: TinyModel) -> tuple[ModelSpec, ...]:
    """Two that read and one that sees."""
    families = {"reader": "llama", "writer": "qwen3", "seer": "qwen3_vl"}
    return tuple(ModelSpec(str(tiny_model(family)), name=name) for name, family in families.items())


@asynccontextmanager
async def running(specs: tuple[ModelSpec, ...], **settings: Any) -> AsyncIterator[Engine]:
    """An engine of its own with these models; the first is the default one, and loaded."""
    engine = Engine(EngineConfig(model=specs[0], more_models=specs[1:], **settings))
    engine.start()
    try:
        await engine.ready()
        yield engine
    finally:
        await asyncio.to_thread(engine.stop)


async def alone(spec: ModelSpec, requests: list[Any]) -> list[tuple[int, ...]]:
    """What a model answers in an engine that has no other."""
    async with running((spec,), cache=NO_CACHE) as engine:
        return [(await ask(engine, replace(request, model=None))).token_ids for request in requests]


def state(engine: Engine, name: str) -> ModelState:
    return next(state for state in engine.models() if state.name == name)


def talk(model: str | None = None) -> Any:
    """A request that does not end by itself before its test does."""
    return chat("Talk", max_tokens=3900, ignore_eos=True, model=model)


# -- which one answers -------------------------------------------------------------------------------------------------


async def test_each_request_is_answered_by_the_model_it_names(three: tuple[ModelSpec, ...]) -> None:
    specs = (three[0], replace(three[1], aliases=("pen", "quill")), three[2])
    request = chat("Which one are you?", max_tokens=8)
    expected = [(await alone(spec, [request]))[0] for spec in specs]
    assert len(set(expected)) == 3, "three models that answer alike would prove nothing"
    async with running(specs) as engine:
        for spec, tokens in zip(specs, expected, strict=True):
            for name in (spec.served_name, *spec.aliases, spec.source):
                assert (await ask(engine, replace(request, model=name))).token_ids == tokens, name
        for name in (None, "default"):
            assert (await ask(engine, replace(request, model=name))).token_ids == expected[0]
        with pytest.raises(ModelNotFound, match=r"reader.*writer.*seer"):
            await ask(engine, replace(request, model="nobody"))
        assert [card.id for card in engine.snapshot().models] == ["reader", "writer", "seer"]


async def test_a_model_is_loaded_by_the_first_request_for_it(three: tuple[ModelSpec, ...]) -> None:
    async with running(three) as engine:
        assert [state.stage for state in engine.models()] == ["ready", "known", "known"]
        assert engine.snapshot().state == "ready" and state(engine, "reader").is_default
        await ask(engine, chat("Hello", model="writer"))
        found = state(engine, "writer")
        assert (found.stage, found.num_requests, found.num_waiting) == ("ready", 0, 0)
        assert found.card is not None and found.card.model_type == "qwen3"
        assert found.num_bytes == found.card.num_bytes == found.done_bytes and found.seconds > 0
        assert state(engine, "seer").card is None
        assert engine.snapshot().states[1].stage == "ready", "who got its answer finds it in the snapshot"


async def test_what_is_not_preloaded_is_not_and_what_is_comes_in_order(three: tuple[ModelSpec, ...]) -> None:
    specs = (replace(three[0], preload=False), replace(three[1], preload=True), three[2])
    engine = Engine(EngineConfig(model=specs[0], more_models=specs[1:]))
    engine.start()
    try:
        await until(lambda: engine.snapshot().state == "ready", "it never is ready")
        assert [state.stage for state in engine.models()] == ["known", "ready", "known"]
        assert engine.snapshot().model is None, "of the default one nothing is known yet"
        assert (await engine.ready()).id == "reader"
    finally:
        await asyncio.to_thread(engine.stop)


def test_two_models_of_one_name_are_refused(three: tuple[ModelSpec, ...]) -> None:
    for other in (replace(three[1], name="reader"), replace(three[1], aliases=("reader",)), three[0]):
        with pytest.raises(EngineError, match="reader"):
            EngineConfig(model=three[0], more_models=(other,))
    with pytest.raises(EngineError, match="default"):
        EngineConfig(model=three[0], more_models=(replace(three[1], aliases=("default",)),))


# -- two of three in memory --------------------------------------------------------------------------------------------


def asked(name: str, number: int) -> Any:
    pieces: tuple[Any, ...] = (f"Question {number} of {name}.",)
    if name == "seer":
        pieces = (picture(("red", "green", "blue")[number % 3]), *pieces)
    return chat(*pieces, max_tokens=6 + number % 5, model=name)


@pytest.mark.parametrize("limit", ["number", "bytes"])
async def test_three_models_take_turns_in_room_for_two(three: tuple[ModelSpec, ...], limit: str) -> None:
    """Over sixty requests at once, in mixed order: each is answered as alone, and none is lost."""
    rng, names, most = random.Random(3), [spec.served_name for spec in three], 0
    requests = [asked(names[i % 3], i) for i in range(66)]
    expected: dict[str, list[tuple[int, ...]]] = {}
    for spec in three:
        own = [request for request in requests if request.model == spec.served_name]
        expected[spec.served_name] = await alone(spec, own)
    sizes = sorted(room([expected_weights(Path(spec.source), spec)]) for spec in three)
    settings = {"max_loaded_models": 2} if limit == "number" else {"max_models_bytes": sum(sizes) - 1}
    async with running(three, max_queue=100, **settings) as engine:

        async def one(request: Any) -> tuple[int, ...]:
            nonlocal most
            answer = await ask(engine, request, delay_s=rng.random())
            most = max(most, len(engine.snapshot().models))
            return answer.token_ids

        async with asyncio.timeout(2 * TIMEOUT_S):
            answers = await asyncio.gather(*(one(request) for request in requests))
        for name in names:
            got = [tokens for request, tokens in zip(requests, answers, strict=True) if request.model == name]
            assert got == expected[name], name
        assert most == 2
        totals = engine.snapshot().totals
        assert (totals.requests, totals.finished, totals.failed, totals.cancelled) == (66, 66, 0, 0)
        assert all(state.num_requests == state.num_waiting == 0 for state in engine.models())


async def test_a_model_that_is_in_use_stays_and_its_newcomers_stand_in_line(three: tuple[ModelSpec, ...]) -> None:
    """A stream that never ends by itself would keep others out for ever if new requests for its model went first."""
    async with running(three, max_loaded_models=1, cache=NO_CACHE) as engine:
        stream = engine.stream(talk())
        assert isinstance(await anext(stream), Delta)
        second = asyncio.create_task(ask(engine, chat("Hello", max_tokens=4, model="writer")))
        reader = engine._slots.find("reader")
        await until(lambda: reader.is_closed, "nobody makes room for it")  # else a newcomer need not stand in line
        newcomer = asyncio.create_task(ask(engine, chat("Me, too", max_tokens=4)))
        await until(lambda: state(engine, "reader").num_waiting == 1, "it does not stand in line")
        for _ in range(20):
            assert isinstance(await anext(stream), Delta), "the stream goes on"
        assert not second.done() and state(engine, "reader").stage == "ready"
        await stream.aclose()
        assert (await second).done.usage.completion_tokens == 4
        assert (await newcomer).done.usage.completion_tokens == 4


async def test_who_stops_waiting_for_room_lets_the_others_go_on(three: tuple[ModelSpec, ...]) -> None:
    async with running(three, max_loaded_models=1, cache=NO_CACHE) as engine:
        stream = engine.stream(talk())
        await anext(stream)
        leaving = asyncio.create_task(ask(engine, chat("I leave", model="writer")))
        reader = engine._slots.find("reader")
        await until(lambda: reader.is_closed, "nobody makes room for it")  # else a newcomer need not stand in line
        newcomer = asyncio.create_task(ask(engine, chat("Me, too", max_tokens=4)))
        await until(lambda: state(engine, "reader").num_waiting == 1, "it does not stand in line")
        leaving.cancel()
        assert (await newcomer).done.usage.completion_tokens == 4, "the room is not needed any more"
        assert state(engine, "writer").stage == "known"
        assert isinstance(await anext(stream), Delta)
        await stream.aclose()


async def test_the_time_limit_counts_while_a_model_is_waited_for(three: tuple[ModelSpec, ...]) -> None:
    async with running(three, max_loaded_models=1, request_timeout_s=3.0) as engine:
        stream = engine.stream(talk())
        await anext(stream)

        async def read() -> None:
            with suppress(TimedOut):
                async for _ in stream:
                    pass

        talking = asyncio.create_task(read())
        began = time.monotonic()
        with pytest.raises(TimedOut):
            await ask(engine, talk("writer"))
        assert time.monotonic() - began < 10
        await talking


# -- leaving memory ----------------------------------------------------------------------------------------------------


def wide(folder: Path) -> Path:
    """A model of some 60 MB, which is not loaded at once."""
    return tiny.sized("text", 512, 6, folder)


async def test_what_nobody_uses_leaves_memory_and_comes_back(
    tiny_model: TinyModel, models_dir: Path, three: tuple[ModelSpec, ...]
) -> None:
    large = tiny.sized("text", 768, 6, models_dir)  # so that its memory can be told from noise
    specs = (three[0], ModelSpec(str(large), name="wide", idle_unload_s=1.5))
    async with running(specs) as engine:
        await ask(engine, chat("Hello"))
        gc.collect()
        before_bytes, process_bytes = mx.get_active_memory(), psutil.Process().memory_info().rss
        first = await ask(engine, chat("Hello", model="wide", max_tokens=8))
        size = state(engine, "wide").num_bytes
        assert size > 100_000_000
        assert mx.get_active_memory() - before_bytes > 0.9 * size
        await until(lambda: state(engine, "wide").stage == "known", "it stays")
        assert state(engine, "reader").stage == "ready", "the other one has no such limit"
        await until(lambda: [card.id for card in engine.snapshot().models] == ["reader"], "it is still shown")
        await until(lambda: mx.get_active_memory() - before_bytes < 0.1 * size, "MLX's memory does not come back")
        await until(
            lambda: psutil.Process().memory_info().rss - process_bytes < 0.1 * size,
            "the process's memory does not come back",
        )
        again = await ask(engine, chat("Hello", model="wide", max_tokens=8))
        assert again.token_ids == first.token_ids


async def test_it_is_not_idle_while_it_answers(three: tuple[ModelSpec, ...]) -> None:
    async with running((replace(three[0], idle_unload_s=0.2),), cache=NO_CACHE) as engine:
        stream = engine.stream(talk())
        ends_s = time.monotonic() + 2.5
        while time.monotonic() < ends_s:
            assert isinstance(await anext(stream), Delta)
        assert state(engine, "reader").stage == "ready"
        await stream.aclose()
        await until(lambda: state(engine, "reader").stage == "known", "it stays")
        await until(lambda: engine.snapshot().models == (), "it is still shown")
        assert engine.snapshot().state == "ready"
        assert engine.snapshot().model is not None, "what it is stays known"
        assert await engine.cache.blocks() == []
        assert (await ask(engine, chat("Hello", max_tokens=3))).done.usage.completion_tokens == 3


async def test_counters_outlive_the_models_they_are_of(three: tuple[ModelSpec, ...]) -> None:
    async with running(three) as engine:
        long = "word " * 200
        for name in ("reader", "writer"):
            for _ in range(2):
                await ask(engine, chat(long, model=name, max_tokens=2))
        both = engine.snapshot().cache
        assert both.total_queries == 4 and both.hits == 2 and both.kv_bytes > 0
        blocks = await engine.cache.blocks()
        assert both.blocks == len(blocks)
        await engine.unload_model("writer")
        one = engine.snapshot().cache
        assert (one.total_queries, one.hits, one.tokens_saved) == (4, 2, both.tokens_saved)
        assert 0 < one.kv_bytes < both.kv_bytes and one.blocks == len(await engine.cache.blocks()) < len(blocks)


# -- by hand -----------------------------------------------------------------------------------------------------------


async def test_loading_and_unloading_by_hand(three: tuple[ModelSpec, ...]) -> None:
    async with running(three) as engine:
        loaded = await engine.load_model("writer")
        assert (loaded.name, loaded.stage) == ("writer", "ready")
        assert (await engine.load_model("writer")).stage == "ready", "again"
        assert (await engine.unload_model("writer")).stage == "known"
        assert (await engine.unload_model("writer")).stage == "known", "again"
        for method in (engine.load_model, engine.unload_model):
            with pytest.raises(ModelNotFound):
                await method("nobody")


async def test_what_is_in_use_is_not_unloaded_and_makes_no_room_by_hand(three: tuple[ModelSpec, ...]) -> None:
    async with running(three, max_loaded_models=1, cache=NO_CACHE) as engine:
        stream = engine.stream(talk())
        await anext(stream)
        with pytest.raises(Conflict, match="1 request") as in_use:
            await engine.unload_model("reader")
        assert in_use.value.code == "model_in_use"
        with pytest.raises(Conflict, match=r"writer.*KiB.*at most 1.*reader") as no_room:
            await engine.load_model("writer")
        assert no_room.value.code == "no_room"
        assert state(engine, "writer").stage == "known"
        assert isinstance(await anext(stream), Delta)
        await stream.aclose()
        assert (await engine.load_model("writer")).stage == "ready"
        assert state(engine, "reader").stage == "known", "who nobody uses makes room"


async def test_a_model_larger_than_memory_is_refused_with_the_numbers(three: tuple[ModelSpec, ...]) -> None:
    size = expected_bytes(Path(three[1].source), three[1])
    specs = (three[0], replace(three[1], max_bytes=size - 1), three[2])
    async with running(specs) as engine:
        for attempt in (engine.load_model("writer"), ask(engine, chat("Hello", model="writer"))):
            with pytest.raises(Unavailable, match=r"writer does not fit.*KiB.*KiB"):
                await attempt
        assert (await ask(engine, chat("Hello", model="seer"))).done


# -- loads that fail, and what goes on meanwhile -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["missing", "cut", "late"])
async def test_a_load_that_fails_is_an_error_of_its_own_requests(
    three: tuple[ModelSpec, ...], tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "broken"
    if kind != "missing":
        shutil.copytree(three[1].source, folder)
    if kind == "cut":
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
    broken = ModelSpec(str(folder), name="broken")
    async with running((*three, broken), cache=NO_CACHE) as engine:
        if kind == "late":
            monkeypatch.setattr(loading, "load_tokenizer", _fails)
            monkeypatch.setattr("engine.models.registry.load_tokenizer", _fails)
        stream = engine.stream(talk())
        await anext(stream)
        results = await asyncio.gather(
            *(ask(engine, chat(f"{i}", model="broken")) for i in range(3)), return_exceptions=True
        )
        assert all(isinstance(result, ModelNotFound if kind == "missing" else Unavailable) for result in results)
        found = state(engine, "broken")
        assert found.stage == "failed" and found.error == results[0].message
        assert {"missing": "No model", "cut": "is not whole", "late": "no tokenizer today"}[kind] in found.error
        with pytest.raises(EngineError, match="broken"):
            await ask(engine, chat("at once", model="broken"))
        assert isinstance(await anext(stream), Delta), "the stream of another model goes on"
        await stream.aclose()
        assert engine.snapshot().state == "ready"
        monkeypatch.undo()
        if kind != "missing":
            shutil.copytree(three[1].source, folder, dirs_exist_ok=True)
            assert (await engine.load_model("broken")).stage == "ready", "by hand it is tried again at once"


def _fails(*_: Any) -> Any:
    raise ValueError("no tokenizer today, in broken")


async def test_a_model_whose_turns_fail_ends_alone(
    three: tuple[ModelSpec, ...], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another model works in between, so that its failures do not come in a row on the thread."""
    chunk_tokens = 77
    specs = (three[0], replace(three[1], prefill_chunk_tokens=chunk_tokens))
    plan, num_raised = Scheduler.plan, 0

    def fails(scheduler: Scheduler) -> Any:
        nonlocal num_raised
        if scheduler.chunk_tokens == chunk_tokens and scheduler.waiting:
            num_raised += 1
            raise RuntimeError("no plan today")
        return plan(scheduler)

    async with running(specs, cache=NO_CACHE) as engine:
        await engine.load_model("writer")
        stream = engine.stream(talk())
        await anext(stream)
        monkeypatch.setattr(Scheduler, "plan", fails)
        monkeypatch.setattr(Scheduler, "admit", lambda scheduler: _admit(scheduler, chunk_tokens))
        asking = asyncio.create_task(ask(engine, chat("Hello", model="writer")))
        with pytest.raises(Unavailable, match="no plan today"):
            while not asking.done():
                assert isinstance(await anext(stream), Delta), "the other one goes on"
            await asking
        assert num_raised == thread.MAX_FAILURES
        await until(lambda: state(engine, "writer").stage == "failed", "it does not say so")
        assert engine.snapshot().state == "ready" and [card.id for card in engine.snapshot().models] == ["reader"]
        monkeypatch.undo()
        assert (await engine.load_model("writer")).stage == "ready"
        assert (await ask(engine, chat("Hello", model="writer", max_tokens=2))).done
        await stream.aclose()


_admit_all = Scheduler.admit


def _admit(scheduler: Scheduler, chunk_tokens: int) -> Any:
    """Nobody, of the model with these chunks: who only waits is not ended by a failed turn."""
    return None if scheduler.chunk_tokens == chunk_tokens else _admit_all(scheduler)


async def test_a_failed_model_is_tried_again_after_a_while(
    three: tuple[ModelSpec, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "later"
    async with running((*three, ModelSpec(str(folder), name="later"))) as engine:
        with pytest.raises(ModelNotFound):
            await ask(engine, chat("Hello", model="later"))
        shutil.copytree(three[1].source, folder)
        monkeypatch.setattr(roster, "RETRY_S", 0.0)
        assert (await ask(engine, chat("Hello", model="later", max_tokens=2))).done


async def test_the_default_model_that_fails_among_others_ends_nothing(three: tuple[ModelSpec, ...]) -> None:
    specs = (ModelSpec("/no/such/folder", name="gone"), *three)
    engine = Engine(EngineConfig(model=specs[0], more_models=specs[1:]))
    engine.start()
    try:
        with pytest.raises(ModelNotFound):
            await engine.ready()
        with pytest.raises(ModelNotFound):
            await engine.ready()  # the same at once
        assert (await ask(engine, chat("Hello", model="writer", max_tokens=2))).done
        assert engine.snapshot().state == "ready" and state(engine, "gone").stage == "failed"
    finally:
        await asyncio.to_thread(engine.stop)


async def test_streams_go_on_while_another_model_is_loaded(
    models_dir: Path, three: tuple[ModelSpec, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two portions of weights the stream gets tokens, and the snapshot says how far the load is."""
    monkeypatch.setattr(loading, "PORTION_BYTES", 1 << 20)
    specs = (three[0], ModelSpec(str(wide(models_dir)), name="wide"))
    async with running(specs, cache=NO_CACHE) as engine:
        stream = engine.stream(talk())
        await anext(stream)
        load = asyncio.create_task(engine.load_model("wide"))
        seen: dict[int, int] = {}
        async with asyncio.timeout(TIMEOUT_S):
            while not load.done():
                assert isinstance(await anext(stream), Delta)
                if (found := state(engine, "wide")).stage == "loading" and found.done_bytes:
                    seen[found.done_bytes] = seen.get(found.done_bytes, 0) + 1
                    assert found.total_bytes == found.num_bytes >= found.done_bytes
        assert len(seen) > 5, "tokens came between many parts of it"
        assert sorted(seen) == list(seen), "it only grows"
        assert (await load).stage == "ready"
        await stream.aclose()


async def test_cancelled_while_its_model_is_loaded(
    models_dir: Path, three: tuple[ModelSpec, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who leaves takes nobody with it, leaves no use behind, and the model can be unloaded."""
    monkeypatch.setattr(loading, "PORTION_BYTES", 1 << 20)
    specs = (three[0], ModelSpec(str(wide(models_dir)), name="wide"))
    async with running(specs, cache=NO_CACHE) as engine:
        stream = engine.stream(talk())  # which makes the load take turns
        await anext(stream)
        asking = [asyncio.create_task(ask(engine, chat(f"{i}", model="wide", max_tokens=3))) for i in range(4)]
        await until(lambda: state(engine, "wide").num_waiting == 4, "they do not wait")
        for task in asking[1:3]:
            task.cancel()
        await stream.aclose()
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert [isinstance(result, asyncio.CancelledError) for result in results] == [False, True, True, False]
        await until(lambda: state(engine, "wide").num_requests == 0, "a use is left behind")
        assert (await engine.unload_model("wide")).stage == "known"


async def test_a_load_that_nobody_waits_for_can_be_given_up(
    models_dir: Path, three: tuple[ModelSpec, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "PORTION_BYTES", 1 << 20)
    specs = (three[0], ModelSpec(str(wide(models_dir)), name="wide"))
    async with running(specs, cache=NO_CACHE) as engine:
        stream = engine.stream(talk())
        await anext(stream)
        waiting = asyncio.create_task(ask(engine, chat("Hello", model="wide")))
        await until(lambda: state(engine, "wide").done_bytes > 0, "it is not loaded")
        with pytest.raises(Conflict):
            await engine.unload_model("wide")
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert (await engine.unload_model("wide")).stage == "known"
        assert (await anext(stream)) and state(engine, "wide").done_bytes == 0
        await stream.aclose()


async def test_stop_while_requests_wait_for_a_model(three: tuple[ModelSpec, ...]) -> None:
    async with running(three, max_loaded_models=1, cache=NO_CACHE) as engine:
        stream = engine.stream(talk())
        await anext(stream)
        waiting = asyncio.create_task(ask(engine, chat("Hello", model="writer")))
        await until(lambda: state(engine, "writer").num_waiting == 1, "it does not wait")
        await asyncio.to_thread(engine.stop)
        with pytest.raises(Unavailable):
            async with asyncio.timeout(10):
                await waiting
        await stream.aclose()
