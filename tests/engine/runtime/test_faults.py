"""Faults behind the fence: a library call fails in the middle, the requests it was about end with an error, and the
server goes on serving everybody else as if nothing had been."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mlx_lm.generate import BatchGenerator, GenerationBatch, PromptProcessingBatch

from engine.cache import tensors
from engine.cache.prefix import PrefixCache
from engine.config import CacheConfig, EngineConfig, ModelSpec
from engine.core import Engine
from engine.errors import EngineError, Internal, Unavailable
from engine.models.interleave import InterleavedLayer
from engine.models.sampling import SeededSampler
from engine.runtime import thread
from engine.runtime.estimates.preflight import Preflights
from engine.runtime.scheduler import Scheduler
from engine.runtime.stats import EngineStats
from engine.types import Sampling
from tests.engine.drive import ask, chat, settled
from tests.pictures import picture

TinyModel = Callable[..., Path]
OUT_OF_MEMORY = "[metal::malloc] Attempting to allocate 17179869184 bytes"


class Fault:
    """Raises once armed, so many times; then the call does what it always did."""

    def __init__(self, original: Callable[..., Any], when: Callable[..., bool] = lambda *_, **__: True) -> None:
        self.original, self.when, self.left, self.raised = original, when, 0, 0

    def __call__(self, *args: Any, **settings: Any) -> Any:
        if self.left and self.when(*args, **settings):
            self.left -= 1
            self.raised += 1
            raise RuntimeError(OUT_OF_MEMORY)
        return self.original(*args, **settings)


def fault(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, when: Callable[..., bool] | None = None) -> Fault:
    out = Fault(getattr(owner, name), when or (lambda *_, **__: True))

    def call(*args: Any, **settings: Any) -> Any:  # a function, so that it is bound like the method it stands for
        return out(*args, **settings)

    monkeypatch.setattr(owner, name, call)
    return out


@contextmanager
def serving(folder: Path, **settings: Any) -> Iterator[Engine]:
    """An engine of its own: a fault must not meet another test."""
    engine = Engine(EngineConfig(model=ModelSpec(str(folder)), **settings))
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()


async def nothing_is_held(engine: Engine) -> None:
    snapshot = await settled(engine)
    assert snapshot.cache.blocks_in_use == 0, "blocks that were taken before the fault went back"
    assert snapshot.state == "ready"


async def outcomes(*asking: Awaitable[Any]) -> list[Any]:
    return await asyncio.gather(*asking, return_exceptions=True)


# -- the batch ---------------------------------------------------------------------------------------------------------


async def check_join(engine: Engine, joining: Fault, whole: str) -> None:
    """The forward pass that joins new rows fails, as where memory runs out: the very place that once ended the
    thread. Rows of that batch end with an error; who comes later is answered as ever."""
    joining.left, joining.raised = 1, 0
    failed = await outcomes(*(ask(engine, chat(text, max_tokens=30)) for text in ("One", "Two")))
    assert joining.raised == 1, "the fault was met"
    assert all(isinstance(result, Internal) for result in failed), failed
    assert (await ask(engine, chat("I decode.", max_tokens=30))).text == whole, "the server goes on"
    await nothing_is_held(engine)


async def test_a_join_that_fails_ends_its_rows_and_no_more(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tiny_model("llama")) as engine:
        whole = (await ask(engine, chat("I decode.", max_tokens=30))).text
        joining = fault(monkeypatch, PromptProcessingBatch, "generate")
        for _ in range(3):
            await check_join(engine, joining, whole)


async def test_sabotage_a_failed_batch_that_is_used_again_is_seen(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twin: rows are taken out of the failed batch one by one, and nothing guards the turn: the requests hang."""
    from engine.runtime.rows import Rows
    from engine.runtime.worker import Worker

    def keep_using(self: Rows) -> None:
        for row in list(self._choices):
            self._batch._generator.remove([row], return_prompt_caches=True)[row]

    with serving(tiny_model("llama")) as engine:
        whole = (await ask(engine, chat("I decode.", max_tokens=30))).text
        joining = fault(monkeypatch, PromptProcessingBatch, "generate")
        monkeypatch.setattr(Rows, "_lose", keep_using)
        monkeypatch.setattr(Worker, "recover", lambda self: None)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await check_join(engine, joining, whole)


async def test_a_decode_step_that_fails_inside_the_library(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tiny_model("llama")) as engine:
        whole = (await ask(engine, chat("I decode.", max_tokens=30))).text
        stepping = fault(monkeypatch, GenerationBatch, "_step")
        stream = engine.stream(chat("Running.", max_tokens=500))
        await anext(stream)
        stepping.left = 1
        with pytest.raises(Internal):
            async for _ in stream:
                pass
        assert stepping.raised == 1
        assert (await ask(engine, chat("I decode.", max_tokens=30))).text == whole
        await nothing_is_held(engine)


async def test_a_row_that_cannot_be_taken_out_costs_its_batch_only(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancel, and the library fails to let go of the row."""
    with serving(tiny_model("llama")) as engine:
        whole = (await ask(engine, chat("I decode.", max_tokens=30))).text
        removing = fault(monkeypatch, BatchGenerator, "remove")
        gone, beside = (engine.stream(chat(text, max_tokens=2000)) for text in ("Gone.", "Beside."))
        await anext(gone)
        await anext(beside)
        removing.left = 1
        await gone.aclose()
        with pytest.raises(Internal):
            async for _ in beside:
                pass
        assert removing.raised == 1
        assert (await ask(engine, chat("I decode.", max_tokens=30))).text == whole
        await nothing_is_held(engine)


async def test_a_sampler_that_fails_ends_its_batch_or_its_prompt(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first token the prompt's own failure, in a later step the batch's."""
    with serving(tiny_model("llama")) as engine:
        whole = (await ask(engine, chat("I decode.", max_tokens=30))).text
        calls: list[int] = []

        def at(number: int) -> Callable[..., bool]:
            def due(*_: Any) -> bool:
                calls.append(0)
                return len(calls) == number

            return due

        drawing = fault(monkeypatch, SeededSampler, "__call__")
        for number in (1, 5):
            calls.clear()
            drawing.when, drawing.left = at(number), 1
            with pytest.raises(Internal):
                await ask(engine, chat("Drawn.", max_tokens=30, sampling=Sampling(temperature=1.0, seed=3)))
            drawing.left = 0
            assert (await ask(engine, chat("I decode.", max_tokens=30))).text == whole
        assert drawing.raised == 2
        await nothing_is_held(engine)


# -- prompts -----------------------------------------------------------------------------------------------------------


async def test_an_encoder_that_fails_ends_its_request_only(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tiny_model("qwen3_vl")) as engine:
        seen = (await ask(engine, chat(picture("red"), "What?", max_tokens=8))).text
        await engine.cache.clear()
        layer = fault(monkeypatch, InterleavedLayer, "__call__")
        beside = asyncio.create_task(ask(engine, chat("I decode.", max_tokens=60)))
        layer.left = 1
        with pytest.raises(Internal):
            await ask(engine, chat(picture("red"), "What?", max_tokens=8))
        assert layer.raised == 1
        assert (await beside).done.usage.completion_tokens == 60
        assert (await ask(engine, chat(picture("red"), "What?", max_tokens=8))).text == seen
        await nothing_is_held(engine)


async def test_a_step_that_fails_between_two_layers_of_an_encoder_is_not_the_pictures_fault(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decode step that runs inside an encoder's run ends the rows of the batch; the picture is answered."""
    from engine.runtime import worker

    monkeypatch.setattr(worker, "_MAX_GAP_S", 0.0)
    monkeypatch.setattr(worker, "_MAX_GAP_STEPS", 0.0)
    inside = [False]
    call = InterleavedLayer.__call__

    def noted(self: Any, *args: Any, **settings: Any) -> Any:
        inside[0] = True
        try:
            return call(self, *args, **settings)
        finally:
            inside[0] = False

    with serving(tiny_model("qwen3_vl"), cache=CacheConfig(enabled=False, features=False)) as engine:
        seen = (await ask(engine, chat(picture("red"), "What?", max_tokens=8))).text
        monkeypatch.setattr(InterleavedLayer, "__call__", noted)
        stepping = fault(monkeypatch, GenerationBatch, "_step", lambda *_, **__: inside[0])
        running = engine.stream(chat("Running.", max_tokens=3000))
        await anext(running)
        stepping.left = 1
        assert (await ask(engine, chat(picture("red"), "What?", max_tokens=8))).text == seen
        assert stepping.raised == 1
        with pytest.raises(Internal):
            async for _ in running:
                pass
        await nothing_is_held(engine)


async def test_blocks_that_cannot_be_joined_or_cut_go_back(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reuse fails where the KV of a hit is put together: an error for that request. Storing fails: the answer is given
    all the same or its request ends with an error; never the thread, and no block stays held."""
    long = "word " * 200
    with serving(tiny_model("llama")) as engine:
        first = (await ask(engine, chat(long, max_tokens=8))).text
        joining = fault(monkeypatch, tensors, "join")
        joining.left = 1
        (result,) = await outcomes(ask(engine, chat(long, max_tokens=8)))
        assert joining.raised == 1 and isinstance(result, Internal)
        await nothing_is_held(engine)
        cutting = fault(monkeypatch, tensors, "cut")
        cutting.left = 1
        await outcomes(ask(engine, chat(f"Other {long}", max_tokens=8)))
        assert cutting.raised == 1
        await nothing_is_held(engine)
        again = await ask(engine, chat(long, max_tokens=8))
        assert again.text == first and again.done.usage.cached_tokens > 0


# -- the loop ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "name"),
    [(Scheduler, "plan"), (Preflights, "turn"), (PrefixCache, "idle"), (EngineStats, "_snapshot")],
    ids=["plan", "preflight", "idle", "snapshot"],
)
async def test_a_turn_that_fails_somewhere_else_ends_what_it_worked_on(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    with serving(tiny_model("llama")) as engine:
        whole = (await ask(engine, chat("I decode.", max_tokens=30))).text
        failing = fault(monkeypatch, owner, name)
        failing.left = 1
        await outcomes(ask(engine, chat("In the middle.", max_tokens=30)))
        async with asyncio.timeout(10):
            while not failing.raised:
                await asyncio.sleep(0.05)
        assert (await ask(engine, chat("I decode.", max_tokens=30))).text == whole
        await nothing_is_held(engine)


async def test_who_only_waits_is_served_after_a_failed_turn(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tiny_model("llama"), max_num_seqs=1) as engine:
        whole = (await ask(engine, chat("I wait.", max_tokens=10))).text
        failing = fault(
            monkeypatch, Scheduler, "plan", lambda scheduler: bool(scheduler.waiting and scheduler.decoding)
        )
        failing.left = 1
        running, waiting = await outcomes(
            ask(engine, chat("I run.", max_tokens=300)), ask(engine, chat("I wait.", max_tokens=10), delay_s=0.05)
        )
        assert failing.raised == 1
        assert isinstance(running, Internal) and waiting.text == whole


async def test_a_command_that_fails_is_answered(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tiny_model("llama")) as engine:
        await engine.ready()
        listing = fault(monkeypatch, PrefixCache, "blocks")
        listing.left = 1
        with pytest.raises(Internal):
            await engine.cache.blocks()
        assert await engine.cache.blocks() == []


async def test_only_repeated_failure_ends_the_thread_and_then_everyone_is_told(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(tiny_model("llama")) as engine:
        await ask(engine, chat("I decode.", max_tokens=3))
        planning = fault(monkeypatch, Scheduler, "plan")
        planning.left = 10**9
        with caplog.at_level(logging.ERROR):
            results = await outcomes(*(ask(engine, chat(f"Ask {i}", max_tokens=3)) for i in range(4)))
            assert all(isinstance(result, EngineError) for result in results)
            async with asyncio.timeout(20):
                while engine.snapshot().state != "failed":
                    await outcomes(ask(engine, chat("Again", max_tokens=3)))
        assert planning.raised == thread.MAX_FAILURES
        assert "17179869184" in (engine.snapshot().error or ""), "the reason is told"
        with pytest.raises(Unavailable):
            await ask(engine, chat("Too late", max_tokens=3))


async def test_two_requests_of_one_label_are_two(tiny_model: TinyModel) -> None:
    with serving(tiny_model("llama")) as engine:
        alone = (await ask(engine, chat("Long.", max_tokens=60))).text
        short, long, _ = await asyncio.gather(
            ask(engine, chat("Short.", max_tokens=3, id="x")),
            ask(engine, chat("Long.", max_tokens=60, id="x")),
            ask(engine, chat("Third.", max_tokens=5, id="x")),
        )
        assert long.text == alone and short.done.usage.completion_tokens == 3
        gone = engine.stream(chat("Gone.", max_tokens=2000, id="x"))
        await anext(gone)
        stays = asyncio.create_task(ask(engine, chat("Long.", max_tokens=60, id="x")))
        await asyncio.sleep(0.05)
        await gone.aclose()
        assert (await stays).text == alone, "cancelling one leaves the other"
        await nothing_is_held(engine)
