"""text: a long prompt is built off the engine's thread, the same as on it; one that cannot fit is refused at once."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from engine.errors import BadRequest, ContextOverflow, Internal
from engine.models import registry
from engine.prompt import text
from engine.prompt.build import build_prompt
from engine.prompt.text import TextPrompts
from engine.runtime.intake import checks
from engine.types import Message, Request
from tests.conftest import EngineFor
from tests.engine.checkpoints import load
from tests.engine.drive import ask, chat, part, user
from tests.engine.prompt.test_build import media_of
from tests.families import TEXT, VISION
from tests.pictures import picture

TinyModel = Callable[..., Path]
TURNS = Request(
    messages=(user("One?"), Message("assistant", (part("Yes. " * 50),)), user("And two?", "Or  three? é漢"))
)
WORDS = "the quick brown fox jumps over 12 lazy dogs, "
MANY = 12 * 1024**2


def requests() -> list[Request]:
    raw = [Request(prompt="Once upon a time"), Request(prompt=(70, 71, 72))]
    return [chat("  Spaces stay, ünïcode too.  "), TURNS, chat(WORDS * 400), *raw]


@pytest.mark.parametrize("family", [*TEXT, *VISION])
def test_it_is_the_prompt_of_the_engines_thread(tiny_model: TinyModel, family: str) -> None:
    loaded = load(tiny_model(family))
    texts = TextPrompts(loaded)
    with ThreadPoolExecutor(2) as pool:
        ahead = list(pool.map(texts.build, requests()))
    assert ahead == [build_prompt(loaded, request, ()) for request in requests()]
    assert all(prompt.ids for prompt in ahead)


@pytest.mark.parametrize("family", ["llama", "qwen3_vl"])
def test_it_refuses_what_the_engines_thread_refuses(tiny_model: TinyModel, family: str) -> None:
    loaded = load(tiny_model(family))
    refused = [Request(prompt=""), Request(prompt=(1, 10**6)), Request(prompt=(-1,))]
    if loaded.processor is not None:
        refused.append(Request(prompt="What is <|image_pad|>?"))
    for request in refused:
        with pytest.raises(BadRequest) as here:
            build_prompt(loaded, request, ())
        with pytest.raises(BadRequest, match=re.escape(here.value.message)):
            TextPrompts(loaded).build(request)


# -- refused by its length ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "qwen3_vl", "gemma3"])
def test_megabytes_are_refused_before_they_are_tokenized(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    loaded = load(tiny_model(family))
    texts = TextPrompts(loaded)
    texts.build(chat("warm"))
    monkeypatch.setattr(text, "_tokenized", lambda *_: pytest.fail("tokenized"))
    long = WORDS * (MANY // len(WORDS))
    for request, param in (
        (chat(long), "messages"),
        (Request(prompt=long), "prompt"),
        (Request(prompt=(70,) * 5000), "prompt"),
    ):
        started_s = time.perf_counter()
        with pytest.raises(ContextOverflow, match=r"[\d,]+ tokens.*context is 4,096") as caught:
            texts.build(request)
        assert time.perf_counter() - started_s < 2.0, "that was no count of bytes"
        assert caught.value.param == param


def test_what_may_fit_is_tokenized(tiny_model: TinyModel) -> None:
    """And what turns out not to fit is the engine's to refuse; a preflight is told by how much."""
    loaded = load(tiny_model("llama"))
    texts = TextPrompts(loaded)
    bound = 4096 * 4
    assert len(texts.build(chat(" " * bound)).ids) > 0
    long = chat(WORDS * 10_000)
    with pytest.raises(ContextOverflow):
        texts.build(long)
    assert len(texts.build(long, must_fit=False).ids) > 4096


# -- nobody waits for it -----------------------------------------------------------------------------------------------


def longest_wait(loaded: registry.Loaded, texts: TextPrompts) -> float:
    """Of prompts with a picture, one after the other beside a long text: the slowest, as a share of the long text's
    time."""
    picture_request = chat(picture("red"), "What?")
    media = media_of(picture_request)
    build_prompt(loaded, picture_request, media)
    long = chat(WORDS * 10_000)

    def timed() -> float:
        started_s = time.perf_counter()
        texts.build(long, must_fit=False)
        return time.perf_counter() - started_s

    slowest_s = 0.0
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(timed)
        while not job.done():
            started_s = time.perf_counter()
            build_prompt(loaded, picture_request, media)
            slowest_s = max(slowest_s, time.perf_counter() - started_s)
        return slowest_s / job.result()


def test_a_picture_does_not_wait_for_a_long_text(tiny_model: TinyModel) -> None:
    loaded = load(tiny_model("qwen3_vl"))
    texts = TextPrompts(loaded)
    assert max(longest_wait(loaded, texts) for _ in range(2)) < 0.5, "it waited"


def test_sabotage_one_tokenizer_for_both_is_seen(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twin: the processor's padding waits until the other thread has encoded, unless it came just before."""
    monkeypatch.setattr(text, "deepcopy", lambda tokenizer: tokenizer)
    loaded = load(tiny_model("qwen3_vl"))
    texts = TextPrompts(loaded)
    assert any(longest_wait(loaded, texts) > 0.5 for _ in range(20))


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """In which threads texts are tokenized from now on; every text is a long one."""
    names: list[str] = []
    tokenized = text._tokenized

    def watched(*args: Any) -> Any:
        names.append(threading.current_thread().name)
        return tokenized(*args)

    monkeypatch.setattr(text, "_tokenized", watched)
    monkeypatch.setattr(checks, "LONG_CHARS", 20)
    return names


@pytest.mark.parametrize("family", ["llama", "qwen3_vl"])
async def test_long_texts_are_tokenized_in_the_pool(
    engine_for: EngineFor, tiny_model: TinyModel, threads: list[str], family: str
) -> None:
    """With the same answer as where the engine's thread does it."""
    engine = await engine_for(tiny_model(family))
    long = chat("A text that counts as long here.", reuse=False)
    ahead = await ask(engine, long)
    assert (await engine.preflight(long)).tokens == tuple((await engine.preflight(long)).tokens)
    assert threads and all(name.startswith("decode") for name in threads)
    threads.clear()
    checks.LONG_CHARS = 10**6  # the fixture sets it back
    here = await ask(engine, long)
    assert threads == ["engine"]
    assert (ahead.text, ahead.done.usage) == (here.text, here.done.usage)


async def test_megabytes_are_refused_beside_a_stream_that_goes_on(engine_for: EngineFor, tiny_model: TinyModel) -> None:
    engine = await engine_for(tiny_model("llama"))
    arrivals: list[float] = []

    async def stream() -> None:
        async for _ in engine.stream(chat("Hello", max_tokens=400, stop=(), min_tokens=400)):
            arrivals.append(time.perf_counter())

    running = asyncio.create_task(stream())
    while len(arrivals) < 3:
        await asyncio.sleep(0.01)
    long = chat(WORDS * (MANY // len(WORDS)))
    for _ in range(2):
        with pytest.raises(ContextOverflow, match="at least"):
            await ask(engine, long)
    await running
    gaps = [after - before for before, after in pairwise(arrivals)]
    assert max(gaps) < 1.0, f"the stream stood still for {max(gaps):.2f} s"


async def test_a_fault_of_the_tokenizer_is_ours(
    engine_for: EngineFor, tiny_model: TinyModel, threads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await engine_for(tiny_model("llama"))

    def broken(*_: Any) -> Any:
        raise RuntimeError("no")

    with monkeypatch.context() as patch:
        patch.setattr(text, "_tokenized", broken)
        with pytest.raises(Internal, match="could not be prepared"):
            await ask(engine, chat("A text that counts as long here."))
    assert (await ask(engine, replace(chat("A text that counts as long here."), max_tokens=2))).text is not None
