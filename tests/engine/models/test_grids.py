"""grids: without pixels, a prompt about media that were read before is the same; they are read where need be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.config import CacheConfig, EngineConfig, ModelSpec
from engine.errors import BadMedia
from engine.models import registry
from engine.models.families import family as family_row
from engine.models.grids import ARRAY_NAMES, Grids
from engine.models.remaining_media import media_from
from engine.prompt import build as build_module
from engine.prompt import processor
from engine.prompt.build import build_prompt
from engine.prompt.receipts import receipts
from engine.types import Request
from engine.types.prompt import Prompt
from tests.conftest import EngineFor
from tests.engine.drive import ask, chat
from tests.engine.prompt.test_build import media_of
from tests.families import VISION
from tests.pictures import picture

TinyModel = Callable[..., Path]
PACKED = [name for name in VISION if family_row(name).packed]
RED, TALL = picture("red"), picture("blue", "square", (60, 200))


def load(folder: Path) -> registry.Loaded:
    return registry.load(EngineConfig(model=ModelSpec(str(folder))))


def built(loaded: registry.Loaded, request: Request, *, need_pixels: bool = False) -> Prompt:
    """As the engine does it: what was built is noted."""
    found = build_prompt(loaded, request, media_of(request), need_pixels=need_pixels)
    loaded.grids.note(request.tenant, found)
    return found


def stamped(prompt: Prompt) -> tuple[Any, ...]:
    """What must be equal: all but what differs from run to run, and arrays."""
    told = [replace(receipt, fetch_ms=0.0, decode_ms=0.0, resize_ms=0.0) for receipt in receipts(prompt)]
    return prompt.ids, build_module.cache_ids, prompt.spans, prompt.starts_in_reasoning, told


def num_patches(found: Prompt) -> int:
    return sum(found.inputs[patches].shape[0] for patches, _ in ARRAY_NAMES.values() if patches in found.inputs)


def several(clip: Path) -> list[Request]:
    return [
        chat(RED, "What?"),
        chat("Before", RED, "between", TALL, "after."),
        chat(clip, "What moves?"),
        chat(clip, "and", TALL, "Compare."),
    ]


@pytest.mark.parametrize("family", PACKED)
def test_the_prompt_is_the_same_without_pixels(tiny_model: TinyModel, family: str, clip_path: Path) -> None:
    loaded = load(tiny_model(family))
    processors = loaded.processor.image_processor, loaded.processor.video_processor
    for request in several(clip_path):
        whole = built(loaded, request, need_pixels=True)
        found = built(loaded, request)
        assert (whole.has_pixels_behind(0), found.has_pixels_behind(0)) == (True, False)
        assert num_patches(whole) > num_patches(found) == 0
        assert stamped(found) == stamped(whole)
        for _, grids in ARRAY_NAMES.values():
            assert (grids in found.inputs) == (grids in whole.inputs)
            assert grids not in found.inputs or found.inputs[grids].tolist() == whole.inputs[grids].tolist()
    assert (loaded.processor.image_processor, loaded.processor.video_processor) == processors


def test_so_it_is_with_the_demo_models_own_sizes(clip_path: Path) -> None:
    """Its frames have a budget of their own: they are not even resized."""
    loaded = registry.load(EngineConfig())
    for request in several(clip_path):
        whole = built(loaded, request, need_pixels=True)
        found = built(loaded, request)
        assert not found.has_pixels_behind(0)
        assert stamped(found) == stamped(whole)


def test_what_was_not_read_before_is_read(tiny_model: TinyModel) -> None:
    """One new picture among known ones; another tenant's; and a family of which no grid is known."""
    loaded = load(tiny_model("qwen3_vl"))
    assert built(loaded, chat(RED, "What?")).has_pixels_behind(0)
    assert not built(loaded, chat(RED, "What?")).has_pixels_behind(0)
    both = built(loaded, chat(RED, TALL, "Both?"))
    assert [placed.has_pixels for placed in both.media] == [False, True]
    assert both.has_pixels_behind(both.spans[0].end) and not both.has_pixels_behind(both.spans[0].end - 1)
    assert built(loaded, chat(RED, "What?", tenant="other")).has_pixels_behind(0)
    other = load(tiny_model("idefics3"))
    assert all(built(other, chat(RED, "What?")).has_pixels_behind(0) for _ in range(2))


def test_a_processor_that_fails_is_left_as_it_was(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load(tiny_model("qwen3_vl"))
    built(loaded, chat(RED, "What?"))
    own = loaded.processor.image_processor

    def failing(*_: Any) -> Any:
        raise BadMedia("no")

    monkeypatch.setattr(processor, "sounds", failing)
    built(loaded, chat(RED, "What?"))  # of which nothing has to be read
    with pytest.raises(BadMedia):
        built(loaded, chat(RED, TALL, "What?"))
    assert loaded.processor.image_processor is own


@pytest.mark.parametrize("family", PACKED)
def test_only_what_is_new_is_read_and_it_is_the_same(tiny_model: TinyModel, family: str, clip_path: Path) -> None:
    """Old and new media in any order: the patches of the new ones are those that all together would give."""
    loaded = load(tiny_model(family))
    for old, request in (
        ((RED,), chat(RED, TALL, "Both?")),
        ((TALL,), chat(RED, "and", TALL, clip_path, "All?")),
        ((clip_path,), chat(clip_path, RED, "Both?")),
    ):
        loaded.grids.clear()
        whole = build_prompt(loaded, request, media_of(request))
        built(loaded, chat(*old, "Before?"))
        found = build_prompt(loaded, request, media_of(request), need_pixels=False)
        assert [placed.has_pixels for placed in found.media].count(False) == 1
        assert stamped(found) == stamped(whole)
        first = min(span.start for span, placed in zip(found.spans, found.media, strict=True) if placed.has_pixels)
        behind = max(placed.span.end for placed in found.media if not placed.has_pixels)
        if behind <= first:
            cut, of_all = media_from(found, first), media_from(whole, first)
            assert {name: value.tolist() for name, value in cut.items()} == {n: v.tolist() for n, v in of_all.items()}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For every prompt that is built: whether pixels were processed."""
    process, calls = build_module.process, []

    def watched(*args: Any) -> Any:
        ids, inputs = process(*args)
        calls.append(any(inputs[patches].shape[0] for patches, _ in ARRAY_NAMES.values() if patches in inputs))
        return ids, inputs

    monkeypatch.setattr(build_module, "process", watched)
    return calls


async def answers(engine: Any, reads: list[bool], clip: Path) -> list[tuple[str, bool, bool]]:
    """(text, whether KV was reused, whether pixels were processed) of: a new medium, another question, the same when
    the cache was cleared, and without reuse; of a picture and of a clip."""
    out = []
    for shown in (RED, clip):
        await engine.cache.clear()
        for question, more in (("One?", {}), ("Two?", {}), ("clear", {}), ("Two?", {}), ("Two?", {"reuse": False})):
            if question == "clear":
                await engine.cache.clear()
                continue
            reads.clear()
            done = await ask(engine, chat(shown, question, **more))
            out.append((done.text, done.done.usage.cached_tokens > 16, any(reads)))
    return out


@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_5_vl", "qwen3_5"])
async def test_pixels_are_processed_where_their_kv_is_not_there(
    tiny_model: TinyModel, engine_for: EngineFor, clip_path: Path, reads: list[bool], family: str
) -> None:
    engine = await engine_for(tiny_model(family), cache=CacheConfig(block_tokens=16))
    found = await answers(engine, reads, clip_path)
    assert [(hit, read) for _, hit, read in found] == [(False, True), (True, False), (False, True), (False, True)] * 2
    for first, warm, again, cold in (found[:4], found[4:]):
        assert warm[0] == again[0] == cold[0] != first[0]


async def test_what_was_forgotten_was_not_read(tiny_model: TinyModel, engine_for: EngineFor, reads: list[bool]) -> None:
    """No prompt is built twice where nothing can be reused, and a look reads what its request would have to read."""
    cold = await engine_for(tiny_model("qwen3_vl"), cache=CacheConfig(enabled=False))
    reads.clear()
    for _ in range(2):
        await ask(cold, chat(RED, "What?"))
    assert reads == [True, True]
    engine = await engine_for(tiny_model("qwen3_vl"), cache=CacheConfig(block_tokens=16))
    await engine.cache.clear()
    reads.clear()
    for request in (chat(RED, "What?"), chat(RED, "What?")):
        await engine.preflight(request)
    await ask(engine, chat(RED, "What?"))
    assert reads == [True, True, True]
    await engine.preflight(chat(RED, "Another?"))
    assert reads == [True, True, True, False]
    await engine.cache.clear()
    await ask(engine, chat(RED, "What?"))
    assert reads == [True, True, True, False, True]


def test_sabotage_of_whose_grid_it_is_is_seen(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twin: every picture gets the grid of the last one."""
    loaded = load(tiny_model("qwen3_vl"))
    whole = built(loaded, chat(TALL, "What?"))
    built(loaded, chat(RED, "What?"))

    def last(self: Grids, tenant: str, media: Any) -> Any:
        return (list(self._held.values())[-1],)

    assert stamped(built(loaded, chat(TALL, "What?"))) == stamped(whole)
    built(loaded, chat(RED, "What?"), need_pixels=True)
    monkeypatch.setattr(Grids, "find", last)
    assert stamped(built(loaded, chat(TALL, "What?"))) != stamped(whole)
