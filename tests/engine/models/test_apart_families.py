"""Families whose tiny models are not tiny enough for the tests over all: each is held to the same, by few requests."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import pytest

from engine.config import MediaLimits
from engine.inventory.checkpoint_facts import read_checkpoint
from engine.media.read_medium import load_media
from engine.models import registry
from engine.models.cross_attention import Across
from engine.models.families import family as family_row
from engine.models.mlx_memory import token_sizes
from engine.prompt.render import render
from engine.types import FrameSampling, Message, Part, Request
from engine.types.media import Media
from tests import tiny
from tests.conftest import EngineFor
from tests.engine.drive import Piece, ask, chat, user
from tests.engine.models.test_adapter import greedy, load
from tests.engine.models.test_odd_families import embedded
from tests.engine.oracle import Oracle
from tests.engine.prompt.test_receipts import built, num_placeholders
from tests.engine.prompt.test_receipts import check as check_receipts
from tests.families import APART
from tests.pictures import picture

NUM_TOKENS = 6
SQUARE = (64, 64)
WORDS = "A question that is long enough to be cut in several places."


@pytest.fixture
def folder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, models_dir: Path) -> Path:
    """The checkpoint of the family that the test is parametrized by, and mlx-vlm's own sizes made as small."""
    return tiny.build_apart(request.node.callspec.params["family"], monkeypatch, models_dir)


def decoded(part: Part) -> Media:
    return load_media(part, MediaLimits(), FrameSampling())


def is_whole(family: str) -> bool:
    """Whether its prompts with pictures are computed in one pass."""
    return family_row(family).whole_prompt or family_row(family).both_ways


def cases(family: str) -> list[list[Piece]]:
    """Words, a picture, two pictures where it takes them."""
    red, blue = picture("red", size=SQUARE), picture("blue", "square", SQUARE)
    found: list[list[Piece]] = [[WORDS], [red, WORDS], [blue, WORDS]]
    return [*found, [red, "and", blue, WORDS]] if family_row(family).images_per_prompt is None else found


@pytest.mark.parametrize("family", APART)
def test_any_chunking_gives_the_stock_answer(folder: Path, family: str) -> None:
    loaded, oracle = load(folder), Oracle.load(folder, vision=True)
    answers = []
    for pieces in cases(family):
        expected = oracle.greedy(chat(*pieces).messages, NUM_TOKENS)
        for chunk_tokens in (2048,) if is_whole(family) else (2048, 100):
            assert greedy(loaded, pieces, chunk_tokens)[: len(expected)] == expected, f"chunks of {chunk_tokens}"
        answers.append(tuple(expected))
    assert len(set(answers)) == len(answers), "the pictures do not matter"


@pytest.mark.parametrize("family", APART)
def test_its_files_say_what_it_takes_and_its_receipts_what_it_saw(folder: Path, family: str) -> None:
    several = (picture("blue", "square", (160, 48)),) if family_row(family).images_per_prompt is None else ()
    loaded = load(folder)
    assert read_checkpoint(folder).token_bytes == sum(token_sizes(loaded.adapter).values())
    check_receipts(loaded, picture("red", size=SQUARE), *several)
    spelled = "".join(dict.fromkeys(filter(None, (APART[family].image, *APART[family].tokens))))
    prompt = built(loaded, picture("red", size=SQUARE), f"What is {spelled}?")
    assert num_placeholders(loaded, prompt) == prompt.media[0].tokens, "a user has written a placeholder"


@pytest.mark.parametrize("family", [name for name in APART if family_row(name).images_per_prompt is None])
def test_pictures_do_not_see_each_other(folder: Path, family: str) -> None:
    """Which is what their cache ids say: KV of the first is reused beside any second."""
    loaded = load(folder)
    stills = picture("red", size=SQUARE), picture("blue", "square", (160, 48))
    together, spans = embedded(loaded, *stills, "x")
    for still, span in zip(stills, spans, strict=True):
        single, (place,) = embedded(loaded, still, "x")
        ours, alone = (found.window(at.start, at.stop) for found, at in ((together, span), (single, place)))
        own, other = alone["inputs_embeds"], ours["inputs_embeds"]
        rounding = max(1e-4, 1e-5 * mx.abs(own).max().item())  # of a product of other rows, as some BLAS have it
        assert mx.allclose(other, own, atol=rounding)


@pytest.mark.parametrize("family", APART)
async def test_warm_and_in_a_batch_is_as_cold_and_alone(
    folder: Path, family: str, engine_for: EngineFor, steps: list[int]
) -> None:
    engine, row = await engine_for(folder), family_row(family)
    requests = [chat(*pieces, max_tokens=NUM_TOKENS) for pieces in cases(family)]
    cold = [await ask(engine, request) for request in requests]
    warm = await asyncio.gather(*(ask(engine, request) for request in requests))
    assert [answer.token_ids for answer in warm] == [answer.token_ids for answer in cold]
    assert (max(steps) > 1) != row.serial
    kept = [answer.done.usage.cached_tokens > 0 for answer in warm]
    assert kept == [not row.whole_prompt, *[not is_whole(family)] * (len(requests) - 1)]


# -- what single ones need ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["phi3_v"])
def test_pictures_are_numbered_over_all_messages(folder: Path, family: str) -> None:
    """As its own template takes them, which knows texts only. No user writes such a number."""
    loaded = load(folder)
    loaded.tokenizer.chat_template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    first, later = user(picture("red"), picture("blue"), "Or <|image_1|>?"), user("And", picture("green"), "now?")
    media = tuple(decoded(part) for part in (*first.parts[:2], later.parts[1]))
    chat = render(loaded, Request((first, Message("assistant", (Part("text", text="No."),)), later)), media)
    written = "<user><|image_1|>\n<|image_2|>\nOr \U000f0000?<assistant>No.<user>And<|image_3|>\nnow?"
    assert (chat.text, chat.aside) == (written, ("<|image_1|>",))


@pytest.mark.parametrize("family", ["gemma3n"])
def test_sabotage_queries_behind_their_chunk_are_seen(
    folder: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twin: as mlx-vlm has it, answers depend on how a prompt is cut."""

    def answers() -> set[tuple[int, ...]]:
        loaded = load(folder)
        return {tuple(greedy(loaded, ["long words are here. " * 30], chunk)) for chunk in (100, 30, 7)}

    assert len(answers()) == 1
    monkeypatch.setattr(registry, "family", lambda name: replace(family_row(name), shares_kv=False))
    assert len(answers()) > 1


@pytest.mark.parametrize("family", ["mllama"])
def test_sabotage_layers_that_look_at_the_text_are_seen(
    folder: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twin: as mlx-vlm has it where there is no picture. The truth is the model without these layers."""
    loaded, oracle = load(folder), Oracle.load(folder, vision=True)
    expected = oracle.greedy(chat(WORDS).messages, 12)
    assert greedy(loaded, [WORDS], 2048, 12) == expected
    monkeypatch.setattr(Across, "_nothing", lambda self: {})
    assert greedy(loaded, [WORDS], 2048, 12) != expected
