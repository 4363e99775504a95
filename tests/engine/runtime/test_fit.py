"""fit: what did not fit does, with an answer's room behind it, and is still what was asked about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ContextOverflow
from engine.runtime.estimates import fit
from engine.types import FrameSampling, Part, Preflight
from tests.conftest import EngineFor
from tests.engine.drive import ask, chat
from tests.pdfs import pdf
from tests.pictures import data_url, numbered_frames, picture, write_clip

PHOTO = picture("red", "circle", (640, 480))


@pytest.fixture
def long_clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "long.mp4", numbered_frames(64), fps=4.0)


async def small_context(engine_for: EngineFor, tiny_model: Callable[..., Path], family: str, context: int) -> Any:
    return await engine_for(tiny_model(family), max_model_len=context)


async def test_fewer_frames(engine_for: EngineFor, tiny_model: Callable[..., Path], long_clip: Path) -> None:
    """Twin: as it was, it is refused, and the words say by how much and what is to blame."""
    engine = await small_context(engine_for, tiny_model, "qwen3_vl", 200)
    request = chat(long_clip, "What moves?", max_tokens=20, frames=FrameSampling(fps=4.0))
    with pytest.raises(ContextOverflow, match=r"\d+ too many .* context is 200\. messages has \d+ of them"):
        await ask(engine, request)
    smaller = await engine.fit(request)
    assert smaller is not None
    done = (await ask(engine, smaller)).done
    assert done.usage.prompt_tokens + 20 <= 200
    (receipt,) = done.media
    assert 2 <= len(receipt.frames) < 64


async def test_smaller_pictures(engine_for: EngineFor, tiny_model: Callable[..., Path]) -> None:
    engine = await small_context(engine_for, tiny_model, "qwen3_vl", 60)
    request = chat(PHOTO, PHOTO, PHOTO, "?", max_tokens=8)
    before = await engine.preflight(request)
    assert before.left < 8
    smaller = await engine.fit(request)
    after = await engine.preflight(smaller)
    assert after.left >= 8
    assert all(0 < b.tokens < a.tokens for a, b in zip(before.media, after.media, strict=True))


async def test_what_fits_is_left_as_it_is(demo_engine: Any) -> None:
    request = chat(picture("red"), "What is it?")
    assert await demo_engine.fit(request) is request


async def test_what_cannot_be_made_to_fit(engine_for: EngineFor, tiny_model: Callable[..., Path]) -> None:
    """Text does not shrink; nor do the pictures of a family that has one size for all."""
    engine = await small_context(engine_for, tiny_model, "qwen3_vl", 60)
    assert await engine.fit(chat(PHOTO, "word " * 100)) is None
    assert await engine.fit(chat("word " * 100)) is None
    fixed = await small_context(engine_for, tiny_model, "llava", 60)
    request = chat(PHOTO, PHOTO, PHOTO, PHOTO, PHOTO, PHOTO, "?")
    assert (await fixed.preflight(request)).left < 0
    assert await fixed.fit(request) is None


def test_room_is_what_was_asked_for() -> None:
    request = chat("x", max_tokens=None)
    assert fit.room(request) == fit.ROOM_TOKENS
    assert fit.room(replace(request, max_tokens=7)) == 7
    assert fit.shrunk(request, Preflight(tokens=(1,) * 50, context_tokens=40)) is None


async def test_the_pages_of_a_document(engine_for: EngineFor, tiny_model: Callable[..., Path]) -> None:
    """Each page keeps to one number of pixels, and the picture beside the document is cut as well."""
    engine = await small_context(engine_for, tiny_model, "qwen3_vl", 80)
    url = data_url(pdf([(1, 0, 0), (0, 1, 0), (0, 0, 1)], size_pt=(600, 400)), "application/pdf")
    document = Part("document", url=url, param="file")
    request = chat(PHOTO, "?", max_tokens=8)
    message = replace(request.messages[0], parts=(document, *request.messages[0].parts))
    request = replace(request, messages=(message,))
    before = await engine.preflight(request)
    assert before.left < 8 and [receipt.param for receipt in before.media] == ["file"] * 3 + ["messages"]
    smaller = await engine.fit(request)
    assert smaller is not None and [part.kind for part in smaller.media_parts] == ["document", "image"]
    pages, photo = smaller.media_parts
    assert 0 < (pages.max_pixels or 0) < 600 * 400 and 0 < (photo.max_pixels or 0) < 640 * 480
    done = (await ask(engine, smaller)).done
    assert done.usage.prompt_tokens + 8 <= 80 and len(done.media) == 4
