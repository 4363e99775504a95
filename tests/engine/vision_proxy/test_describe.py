"""A model that cannot see answers about pictures by way of one that does: what is described, what is kept and for whom,
and what happens when it fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.config import EngineConfig, MediaLimits, ModelSpec, VisionProxy
from engine.core import Engine
from engine.errors import BadMedia, BadRequest, EngineError, TimedOut, Unavailable
from engine.runtime.worker import Worker
from engine.types import Message, Part, Request
from tests.engine.drive import GREEDY, Answer, ask, chat, part, user
from tests.pdfs import pdf
from tests.pictures import picture
from tests.waiting import until

TinyModel = Callable[..., Path]
SHOW = "What color is the circle?"
PLAIN = VisionProxy("demo", "{question}")


@asynccontextmanager
async def running(reader: Path | str, proxy: VisionProxy | None = PLAIN, **settings: Any) -> AsyncIterator[Engine]:
    """The demo model, and one that reads and cannot see."""
    blind = ModelSpec(str(reader), name="reader", vision="proxy", vision_proxy=proxy)
    engine = Engine(EngineConfig(more_models=(blind,), **settings))
    engine.start()
    try:
        await engine.ready()
        yield engine
    finally:
        await asyncio.to_thread(engine.stop)


@pytest.fixture
async def engine(tiny_model: TinyModel) -> AsyncIterator[Engine]:
    async with running(tiny_model("llama")) as engine:
        yield engine


def about(*pieces: Any, **more: Any) -> Request:
    return chat(*pieces, model="reader", **{"max_tokens": 4, **more})


def texts(answer: Answer) -> list[str]:
    return [one.text for one in answer.done.descriptions]


async def test_each_medium_is_described_and_the_trace_says_so(engine: Engine, clip_path: Path) -> None:
    answer = await ask(engine, about(picture("red"), picture("blue"), clip_path, SHOW))
    red, blue, clip = answer.done.descriptions
    assert (red.kind, blue.kind, clip.kind) == ("image", "image", "video")
    assert "red" in red.text and "blue" in blue.text and clip.text
    assert {one.model for one in answer.done.descriptions} == {"demo"}
    assert len({one.sha256 for one in answer.done.descriptions}) == 3
    assert all(one.prompt_tokens > one.completion_tokens > 1 and one.seconds > 0 for one in (red, blue, clip))
    assert not any(one.kept for one in answer.done.descriptions)
    assert answer.done.media == () and answer.done.usage.completion_tokens == 4
    words = await ask(engine, about(SHOW))
    assert answer.done.usage.prompt_tokens > words.done.usage.prompt_tokens and words.done.descriptions == ()


async def test_the_text_model_reads_what_was_said_as_the_users_words(engine: Engine) -> None:
    """The same prompt, token by token, as if the user had typed the description."""
    shown = await ask(engine, about(picture("red"), SHOW, max_tokens=8))
    (said,) = texts(shown)
    typed = await ask(engine, about(f"Picture 1 shows this: {said}\nAnswer from it: ", SHOW, max_tokens=8, reuse=False))
    assert shown.token_ids == typed.token_ids
    assert shown.done.usage.prompt_tokens == typed.done.usage.prompt_tokens


async def test_a_follow_up_about_the_same_picture_asks_nobody(engine: Engine) -> None:
    first = about(picture("red"), SHOW)
    before = (await ask(engine, first)).done.descriptions
    follow_up = replace(
        first, messages=(*first.messages, Message("assistant", (part("It is red."),)), user("And its shape?"))
    )
    num_before = engine.snapshot().totals.requests
    again = (await ask(engine, follow_up)).done.descriptions
    assert [one.text for one in again] == [one.text for one in before]
    assert [one.kept for one in (*before, *again)] == [False, True]
    assert engine.snapshot().totals.requests == num_before + 1, "the text model's alone"
    other = (await ask(engine, about(picture("red"), "What shape is it?"))).done.descriptions
    assert not other[0].kept and "circle" in other[0].text, "another question has another answer"
    cold = (await ask(engine, replace(first, reuse=False))).done.descriptions
    assert not cold[0].kept
    await engine.cache.clear()
    assert not (await ask(engine, first)).done.descriptions[0].kept


async def test_kept_descriptions_do_not_need_the_vision_model_in_memory(tiny_model: TinyModel) -> None:
    """Where there is room for one model, they take turns; a follow-up does not load the vision model again."""
    async with running(tiny_model("llama"), max_loaded_models=1) as engine:
        assert texts(await ask(engine, about(picture("red"), SHOW)))
        assert [state.stage for state in engine.models()] == ["known", "ready"]
        assert (await ask(engine, about(picture("red"), SHOW))).done.descriptions[0].kept
        assert [state.stage for state in engine.models()] == ["known", "ready"]


async def test_a_description_that_comes_with_the_request_is_used_instead_of_asking(engine: Engine) -> None:
    request = about(picture("red"), picture("blue"), SHOW, max_tokens=8)
    red, blue, asked = request.messages[0].parts
    edited = replace(request, messages=(Message("user", (replace(red, description="A green star."), blue, asked)),))
    first, second = (await ask(engine, edited)).done.descriptions
    assert (first.text, first.edited, first.kept, first.completion_tokens) == ("A green star.", True, False, 0)
    assert "blue" in second.text and not second.edited and first.sha256 != second.sha256
    assert "red" in (await ask(engine, request)).done.descriptions[0].text, "only where it is sent"


async def test_requests_may_have_the_same_id(engine: Engine) -> None:
    requests = [about(picture(colour), SHOW, id="same") for colour in ("red", "blue", "green")]
    said = [texts(answer)[0] for answer in await asyncio.gather(*(ask(engine, request) for request in requests))]
    assert [any(word in text for word in ("red", "blue", "green")) for text in said] == [True] * 3
    assert len(set(said)) == 3 and engine.describing("same") is None


async def test_two_tenants_do_not_share_descriptions(engine: Engine) -> None:
    request = about(picture("red"), SHOW)
    kept = []
    for tenant in ("alice", "bob", "alice", "bob"):
        answer = await ask(engine, replace(request, tenant=tenant))
        kept.append(answer.done.descriptions[0].kept)
    assert kept == [False, False, True, True]


async def test_pictures_are_described_in_one_batch_and_equal_ones_once(engine: Engine, steps: list[int]) -> None:
    colours = ("red", "blue", "#00aa00", "red")
    answer = await ask(engine, about(*map(picture, colours), "Describe the image."))
    assert max(steps) >= 3, f"rows of the batch: {steps}"
    said = answer.done.descriptions
    assert all(word in one.text for word, one in zip(("red", "blue", "green", "red"), said, strict=True))
    assert [one.kept for one in said] == [False, False, False, True]


async def test_pages_of_a_document_are_described_and_its_text_stays(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "two.pdf"
    file.write_bytes(pdf([(1, 0, 0), (0, 0, 1)]))
    document = Part("document", path=str(file), param="messages[0].content[0]")
    request = replace(about(), messages=(Message("user", (document, Part("text", text="What is on it?"))),))
    answer = await ask(engine, request)
    assert [(one.kind, one.param) for one in answer.done.descriptions] == [("image", document.param)] * 2
    assert len({one.sha256 for one in answer.done.descriptions}) == 2


async def test_cancelling_a_request_cancels_its_descriptions(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    held, turn = threading.Event(), Worker.turn

    def waits(self: Worker) -> bool:
        return False if held.is_set() else turn(self)

    held.set()
    monkeypatch.setattr(Worker, "turn", waits)
    task = asyncio.ensure_future(ask(engine, about(picture("red"), picture("blue"), SHOW)))
    await until(lambda: next(s for s in engine.models() if s.name == "demo").num_requests, "nobody is asked")
    assert engine.num_open == 1, "one place, however many are described"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    held.clear()
    await until(lambda: not engine.snapshot().running and engine.num_open == 0, "a description goes on")
    assert (await ask(engine, about(picture("red"), SHOW))).done.descriptions


async def test_the_limits_of_time_and_number_hold_for_the_whole(tiny_model: TinyModel) -> None:
    limits = MediaLimits(max_images=2)
    async with running(tiny_model("llama"), media=limits) as engine:
        with pytest.raises(BadRequest, match="limit is 2"):
            await ask(engine, about(picture("red"), picture("blue"), picture("green"), SHOW))
    async with running(tiny_model("llama"), request_timeout_s=0.001) as engine:
        with pytest.raises(TimedOut, match="--timeout"):
            await ask(engine, about(picture("red"), SHOW))
        assert engine.num_open == 0


async def test_a_vision_model_that_fails_is_an_error_that_names_the_medium(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlx_vlm.models.qwen3_vl import vision

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("injected: the vision tower fails")

    monkeypatch.setattr(vision.VisionModel, "__call__", broken)
    request = about(SHOW, picture("orange", "square"))
    shown = replace(request.messages[0].parts[1], param="messages[0].content[1]")
    request = replace(request, messages=(Message("user", (request.messages[0].parts[0], shown)),))
    with pytest.raises(EngineError, match=r"^messages\[0\]\.content\[1\]: the vision model demo: ") as caught:
        await ask(engine, request)
    assert caught.value.param == "messages[0].content[1]"
    monkeypatch.undo()
    assert not (await ask(engine, request)).done.descriptions[0].kept, "nothing of the failure is kept"


async def test_a_medium_that_cannot_be_read_is_named(engine: Engine) -> None:
    broken = Part("image", url="data:image/png;base64,AAAA", param="messages[0].content[1]")
    request = replace(about(), messages=(Message("user", (Part("text", text=SHOW), broken)),))
    with pytest.raises(BadMedia, match=r"messages\[0\]\.content\[1\]"):
        await ask(engine, request)
    sound = replace(broken, kind="audio")
    with pytest.raises(BadRequest, match="reader cannot take audio"):
        await ask(engine, replace(request, messages=(Message("user", (sound,)),)))
    with pytest.raises(BadRequest, match="temperature"):
        await ask(engine, about(picture("red"), SHOW, sampling=replace(GREEDY, temperature=-1.0)))


@pytest.mark.parametrize("problem", ["not configured", "unknown", "itself", "blind", "does not load"])
async def test_a_vision_model_that_is_not_there_says_why(tiny_model: TinyModel, tmp_path: Path, problem: str) -> None:
    reader, gone = tiny_model("llama"), str(tmp_path / "gone")
    proxy, others, why = {
        "not configured": (None, (), "none is configured"),
        "unknown": (VisionProxy("nobody"), (), "'nobody' is not loaded"),
        "itself": (VisionProxy("reader"), (), "vision_mode: proxy"),
        "blind": (VisionProxy("writer"), (ModelSpec(str(tiny_model("qwen3")), name="writer"),), "writer does not see"),
        "does not load": (
            VisionProxy("gone"),
            (ModelSpec(gone, name="gone"),),
            "vision model gone: ",
        ),
    }[problem]
    blind = ModelSpec(str(reader), name="reader", vision="proxy", vision_proxy=proxy)
    engine = Engine(EngineConfig(model=blind, more_models=others))
    engine.start()
    try:
        with pytest.raises(EngineError, match=why) as caught:
            await ask(engine, about(picture("red"), SHOW))
        assert isinstance(caught.value, Unavailable) or problem == "does not load"
        assert (await ask(engine, about("Hello"))).text, "texts are answered all the same"
    finally:
        await asyncio.to_thread(engine.stop)


async def test_what_cannot_be_done_by_proxy_is_refused(engine: Engine) -> None:
    with pytest.raises(BadRequest, match="vision_mode: proxy"):
        await engine.preflight(about(picture("red"), SHOW))
