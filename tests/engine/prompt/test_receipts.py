"""receipts: each medium's tokens and seen size are its own, exactly, for every family and in any company."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engine.config import CacheConfig, MediaLimits
from engine.media.read_medium import load_media
from engine.models import registry
from engine.prompt import build as build_module
from engine.prompt.build import build_prompt
from engine.prompt.media_tokens import MediaTokens, count_media_tokens
from engine.prompt.receipts import receipts
from engine.types import FrameSampling
from engine.types.prompt import Prompt
from tests import tiny
from tests.conftest import EngineFor
from tests.engine.checkpoints import load
from tests.engine.drive import Piece, ask, chat, settled
from tests.families import FAMILIES, VISION
from tests.pictures import numbered_frames, picture, write_clip

TinyModel = Callable[..., Path]
SEVERAL = [name for name in VISION if FAMILIES[name].max_images is None]
# Of different shapes, so that most families give them different numbers of tokens.
STILLS = (picture("red"), picture("green", "square", (160, 48)), picture("blue", "triangle", (60, 200)))


def built(loaded: registry.Loaded, *pieces: Piece) -> Prompt:
    request = chat(*pieces)
    parts = [p for message in request.messages for p in message.parts if p.kind != "text"]
    return build_prompt(loaded, request, tuple(load_media(p, MediaLimits(), FrameSampling()) for p in parts))


def num_placeholders(loaded: registry.Loaded, prompt: Prompt) -> int:
    wanted = set(loaded.placeholder_ids().values())
    return sum(token in wanted for token in prompt.ids)


def check(loaded: registry.Loaded, *media: Piece) -> None:
    """Together each medium gets what it gets alone, and all of them get all the placeholders there are."""
    alone = [receipts(built(loaded, medium, "x"))[0] for medium in media]
    prompt = built(loaded, *media, "x")
    for single, together in zip(alone, receipts(prompt), strict=True):
        assert (together.tokens, together.seen_px, together.kind) == (single.tokens, single.seen_px, single.kind), (
            "a medium counts differently in company"
        )
        assert together.tokens > 0
        assert together.decoded_px == single.decoded_px
    assert sum(placed.tokens for placed in prompt.media) == num_placeholders(loaded, prompt)


@pytest.mark.parametrize("family", SEVERAL)
def test_a_medium_counts_the_same_alone_and_in_company(tiny_model: TinyModel, family: str, clip_path: Path) -> None:
    loaded = load(tiny_model(family))
    check(loaded, *STILLS)
    check(loaded, clip_path, STILLS[1])
    check(loaded, STILLS[0], clip_path, STILLS[2])


@pytest.mark.parametrize("family", ["idefics3", "smolvlm"])
def test_tiled_pictures_count_all_their_tiles(tmp_path: Path, family: str) -> None:
    """With splitting, a picture is several runs of placeholders, and how many depends on its shape."""
    tiled = FAMILIES[family]
    settings = (tiled.image_proc or {}) | {"size": {"longest_edge": 224}}
    loaded = load(tiny.write(replace(tiled, image_proc=settings), family, "float32", tmp_path / family))
    counts = {built(loaded, still, "x").media[0].tokens for still in STILLS}
    assert len(counts) > 1
    check(loaded, *STILLS)


def test_sabotage_sharing_evenly_is_seen(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twin: all placeholders divided by the number of media."""
    loaded = load(tiny_model("pixtral"))

    def evenly(*args: object) -> list[MediaTokens]:
        seen = count_media_tokens(*args)  # type: ignore[arg-type]
        share = sum(tokens for tokens, _ in seen) // len(seen)
        return [(share, size) for _, size in seen]

    monkeypatch.setattr(build_module, "count_media_tokens", evenly)
    with pytest.raises(AssertionError, match="a medium counts differently in company"):
        check(loaded, *STILLS)


def test_the_receipt_says_what_came_in(tiny_model: TinyModel, clip_path: Path) -> None:
    loaded = load(tiny_model("qwen3_vl"))
    still, clip = receipts(built(loaded, STILLS[1], clip_path, "x"))
    assert (still.kind, still.decoded_px, still.frames) == ("image", (160, 48), ())
    assert still.num_bytes > 100
    assert clip.num_bytes == clip_path.stat().st_size
    assert [index for index, _ in clip.frames] == sorted({index for index, _ in clip.frames})
    assert len(still.sha256) == len(clip.sha256) == 64
    assert still.sha256 != clip.sha256


def test_the_seen_size_is_the_processors(tiny_model: TinyModel) -> None:
    """Pictures beyond the pixel budget are shrunk, and the receipt admits it."""
    loaded = load(tiny_model("qwen3_vl"))
    (receipt,) = receipts(built(loaded, picture("red", "circle", (640, 480)), "x"))
    width, height = receipt.seen_px
    assert receipt.decoded_px == (640, 480)
    assert width * height <= 16 * 32 * 32
    assert receipt.tokens == (width // 32) * (height // 32)


# -- what the vision tower did -----------------------------------------------------------------------------------------


async def test_receipts_say_what_was_encoded(
    engine_for: EngineFor, tiny_model: TinyModel, clip_path: Path, tmp_path: Path
) -> None:
    """Pictures and pairs of frames: new are misses, known are hits, reused KV needs neither. As the totals say."""
    engine = await engine_for(tiny_model("qwen3_vl"), max_queue=79)
    longer = write_clip(tmp_path / "longer.mp4", numbered_frames(8)[:4] * 2, fps=4.0)

    async def uses(*pieces: Piece) -> list[tuple[int, int]]:
        before = (await settled(engine)).cache
        done = (await ask(engine, chat(*pieces))).done
        after = (await settled(engine)).cache
        found = [receipt.features for receipt in done.media]
        assert sum(use.hits for use in found) == after.feature_hits - before.feature_hits
        assert sum(use.misses for use in found) == after.feature_misses - before.feature_misses
        assert all((receipt.encode_ms > 0) == (receipt.features.misses > 0) for receipt in done.media)
        assert all(receipt.resize_ms > 0 for receipt in done.media)
        return [(use.hits, use.misses) for use in found]

    assert await uses(STILLS[0], clip_path, "a") == [(0, 1), (0, 2)]
    assert await uses(STILLS[0], clip_path, "b") == [(0, 0), (0, 0)]
    assert await uses("other", STILLS[0], "then", STILLS[1], "c") == [(1, 0), (0, 1)]
    assert await uses("other", clip_path, STILLS[2], longer, "d") == [(2, 0), (0, 1), (1, 1)], "both clips begin alike"
    await engine.cache.clear()
    assert await uses(STILLS[0], "a") == [(0, 1)]


@pytest.mark.parametrize("family,features", [("gemma3", True), ("qwen3_vl", False)])
async def test_without_a_feature_store_receipts_say_nothing_of_it(
    engine_for: EngineFor, tiny_model: TinyModel, family: str, features: bool
) -> None:
    engine = await engine_for(tiny_model(family), cache=CacheConfig(enabled=False, features=features))
    done = (await ask(engine, chat(*STILLS, "x"))).done
    assert [receipt.features for receipt in done.media] == [None] * 3
    assert all(receipt.encode_ms > 0 for receipt in done.media)
