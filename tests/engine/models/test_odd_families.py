"""What single families need of the adapter: no other's positions, pictures that do not see each other, all deepstack
features; and families without a row."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from engine.api.models.cards import model_json
from engine.config import EngineConfig, MediaLimits, ModelSpec
from engine.errors import EngineError
from engine.media.read_medium import load_media
from engine.models import registry
from engine.models.embeddings import Embeddings
from engine.models.families import UNKNOWN
from engine.models.vision_tower import ApartVisionTower
from engine.prompt.build import build_prompt
from engine.types import FrameSampling
from tests import tiny
from tests.engine.drive import Piece, ask, chat
from tests.engine.models.test_adapter import greedy, load
from tests.engine.oracle import Oracle
from tests.families.apart import GEMMA4_BOTH_WAYS
from tests.pictures import picture
from tests.sounds import tone, wav
from workbench.models.listing import details

TinyModel = Callable[..., Path]


def embedded(loaded: registry.Loaded, *pieces: Piece) -> tuple[Embeddings, list[slice]]:
    """A prompt's embeddings, and where its media lie."""
    request = chat(*pieces)
    parts = [part for part in request.messages[0].parts if part.kind != "text"]
    prompt = build_prompt(loaded, request, tuple(load_media(p, MediaLimits(), FrameSampling()) for p in parts))
    found = loaded.adapter.embed(prompt, loaded.adapter.make_cache())
    assert found is not None
    return found, [slice(span.start, span.end) for span in prompt.spans]


# -- positions ---------------------------------------------------------------------------------------------------------

STATEFUL = ["glm_ocr", "glm4v", "qwen3_vl_moe"]


@pytest.mark.parametrize("family", STATEFUL)
def test_no_prompt_takes_positions_of_the_one_before(tiny_model: TinyModel, family: str) -> None:
    """mlx-vlm remembers them on the model; a long prompt with pictures, then a short text, as one alone."""
    fresh, used = load(tiny_model(family)), load(tiny_model(family))
    greedy(used, [picture("red"), picture("blue"), "A much longer question, of many words. " * 3], 2048)
    assert greedy(used, ["Short."], 2048) == greedy(fresh, ["Short."], 2048)


def test_sabotage_positions_that_are_remembered_are_seen(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twin: those of a prompt before cannot be forgotten."""
    loaded = load(tiny_model("glm_ocr"))
    right = greedy(loaded, ["Short."], 2048)
    others = mx.broadcast_to(mx.arange(512) // 2, (3, 1, 512))
    remembered = property(lambda self: others, lambda self, value: None)
    monkeypatch.setattr(type(loaded.adapter._lm), "_position_ids", remembered, raising=False)
    assert greedy(loaded, ["Short."], 2048) != right


# -- pictures that must not see each other -----------------------------------------------------------------------------


def test_glm4v_encodes_each_picture_as_if_alone(tiny_model: TinyModel) -> None:
    """And twin: mlx-vlm's own tower lets the third and the fourth see each other."""
    loaded = load(tiny_model("glm4v"))
    stills = [picture("red"), picture("green", "square"), picture("blue", "triangle"), picture("red", "square")]

    def rows(*pictures: Piece) -> list[mx.array]:
        found, spans = embedded(loaded, *pictures, "x")
        return [found._arrays["inputs_embeds"][:, span] for span in spans]

    together = rows(*stills)
    alone = [rows(still)[0] for still in stills]
    assert all(mx.allclose(a, b, atol=1e-4) for a, b in zip(together, alone, strict=True))
    tower = loaded.adapter.model.vision_tower
    assert isinstance(tower, ApartVisionTower)
    loaded.adapter.model.vision_tower = tower.tower
    mixed = rows(*stills)
    assert [bool(mx.allclose(a, b, atol=1e-4)) for a, b in zip(mixed, alone, strict=True)] == [True, True, False, False]


def test_qwen3_vl_moe_keeps_the_deepstack_features_of_both_kinds(tiny_model: TinyModel, clip_path: Path) -> None:
    """mlx-vlm encodes one kind of media per pass; each medium has the features that it has alone, in any order."""
    loaded = load(tiny_model("qwen3_vl_moe"))

    def deepstack(*pieces: Piece) -> list[list[mx.array]]:
        found, spans = embedded(loaded, *pieces, "x")
        windows = [found.window(span.start, span.stop) for span in spans]
        return [window["deepstack_visual_embeds"] for window in windows]

    still, clip = deepstack(picture("red"))[0], deepstack(clip_path)[0]
    for order, expected in (((picture("red"), clip_path), (still, clip)), ((clip_path, picture("red")), (clip, still))):
        for got, wanted in zip(deepstack(*order), expected, strict=True):
            assert all(mx.allclose(a, b, atol=1e-4) for a, b in zip(got, wanted, strict=True))
            assert got[0].shape[0] > 0


# -- families without a row --------------------------------------------------------------------------------------------


async def test_a_family_without_a_row_is_shown_one_picture_at_a_time(
    tiny_model: TinyModel, engine_for: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "family", lambda model_type: UNKNOWN)
    folder = shutil.copytree(tiny_model("pixtral"), tmp_path / "stranger")
    engine = await engine_for(folder)
    card = engine.snapshot().model
    assert card.vision and card.images_per_prompt == 1 and not card.tested
    assert model_json(card)["capabilities"]["tested"] is False
    assert "not among the tests" in details(card)
    request = chat(picture("red"), "What?", max_tokens=6)
    oracle = Oracle.load(folder, vision=True)
    answer = await ask(engine, request)
    assert answer.text.strip() == oracle.tokenizer.decode(oracle.greedy(request.messages, 6)).strip()
    with pytest.raises(EngineError, match="the limit is 1"):
        await ask(engine, chat(picture("red"), picture("blue"), "Compare.", max_tokens=6))


def test_its_placeholder_is_its_processors(tiny_model: TinyModel, tmp_path: Path) -> None:
    """Where config.json does not name it."""
    folder = shutil.copytree(tiny_model("pixtral"), tmp_path / "nameless")
    config = json.loads((folder / "config.json").read_text())
    placeholder = config["image_token_index"]
    loaded = registry.load(EngineConfig(model=ModelSpec(str(folder))))
    del loaded.config["image_token_index"]
    assert loaded.placeholder_ids()["image"] == placeholder


def test_a_tested_family_says_nothing_of_it(tiny_model: TinyModel) -> None:
    card = load(tiny_model("pixtral")).card
    assert card.tested and "tests" not in details(card)


# -- pictures whose tokens see each other ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def both_ways(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Gemma 4 that says so, as the larger ones do."""
    return tiny.write(GEMMA4_BOTH_WAYS, "gemma4", "float32", tmp_path_factory.mktemp("both") / "gemma4")


def shown(clip: Path) -> list[list[Piece]]:
    return [
        ["Words alone, and more of them than are read at once."],
        [picture("red"), "What?"],
        ["First", picture("blue", "square"), picture("green"), "Compare."],
        [clip, "What moves?"],
        [picture("red"), wav(tone()), "What?"],  # with a sound, mlx-vlm reads pictures from left to right
        [picture("red"), wav(tone()), wav(tone(3000)), "What?"],
    ]


async def test_where_it_says_so_pictures_are_read_in_both_directions(
    both_ways: Path, engine_for: Any, clip_path: Path, steps: list[int]
) -> None:
    """Tokens of mlx-vlm, though chunks are small; alone and in a batch. Texts alone are kept as ever."""
    engine, oracle = await engine_for(both_ways, prefill_chunk_tokens=16), Oracle.load(both_ways, vision=True)
    requests = [chat(*pieces, max_tokens=6) for pieces in shown(clip_path)]
    cold = [await ask(engine, request) for request in requests]
    for request, answer in zip(requests, cold, strict=True):
        assert list(answer.token_ids) == oracle.greedy(request.messages, 6, native_video=True)
    warm = await asyncio.gather(*(ask(engine, request) for request in requests))
    assert [answer.token_ids for answer in warm] == [answer.token_ids for answer in cold]
    assert [answer.done.usage.cached_tokens > 0 for answer in warm] == [True, False, False, False, True, True]
    assert max(steps) > 1


def test_sabotage_reading_them_in_one_direction_is_seen(both_ways: Path, clip_path: Path) -> None:
    loaded, oracle = load(both_ways), Oracle.load(both_ways, vision=True)
    loaded.adapter._both_ways = False
    same = [
        greedy(loaded, pieces, 2048) == oracle.greedy(chat(*pieces).messages, 6, native_video=True)
        for pieces in shown(clip_path)
    ]
    assert same == [True, False, False, False, True, True]
