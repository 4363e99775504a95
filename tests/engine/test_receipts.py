"""receipts: each medium's tokens and seen size are its own, exactly, for every family and in any company."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engine import receipts
from engine.config import EngineConfig, MediaLimits, ModelSpec
from engine.media import load_media
from engine.models import registry
from engine.prompt import build
from engine.spans import Prompt
from engine.types import FrameSampling
from tests import tiny
from tests.engine.drive import Piece, chat
from tests.families import FAMILIES, VISION
from tests.pictures import picture

TinyModel = Callable[..., Path]
RUNNABLE = [name for name in VISION if name != "paligemma"]
# Of different shapes, so that most families give them different numbers of tokens.
STILLS = (picture("red"), picture("green", "square", (160, 48)), picture("blue", "triangle", (60, 200)))


def load(folder: Path) -> registry.Loaded:
    return registry.load(EngineConfig(model=ModelSpec(str(folder))))


def built(loaded: registry.Loaded, *pieces: Piece) -> Prompt:
    request = chat(*pieces)
    parts = [p for message in request.messages for p in message.parts if p.kind != "text"]
    return build(loaded, request, tuple(load_media(p, MediaLimits(), FrameSampling()) for p in parts))


def num_placeholders(loaded: registry.Loaded, prompt: Prompt) -> int:
    wanted = set(loaded.placeholder_ids().values())
    return sum(token in wanted for token in prompt.ids)


def check(loaded: registry.Loaded, *media: Piece) -> None:
    """Together each medium gets what it gets alone, and all of them get all the placeholders there are."""
    alone = [built(loaded, medium, "x").receipts[0] for medium in media]
    prompt = built(loaded, *media, "x")
    for single, together in zip(alone, prompt.receipts, strict=True):
        assert (together.tokens, together.seen_px, together.kind) == (single.tokens, single.seen_px, single.kind)
        assert together.tokens > 0
        assert together.decoded_px == single.decoded_px
    assert sum(receipt.tokens for receipt in prompt.receipts) == num_placeholders(loaded, prompt)


@pytest.mark.parametrize("family", RUNNABLE)
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
    counts = {built(loaded, still, "x").receipts[0].tokens for still in STILLS}
    assert len(counts) > 1
    check(loaded, *STILLS)


def test_sabotage_sharing_evenly_is_seen(tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twin: all placeholders divided by the number of media."""
    loaded = load(tiny_model("pixtral"))
    measure = receipts.measure

    def evenly(*args: object) -> list[receipts.Seen]:
        seen = measure(*args)  # type: ignore[arg-type]
        share = sum(tokens for tokens, _ in seen) // len(seen)
        return [(share, size) for _, size in seen]

    monkeypatch.setattr(receipts, "measure", evenly)
    with pytest.raises(AssertionError):
        check(loaded, *STILLS)


def test_the_receipt_says_what_came_in(tiny_model: TinyModel, clip_path: Path) -> None:
    loaded = load(tiny_model("qwen3_vl"))
    still, clip = built(loaded, STILLS[1], clip_path, "x").receipts
    assert (still.kind, still.decoded_px, still.frames) == ("image", (160, 48), ())
    assert still.num_bytes > 100
    assert clip.num_bytes == clip_path.stat().st_size
    assert [index for index, _ in clip.frames] == sorted({index for index, _ in clip.frames})
    assert len(still.sha256) == len(clip.sha256) == 64
    assert still.sha256 != clip.sha256


def test_the_seen_size_is_the_processors(tiny_model: TinyModel) -> None:
    """Pictures beyond the pixel budget are shrunk, and the receipt admits it."""
    loaded = load(tiny_model("qwen3_vl"))
    (receipt,) = built(loaded, picture("red", "circle", (640, 480)), "x").receipts
    width, height = receipt.seen_px
    assert receipt.decoded_px == (640, 480)
    assert width * height <= 16 * 32 * 32
    assert receipt.tokens == (width // 32) * (height // 32)
