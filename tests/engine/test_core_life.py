"""core, its life: models that do not load, and an end that is an end for threads, streams and the process."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.config import CacheConfig, EngineConfig, ModelSpec
from engine.core import Engine
from engine.errors import EngineError, ModelNotFound, Unavailable
from engine.types import Delta
from tests.conftest import ROOT
from tests.engine.drive import ask, chat
from tests.pictures import picture

TinyModel = Callable[..., Path]


def config(source: Path | str, **settings: Any) -> EngineConfig:
    return EngineConfig(model=ModelSpec(str(source)), **settings)


# -- loading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["missing", "broken"])
async def test_a_load_failure_is_said_to_everyone_and_ends_nothing_else(
    kind: str, tiny_model: TinyModel, tmp_path: Path
) -> None:
    source = tmp_path / "nothing"
    if kind == "broken":
        source = shutil.copytree(tiny_model("llama"), tmp_path / "broken")
        (source / "model.safetensors").write_bytes(b"garbage")
    expected = ModelNotFound if kind == "missing" else Unavailable
    engine = Engine(config(source))
    engine.start()
    waiting = asyncio.create_task(ask(engine, chat("Hello")))
    with pytest.raises(expected) as caught:
        await engine.ready()
    with pytest.raises(expected):
        await waiting
    with pytest.raises(expected):
        await ask(engine, chat("Later"))
    assert str(source) in caught.value.message
    snapshot = engine.snapshot()
    assert snapshot.state == "failed"
    assert snapshot.error == caught.value.message
    engine.stop()
    engine.stop()


async def test_requests_may_come_before_the_model_is_ready(tiny_model: TinyModel) -> None:
    engine = Engine(config(tiny_model("llama")))
    assert engine.snapshot().state == "starting"
    engine.start()
    try:
        answer = await ask(engine, chat("Early", max_tokens=3))
        assert answer.done.usage.completion_tokens == 3
        assert engine.snapshot().state == "ready"
    finally:
        engine.stop()
    assert engine.snapshot().state == "stopped"


# -- the end -----------------------------------------------------------------------------------------------------------


async def first_event(stream: Any) -> Any:
    async with asyncio.timeout(30):
        return await anext(stream)


async def test_stop_ends_threads_and_every_open_stream(tiny_model: TinyModel) -> None:
    before = set(threading.enumerate())
    engine = Engine(config(tiny_model("qwen3_vl"), max_num_seqs=1))
    engine.start()
    decoding = engine.stream(chat(picture(), "Talk.", max_tokens=3000))
    assert isinstance(await first_event(decoding), Delta)
    waiting = asyncio.create_task(ask(engine, chat("I wait.")))
    await asyncio.sleep(0.05)
    await asyncio.to_thread(engine.stop)
    with pytest.raises(EngineError):
        async with asyncio.timeout(10):
            async for _ in decoding:
                pass
    with pytest.raises(EngineError):
        async with asyncio.timeout(10):
            await waiting
    with pytest.raises(Unavailable):
        await ask(engine, chat("Too late"))
    left = {t for t in set(threading.enumerate()) - before if t.name.startswith(("engine", "media"))}
    for thread in left:
        thread.join(timeout=5)
    assert not [t.name for t in left if t.is_alive()]


async def test_stop_while_media_are_read_does_not_leave_the_reader_waiting(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request is between the media pool and the inbox; nobody would ever answer it."""
    from engine.media import read_medium

    reading, go_on = threading.Event(), threading.Event()
    load = read_medium.load_media

    def slow(*args: Any) -> Any:
        reading.set()
        go_on.wait(10)
        return load(*args)

    monkeypatch.setattr(read_medium, "load_media", slow)
    stopping = Engine(config(tiny_model("qwen3_vl")))
    stopping.start()
    await stopping.ready()
    asked = [asyncio.create_task(ask(stopping, chat(picture(), "What?"))) for _ in range(4)]
    await asyncio.to_thread(reading.wait, 10)
    await asyncio.to_thread(stopping.stop)
    go_on.set()
    async with asyncio.timeout(15):
        results = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable] * 4


SCRIPT = """
import asyncio, sys
from engine.config import EngineConfig, ModelSpec
from engine.core import Engine
from engine.types import Message, Part, Request, Sampling

async def main():
    engine = Engine(EngineConfig(model=ModelSpec(sys.argv[1])))
    engine.start()
    request = Request((Message("user", (Part("text", "Hello"),)),), max_tokens=400, sampling=Sampling(temperature=0.0))
    count = 0
    async for event in engine.stream(request):
        count += 1
        if sys.argv[2] != "finish" and count == 5:
            break
    if sys.argv[2] != "leave":
        engine.stop()

asyncio.run(main())
print("end of script")
"""


@pytest.mark.parametrize("how", ["finish", "break", "leave"])
def test_a_process_that_used_the_engine_exits_cleanly(tiny_model: TinyModel, how: str) -> None:
    """A thread that used MLX aborts its process at exit unless it clears its streams; "leave" never calls stop()."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tiny_model("llama")), how],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "end of script", done.stderr[-1500:]
    assert done.returncode == 0, done.stderr[-1500:]
    assert "terminate called" not in done.stderr
    assert "Traceback" not in done.stderr


def test_an_engine_serves_several_event_loops(tiny_model: TinyModel) -> None:
    """The UI's loop and a test's loop are not the same; a loop that goes away takes nothing with it."""
    engine = Engine(config(tiny_model("llama"), cache=CacheConfig(enabled=False)))
    engine.start()

    async def leave() -> None:
        await first_event(engine.stream(chat("Long", max_tokens=3000)))

    try:
        texts = {asyncio.run(ask(engine, chat("Hello", max_tokens=5))).text for _ in range(2)}
        asyncio.run(leave())
        texts.add(asyncio.run(ask(engine, chat("Hello", max_tokens=5))).text)
    finally:
        engine.stop()
    assert len(texts) == 1
