"""Models that come and go: what has left is gone before the next is loaded, a start ends however it ends, and who waits
for a model has a place in the queue."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from engine import core
from engine.config import EngineConfig, ModelSpec
from engine.core import Engine
from engine.errors import Busy, Unavailable
from engine.models import registry
from engine.runtime.intake.tickets import MAX_PREFLIGHTS
from engine.runtime.loading import model_load
from engine.runtime.scheduler import Scheduler
from engine.types import Option, Part, TypedQuestion
from tests.engine.drive import ask, chat
from tests.waiting import until

TinyModel = Callable[..., Path]


@pytest.fixture(scope="module")
def two(tiny_model: TinyModel) -> tuple[ModelSpec, ModelSpec]:
    return ModelSpec(str(tiny_model("llama")), name="one"), ModelSpec(str(tiny_model("qwen3")), name="two")


@asynccontextmanager
async def started(*specs: ModelSpec, **settings: Any) -> AsyncIterator[Engine]:
    engine = Engine(EngineConfig(model=specs[0], more_models=specs[1:], **settings))
    engine.start()
    try:
        yield engine
    finally:
        await asyncio.to_thread(engine.stop)


class Watch:
    """Whether a model of an engine was still in memory when the load of another began."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.was_gone: list[bool] = []
        model = engine._slots.default.model
        assert model is not None
        worker, load_in_parts = weakref.ref(model.worker), registry.load_in_parts

        def watched(*args: Any) -> Any:
            self.was_gone.append(worker() is None)
            return load_in_parts(*args)

        monkeypatch.setattr(registry, "load_in_parts", watched)


async def test_a_model_that_made_room_is_gone_before_the_next_is_loaded(
    two: tuple[ModelSpec, ModelSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with started(*two, max_loaded_models=1) as engine:
        await ask(engine, chat("Hello", max_tokens=2))
        watch = Watch(engine, monkeypatch)
        await ask(engine, chat("Hello", model="two", max_tokens=2))
        assert watch.was_gone == [True]


async def test_a_model_that_failed_is_gone_before_the_next_is_loaded(
    two: tuple[ModelSpec, ModelSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with started(*two) as engine:
        await engine.ready()
        watch = Watch(engine, monkeypatch)

        def fails(scheduler: Scheduler) -> Any:
            raise RuntimeError("no plan today")

        with monkeypatch.context() as broken:
            broken.setattr("engine.runtime.thread.log.exception", lambda *_: None)  # pytest would keep the traceback
            broken.setattr(Scheduler, "plan", fails)
            broken.setattr(Scheduler, "admit", lambda scheduler: None)
            with suppress(Unavailable):
                await ask(engine, chat("Hello", max_tokens=2))
        await engine.load_model("two")
        assert watch.was_gone == [True]


@pytest.fixture
def never_found(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is on the hub does not come while the test runs."""
    is_over = threading.Event()

    def downloads(*_: Any) -> Path:
        is_over.wait()
        raise Unavailable("The test is over.")

    monkeypatch.setattr(model_load, "locate", downloads)
    yield
    is_over.set()


def endless(*_: Any) -> Iterator[tuple[int, int]]:
    """In place of what loads a model in parts."""
    while True:
        yield 1, 2


@pytest.mark.usefixtures("never_found")
@pytest.mark.parametrize("at", ["downloading", "loading"])
async def test_the_start_is_over_once_its_model_is_given_up(
    two: tuple[ModelSpec, ModelSpec], at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = ModelSpec("org/far") if at == "downloading" else two[0]
    monkeypatch.setattr(registry, "load_in_parts", endless)
    async with started(default, two[1]) as engine:
        await until(
            lambda: engine.models()[0].stage == at and engine.snapshot().states[0].done_bytes == (at == "loading"),
            "it does not begin",
        )
        assert engine.snapshot().state == "loading"
        await engine.unload_model(default.served_name)
        assert engine.snapshot().state == "ready"


# -- places ------------------------------------------------------------------------------------------------------------

QUESTIONS = (TypedQuestion("choice", (Part("text", "Which?"),), (Option("a"), Option("b"))),)


def streamed(engine: Engine) -> Awaitable[Any]:
    return ask(engine, chat("Hello", model="far"))


def decided(engine: Engine) -> Awaitable[Any]:
    return engine.decide(chat("Hello", model="far"), QUESTIONS)


def preflight(engine: Engine) -> Awaitable[Any]:
    return engine.preflight(chat("Hello", model="far"))


@pytest.mark.usefixtures("never_found")
@pytest.mark.parametrize("asked", [streamed, decided, preflight])
async def test_who_waits_for_a_model_has_a_place_in_the_queue(
    two: tuple[ModelSpec, ModelSpec], asked: Callable[[Engine], Awaitable[Any]]
) -> None:
    far, settings = ModelSpec("org/far", name="far"), {"max_num_seqs": 1, "max_queue": 1, "max_loaded_models": 1}
    most = MAX_PREFLIGHTS if asked is preflight else 2
    async with started(two[0], far, **settings) as engine:
        await engine.ready()
        waiting = [asyncio.ensure_future(asked(engine)) for _ in range(most)]
        await until(lambda: engine.models()[1].num_waiting == most, "they do not wait")
        with pytest.raises(Busy):
            async with asyncio.timeout(10):
                await asked(engine)
        waiting.pop().cancel()
        engine.drain()
        with pytest.raises(Unavailable, match="shutting down"):
            async with asyncio.timeout(10):
                await asked(engine)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await until(lambda: engine.num_open == 0, "a place is left behind")


# -- before a load -----------------------------------------------------------------------------------------------------


async def test_the_others_give_back_memory_before_a_load_begins_and_get_it_again_where_it_fails(
    two: tuple[ModelSpec, ModelSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with started(*two, max_models_bytes=4 * 1024**2) as engine:
        await engine.ready()
        model = engine._slots.default.model
        assert model is not None

        def stored_bytes() -> int:
            return model.worker._prefix.stats().max_bytes

        alone_bytes, before = stored_bytes(), list[int]()
        load_in_parts = registry.load_in_parts

        def fails(*args: Any) -> Any:
            before.append(stored_bytes())
            raise Unavailable("not today")

        with monkeypatch.context() as broken:
            broken.setattr(registry, "load_in_parts", fails)
            with pytest.raises(Unavailable, match="not today"):
                await engine.load_model("two")
        assert before[0] < 0.6 * alone_bytes, "the new weights come while the others still have their memory"
        assert stored_bytes() == alone_bytes
        monkeypatch.setattr(registry, "load_in_parts", load_in_parts)
        await engine.load_model("two")
        assert stored_bytes() < 0.6 * alone_bytes
        await engine.unload_model("two")
        assert stored_bytes() == alone_bytes


async def test_headers_are_read_aside_and_nobody_overtakes(
    two: tuple[ModelSpec, ModelSpec], tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that does not answer stops no stream; who asked later for another model of this machine waits."""
    disk, expected_weights = threading.Event(), model_load.expected_weights
    three = ModelSpec(str(tiny_model("qwen2")), name="three")

    def slow(path: Path, spec: ModelSpec) -> Any:
        if spec.name == "two":
            disk.wait()
        return expected_weights(path, spec)

    monkeypatch.setattr(model_load, "expected_weights", slow)
    async with started(*two, three) as engine:
        try:
            await engine.ready()
            loads = [asyncio.ensure_future(engine.load_model("two"))]
            await until(lambda: engine.models()[1].num_waiting == 1, "it does not wait")
            loads.append(asyncio.ensure_future(engine.load_model("three")))
            await ask(engine, chat("Hello", max_tokens=20, ignore_eos=True))
            await until(lambda: engine.models()[2].num_waiting == 1, "the other does not wait")
            assert [state.stage for state in engine.models()] == ["ready", "known", "known"]
        finally:
            disk.set()
        await asyncio.gather(*loads)
        assert [state.stage for state in engine.models()] == ["ready"] * 3


async def test_sabotage_headers_that_the_engine_thread_reads_are_seen(
    two: tuple[ModelSpec, ModelSpec], tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(work: Callable[[], Any]) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(work())
        return done

    monkeypatch.setattr(core, "_aside", here)
    monkeypatch.setattr("tests.engine.drive.TIMEOUT_S", 3.0)
    with pytest.raises(TimeoutError):
        await test_headers_are_read_aside_and_nobody_overtakes(two, tiny_model, monkeypatch)
