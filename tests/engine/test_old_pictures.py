"""Old pictures cost nothing: a new question in a chat with many decodes none of them; they are read where need be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.errors import EngineError
from engine.media import read_medium
from engine.models import adapter
from engine.models.remaining_media import media_from
from engine.runtime.commands import ClearCache
from engine.types import Grammar, Message, Option, Part, Request, TypedQuestion
from engine.types.media import Media
from tests.conftest import EngineFor
from tests.engine.drive import Answer, ask, chat, user
from tests.pictures import encode, picture, write_clip

PICTURES = [picture("red", size=(64 + 8 * i, 64)) for i in range(6)]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Part]:
    """The parts that were decoded."""
    parts: list[Part] = []
    decode = read_medium._decode

    def count(part: Part, *args: Any) -> Any:
        parts.append(part)
        return decode(part, *args)

    monkeypatch.setattr(read_medium, "_decode", count)
    return parts


@pytest.fixture
def crowded(
    engine_for: EngineFor, tiny_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """An engine that knows nothing yet, and keeps no decoded pixels: as in a chat with more pictures than have room."""

    async def make(family: str = "qwen3_vl") -> Any:
        engine = await engine_for(tiny_model(family))
        await engine.cache.clear()
        monkeypatch.setattr(engine._media, "_known", lambda tenant, content, decode: decode())
        return engine

    return make


async def forget_kv(engine: Any) -> None:
    """And the vision features; the facts of the media stay."""
    await engine._asking.reply(ClearCache)


def asked_on(request: Request, answer: Answer, question: str) -> Request:
    said = Message("assistant", (Part("text", text=answer.text),))
    return replace(request, messages=(*request.messages, said, user(question)))


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_vl"])
async def test_a_new_question_decodes_nothing(crowded: Any, family: str, decoded: list[Part]) -> None:
    engine = await crowded(family)
    first = chat(*PICTURES, "Compare.")
    answer = await ask(engine, first)
    assert len(decoded) == len(PICTURES)
    decoded.clear()
    second = asked_on(first, answer, "And now?")
    found = await engine.preflight(second)
    warm = await ask(engine, second)
    assert decoded == [] and warm.done.usage.cached_tokens > 0
    assert [receipt.sha256 for receipt in warm.done.media] == [receipt.sha256 for receipt in answer.done.media]
    assert len(found.media) == len(PICTURES)
    cold = await ask(engine, replace(second, reuse=False))
    assert len(decoded) == len(PICTURES) and cold.token_ids == warm.token_ids


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_5_vl", "qwen3_5"])
async def test_a_new_picture_is_the_only_one_that_is_decoded(crowded: Any, family: str, decoded: list[Part]) -> None:
    """As an agent goes on: every turn brings one more screenshot."""
    engine = await crowded(family)
    request = chat(*PICTURES[:-1], "Compare.")
    answer = await ask(engine, request)
    decoded.clear()
    said = Message("assistant", (Part("text", text=answer.text),))
    turn = replace(request, messages=(*request.messages, said, user(PICTURES[-1], "And this?")), logprobs=0)
    warm = await ask(engine, turn)
    assert len(decoded) == 1 and warm.done.usage.cached_tokens > 0
    cold = await ask(engine, replace(turn, reuse=False))
    assert len(decoded) == 1 + len(PICTURES) and cold.token_ids == warm.token_ids
    assert [t.logprob for t in warm.tokens] == pytest.approx([t.logprob for t in cold.tokens], abs=1e-3)


async def test_sabotage_another_pictures_patches_are_seen(crowded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twin: what is cut off for old pictures is not there, and the new one's patches are cut instead."""
    engine = await crowded()
    request = chat(PICTURES[0], "Compare.")
    answer = await ask(engine, request)
    said = Message("assistant", (Part("text", text=answer.text),))
    turn = replace(request, messages=(*request.messages, said, user(PICTURES[-1], "And this?")), logprobs=0)
    cold = await ask(engine, replace(turn, reuse=False))
    calls = []

    def wrong(prompt: Any, first: int) -> Any:
        calls.append(first)
        return media_from(replace(prompt, media=tuple(replace(m, has_pixels=True) for m in prompt.media)), first)

    monkeypatch.setattr(adapter, "media_from", wrong)
    with pytest.raises(EngineError, match="The model failed on this prompt"):
        await ask(engine, turn)
    assert calls and cold.token_ids
    await engine.cache.clear()


async def test_what_has_to_be_read_after_all_is_decoded(crowded: Any, decoded: list[Part]) -> None:
    """The KV is gone and the facts are not: the pixels are fetched, not taken for black. It counts as no failure."""
    engine = await crowded()
    request = chat(*PICTURES, "Compare.", logprobs=0)
    before = await ask(engine, request)
    await forget_kv(engine)
    failed = engine.snapshot().totals.failed
    again = await ask(engine, request)
    assert len(decoded) == 2 * len(PICTURES)
    assert [t.logprob for t in again.tokens] == pytest.approx([t.logprob for t in before.tokens], abs=1e-4)
    assert engine.snapshot().totals.failed == failed
    await forget_kv(engine)
    await engine.preflight(request)
    assert len(decoded) == 3 * len(PICTURES)


async def test_only_its_media_are_read_again(
    crowded: Any, decoded: list[Part], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its grammar is compiled once and its questions are tokenized once, also where its pixels are missing at first."""
    from engine.grammar.compile import Grammars
    from engine.prompt.question_tokens import QuestionPrompts

    made: list[str] = []

    def counted(name: str, make: Callable[..., Any]) -> Callable[..., Any]:
        def method(*args: Any) -> Any:
            made.append(name)
            return make(*args)

        return method

    monkeypatch.setattr(Grammars, "compile", counted("compile", Grammars.compile))
    monkeypatch.setattr(QuestionPrompts, "build", counted("build", QuestionPrompts.build))
    engine = await crowded()
    asked = TypedQuestion("choice", (Part("text", text="Which?"),), (Option("one"), Option("two")))
    for request, name in (
        (chat(*PICTURES, "Compare.", grammar=Grammar("regex", "[ab]{3}")), "compile"),
        (chat(*PICTURES[:2], "Of these."), "build"),
    ):
        answers = []
        for _ in range(2):
            decoded.clear()
            made.clear()
            if name == "compile":
                answers.append((await ask(engine, request)).text)
            else:
                answers.append((await engine.decide(request, (asked,))).answers[0].best)
            await forget_kv(engine)
            assert made == [name], "prepared again"
        assert answers[0] == answers[1] and decoded, "the pixels were not missing"


async def test_sabotage_black_pictures_are_seen(crowded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """If facts were taken for pixels, the answer above would be another one."""
    engine = await crowded()
    without = Media.without_pixels
    monkeypatch.setattr(Media, "without_pixels", lambda self: replace(without(self), has_pixels=True))
    request = chat(*PICTURES, "Compare.", logprobs=0)
    before = await ask(engine, request)
    await forget_kv(engine)
    black = await ask(engine, request)
    assert [t.logprob for t in black.tokens] != pytest.approx([t.logprob for t in before.tokens], abs=1e-4)
    await engine.cache.clear()


async def test_a_file_that_changed_is_read_anew(crowded: Any, tmp_path: Path) -> None:
    engine, file = await crowded(), tmp_path / "shot.png"
    parts = (Part("image", path=str(file)), Part("text", text="?"))
    hashes = []
    for colour in ("red", "blue"):
        file.write_bytes(encode(picture(colour)))
        request = Request(messages=(Message("user", parts),), max_tokens=2)
        hashes += [(await ask(engine, request)).done.media[0].sha256 for _ in range(2)]
    assert hashes[0] == hashes[1] != hashes[2] == hashes[3]


async def test_tenants_are_kept_apart_and_nothing_is_kept_where_nothing_is_reused(
    crowded: Any, decoded: list[Part]
) -> None:
    engine, request = await crowded(), chat(PICTURES[0], "What?")
    for _ in range(2):
        await ask(engine, request)
    assert len(decoded) == 1
    await ask(engine, replace(request, tenant="other"))
    await ask(engine, replace(request, reuse=False))
    assert len(decoded) == 3
    await engine.cache.clear()
    await ask(engine, request)
    assert len(decoded) == 4, "forgotten with the cache"


async def test_clips_too(crowded: Any, decoded: list[Part], tmp_path: Path) -> None:
    engine = await crowded()
    clip = write_clip(tmp_path / "a.mp4", [picture("red", size=(64, 64))] * 8)
    request = chat(clip, "What moves?")
    answer = await ask(engine, request)
    again = await ask(engine, asked_on(request, answer, "Really?"))
    assert len(decoded) == 1 and again.done.media[0].frames == answer.done.media[0].frames


async def test_the_pictures_that_the_page_shows_are_there(crowded: Any, decoded: list[Part]) -> None:
    engine, request = await crowded(), chat(PICTURES[0], "What?")
    sha256 = (await ask(engine, request)).done.media[0].sha256
    engine._media.thumbnails.retain(())
    await ask(engine, request)
    assert len(decoded) == 2 and engine.thumbnail(sha256)
    (shown,) = (await engine.preflight(request, pictures=True)).pictures
    assert len(shown) == 1 and len(decoded) == 3, "what is to be drawn is decoded"
