"""preflight: what it says is what the request then costs; asking leaves no trace."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.config import CacheConfig, EngineConfig, MediaLimits
from engine.errors import BadMedia, BadRequest, Busy
from engine.media.read_medium import load_media
from engine.media.resize import pngs
from engine.models import registry
from engine.prompt.build import build_prompt
from engine.runtime.commands import ListBlocks, PreflightCommand
from engine.runtime.estimates.expectation import Expectations
from engine.runtime.estimates.track_record import ENOUGH, TrackRecord
from engine.runtime.estimates.work import Work
from engine.runtime.intake.tickets import MAX_PREFLIGHTS
from engine.types import FrameSampling, Message, Part, Preflight, Request
from engine.types.media import Media
from tests.conftest import EngineFor
from tests.engine.drive import ask, chat, settled, user
from tests.pictures import picture

RED, BLUE = picture("#ff0000"), picture("#0000ff", "square")


def without_times(receipts: Any) -> Any:
    return [replace(r, fetch_ms=0, decode_ms=0, resize_ms=0, encode_ms=0, features=None) for r in receipts]


@pytest.mark.parametrize("family", ["qwen3_vl", "gemma3", "idefics3", "gemma4", "llama"])
async def test_it_says_what_the_request_then_costs(
    engine_for: EngineFor, tiny_model: Callable[..., Path], clip_path: Path, family: str
) -> None:
    engine = await engine_for(tiny_model(family))
    request = chat("Tell me.") if family == "llama" else chat(RED, "One.", clip_path, "What?")
    said = await engine.preflight(request)
    done = (await ask(engine, request)).done
    assert len(said.tokens) == done.usage.prompt_tokens
    assert without_times(said.media) == without_times(done.media)
    assert said.context_tokens == engine.snapshot().model.context_tokens
    assert said.left == said.context_tokens - done.usage.prompt_tokens


@pytest.mark.parametrize("family", ["qwen3_vl", "gemma3"])
async def test_it_sees_what_is_cached_and_is_no_use_of_it(
    engine_for: EngineFor, tiny_model: Callable[..., Path], family: str
) -> None:
    """gemma3 is stored in snapshots. Twin: a real request does move the counters that a preflight must not."""
    engine = await engine_for(tiny_model(family), max_queue=77)
    request = chat(picture("orange"), "What is this, and where?")
    assert (await engine.preflight(request)).cached_tokens == 0
    await ask(engine, request)
    await engine.cache.blocks()  # what the answer leaves behind is stored by then
    before = await settled(engine)
    told = await engine.preflight(request)
    after = await settled(engine)
    assert before.totals == after.totals
    assert before.cache == after.cache
    assert after.recent == before.recent
    done = (await ask(engine, request)).done
    assert told.cached_tokens == done.usage.cached_tokens > 0
    assert (await settled(engine)).cache != before.cache


async def test_answers_are_the_same_with_and_without(demo_engine: Any) -> None:
    request = chat(picture("#00aa00", "square", (96, 96)), "What is in this image?", max_tokens=24)
    plain = (await ask(demo_engine, request)).text
    answers, _ = await asyncio.gather(
        asyncio.gather(*(ask(demo_engine, request) for _ in range(3))),
        asyncio.gather(*(demo_engine.preflight(request) for _ in range(6))),
    )
    assert {answer.text for answer in answers} == {plain}


async def test_what_does_not_fit_is_a_negative_rest(engine_for: EngineFor, tiny_model: Callable[..., Path]) -> None:
    engine = await engine_for(tiny_model("qwen3_vl"), max_model_len=40)
    said = await engine.preflight(chat(RED, BLUE, RED, BLUE, "What is all of this about?"))
    assert (said.context_tokens, said.left) == (40, 40 - len(said.tokens))
    assert said.left < 0


async def test_errors_are_those_of_the_request(demo_engine: Any) -> None:
    broken = Request(messages=(replace(user("x"), parts=(Part("image", url="data:,nothing", param="here"),)),))
    with pytest.raises(BadMedia, match="here"):
        await demo_engine.preflight(broken)
    with pytest.raises(BadRequest, match="stands for image input"):
        await demo_engine.preflight(Request(prompt="<|image_pad|>"))
    assert (await demo_engine.preflight(chat("Hello"))).left > 0


async def test_too_many_at_once_are_told_so(demo_engine: Any) -> None:
    """And one that nobody waits for any more is not answered."""
    await demo_engine.ready()
    asked = [asyncio.create_task(demo_engine.preflight(chat(RED, "?"))) for _ in range(MAX_PREFLIGHTS * 4)]
    asked[0].cancel()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert all(isinstance(answer, Busy) or answer.left > 0 for answer in answers[1:])
    assert any(not isinstance(answer, Exception) for answer in answers[1:])


async def test_the_pictures_are_what_the_processor_made(demo_engine: Any, clip_path: Path) -> None:
    """Pixel for pixel, of the picture and of every frame. Twin: the frame next to it is another."""
    frames = FrameSampling(fps=3.0)
    request = chat(RED, "and", clip_path, "?", frames=frames)
    said = await demo_engine.preflight(request, pictures=True)
    assert [len(pictures) for pictures in said.pictures] == [1, 6]
    loaded = registry.load(EngineConfig())
    parts = [p for p in request.messages[0].parts if p.kind != "text"]
    prompt = build_prompt(loaded, request, tuple(load_media(p, MediaLimits(), frames) for p in parts))
    stills = unpatched(prompt.inputs["pixel_values"], prompt.inputs["image_grid_thw"])
    moving = unpatched(prompt.inputs["pixel_values_videos"], prompt.inputs["video_grid_thw"])
    for receipt, pictures, seen in zip(said.media, said.pictures, (stills[:1], moving), strict=True):
        shown = np.stack([np.asarray(Image.open(io.BytesIO(png))) for png in pictures])
        assert shown.shape[1:3] == receipt.seen_px[::-1]
        assert np.array_equal(shown, seen)
    assert not np.array_equal(moving[0], moving[1])


def unpatched(patches: Any, grid: Any) -> np.ndarray:
    """(T, H, W, 3) uint8 from one medium's patches of 16 px, merged 2 x 2, in pairs of frames."""
    (t, h, w), values = np.array(grid)[0].tolist(), np.array(patches)
    blocks = values.reshape(t, h // 2, w // 2, 2, 2, 3, 2, 16, 16)
    frames = blocks.transpose(0, 6, 1, 3, 7, 2, 4, 8, 5).reshape(t * 2, h * 16, w * 16, 3)
    return np.rint((frames * 0.5 + 0.5) * 255).astype(np.uint8)


# -- the predicted time to first token --------------------------------------------------------------------------------


async def test_the_predicted_time_is_measured_here(
    engine_for: EngineFor, tiny_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """None until something was measured; then of the right size, and more for more."""
    engine = await engine_for(tiny_model("qwen3_vl"), cache=CacheConfig(enabled=False, features=False), max_queue=78)
    small, large = chat(RED, "?"), chat(RED, BLUE, RED, BLUE, RED, BLUE, "word " * 300)
    monkeypatch.setattr(TrackRecord, "trusts", lambda *_: True)  # how well they hold depends on what else runs here
    assert (await engine.preflight(small)).ttft_ms is None
    measured = [(await ask(engine, large)).done.timing for _ in range(3)]
    one, many = (await engine.preflight(small)).ttft_ms, (await engine.preflight(large)).ttft_ms
    assert 0 < one < many
    prefill_ms = sorted(timing.prefill_ms for timing in measured)[1]
    assert prefill_ms / 5 < many < prefill_ms * 5


async def test_nothing_is_told_before_it_has_come_true(engine_for: EngineFor, tiny_model: Callable[..., Path]) -> None:
    """The twin: by its record so far, the same engine has nothing to say."""
    engine = await engine_for(tiny_model("qwen3_vl"), cache=CacheConfig(enabled=False, features=False), max_queue=79)
    for _ in range(ENOUGH):  # the first has no expectation, so one is missing
        assert (await engine.preflight(chat(RED, "?"))).ttft_ms is None
        await ask(engine, chat(RED, "?"))
    assert (await engine.preflight(chat(RED, "?"))).ttft_ms is None


@pytest.mark.parametrize("family", ["qwen3_vl", "gemma3", "llama"])
async def test_the_work_that_is_expected_is_that_of_the_request(
    engine_for: EngineFor,
    tiny_model: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    clip_path: Path,
    family: str,
) -> None:
    """In numbers: also when the prompt's KV is there, and when only a picture's features are."""
    engine = await engine_for(tiny_model(family), max_queue=80)
    seen: list[Work] = []
    told: list[Work] = []
    begun = Expectations.ended
    monkeypatch.setattr(Expectations, "ended", lambda self, s: (seen.append(s.observed.work), begun(self, s))[1])
    monkeypatch.setattr(Expectations, "ttft_ms", lambda self, work, others: told.append(work))
    media = [] if family == "llama" else [RED, clip_path]
    for words in ("One.", "One.", "Two, of which more has to be read."):
        await engine.preflight(chat(*media, words))
        await ask(engine, chat(*media, words))
        await engine.cache.blocks()  # what the answer leaves behind is stored by then
    other = Message("system", (Part("text", "Be brief."),))  # so that no KV is of use
    asked = chat(*media, "One.")
    again = replace(asked, messages=(other, *asked.messages))
    await engine.preflight(again)
    await ask(engine, again)
    assert told == seen and len(seen) == 4
    assert seen[0].cached_tokens == 0 < seen[1].cached_tokens < seen[1].prompt_tokens
    if media:
        assert seen[0].encoder.tokens > 0 == seen[1].encoder.tokens
        assert (seen[3].encoder.tokens == 0) == (family == "qwen3_vl"), "only its features are kept by picture"


def test_a_sound_has_no_picture() -> None:
    samples = Media("audio", np.zeros(16, np.float32), "ab", 64, (0, 0))
    assert pngs(samples, (0, 0)) == ()


async def test_askers_who_have_gone_away_take_no_place_and_end_nothing(
    engine_for: EngineFor, tiny_model: Callable[..., Path]
) -> None:
    """A reply that nobody waits for cannot be given: trying to ended the engine's thread, and with it every stream."""
    engine = await engine_for(tiny_model("llama"))
    gone: list[Future[Any]] = [Future() for _ in range(3 * MAX_PREFLIGHTS)]
    asks = [PreflightCommand(chat("Hi"), (), reply) for reply in gone[MAX_PREFLIGHTS:]]
    looks = [ListBlocks(True, reply) for reply in gone[:MAX_PREFLIGHTS]]
    assert all(reply.cancel() for reply in gone)
    for command in (*looks, *asks):
        engine._runtime.tell(command)
    assert (await engine.preflight(chat("Hi"))).tokens
    assert isinstance(await engine.cache.blocks(), list)
    waiting = [asyncio.ensure_future(engine.preflight(chat("Hi"))) for _ in range(MAX_PREFLIGHTS + 20)]
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(f, Busy | Preflight) for f in found)
    assert (await ask(engine, chat("Hi"))).done.usage.completion_tokens
