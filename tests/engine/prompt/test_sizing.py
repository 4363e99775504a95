"""sizing: a budget of pixels gives every frame the size it should have, and what was seen is what is cached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from engine.config import EngineConfig, MediaLimits
from engine.errors import BadMedia
from engine.media.read_medium import load_media
from engine.models import registry
from engine.prompt.build import build_prompt
from engine.prompt.receipts import receipts
from engine.prompt.sizing import PixelBudget
from engine.types import FrameSampling, Request
from engine.types.prompt import Prompt
from tests.engine.drive import ask, chat
from tests.pictures import picture, write_clip

EVERYTHING = FrameSampling()
SIZES = [(128, 96), (96, 128), (1920, 1080), (640, 480), (33, 47), (500, 90), (64, 64)]


@pytest.fixture(scope="module")
def demo() -> registry.Loaded:
    return registry.load(EngineConfig())


def walk(path: Path, *, to_right: bool, size: tuple[int, int] = (192, 144)) -> Path:
    """Eight seconds of a red circle that crosses the picture."""
    circle = picture("#ff0000", "circle", (size[1], size[1])).crop((20, 20, size[1] - 20, size[1] - 20))
    frames = []
    for step in range(80):
        frame = Image.new("RGB", size, (244, 244, 244))
        left = (size[0] - circle.width) * (step if to_right else 79 - step) // 79
        frame.paste(circle.resize((circle.width // 2, circle.height // 2)), (left, size[1] // 3))
        frames.append(frame)
    return write_clip(path, frames, fps=10.0)


def built(loaded: registry.Loaded, request: Request, *sampling: FrameSampling) -> Prompt:
    parts = [p for message in request.messages for p in message.parts if p.kind != "text"]
    media = tuple(load_media(p, MediaLimits(), frames) for p, frames in zip(parts, sampling, strict=True))
    return build_prompt(loaded, request, media)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("least,most", [(9216, 12288), (36864, 196608), (200_000, 50_000_000)])
def test_sizes_are_those_of_the_stock_processor(size: tuple[int, int], least: int, most: int) -> None:
    from mlx_vlm.models.qwen3_vl.processing_qwen3_vl import _smart_resize_image, _smart_resize_video

    budget = PixelBudget(32, least, most)
    height, width = _smart_resize_image(size[1], size[0], 32, least, most)
    assert budget.fit(size) == (width, height)
    height, width = _smart_resize_video(8, size[1], size[0], 2, 32, least, most)
    assert budget.fit(size, 8) == (width, height)


def test_a_smaller_budget_wins_a_larger_does_not() -> None:
    own = PixelBudget(32, 9216, 16384)
    assert own.within(None) == own.within(10**9) == own
    assert own.within(4096) == PixelBudget(32, 4096, 4096)


@pytest.mark.parametrize("frames", [4, 16, 64])
def test_every_frame_has_its_own_budget(demo: registry.Loaded, tmp_path: Path, frames: int) -> None:
    """The demo model was trained on frames of one size, however many there are. Twin: the processor's own budget."""
    clip = walk(tmp_path / "walk.mp4", to_right=True)
    sampling = FrameSampling(fps=10.0, max_frames=frames)
    (receipt,) = receipts(built(demo, chat(clip, "What?"), sampling))
    assert len(receipt.frames) == frames
    assert (receipt.seen_px, receipt.tokens) == ((128, 96), frames // 2 * 12)
    assert receipt.decoded_px == (192, 144)
    (twin,) = built(replace(demo, video_settings={}), chat(clip, "What?"), sampling).media
    assert (twin.seen_px == receipt.seen_px) == (frames == 16)


def test_clips_of_different_lengths_in_one_prompt(demo: registry.Loaded, tmp_path: Path) -> None:
    """Each has the budget of its own number of frames; the processor has its own numbers again afterwards."""
    clip = walk(tmp_path / "walk.mp4", to_right=True)
    inner = demo.processor.video_processor
    before = (inner.min_pixels, inner.max_pixels)
    prompt = built(demo, chat(clip, "and", clip, "?"), FrameSampling(max_frames=4), FrameSampling(max_frames=16))
    assert [(r.seen_px, r.tokens) for r in prompt.media] == [((128, 96), 24), ((128, 96), 96)]
    assert (inner.min_pixels, inner.max_pixels) == before


def test_what_was_seen_is_the_key(demo: registry.Loaded, tmp_path: Path) -> None:
    """Equal pixels at another size are another medium to the prefix cache."""
    clip = walk(tmp_path / "walk.mp4", to_right=True)
    small = replace(demo, video_settings={"frame_longest_edge": 4096})
    sampling = FrameSampling(max_frames=4)
    keys = [set(filter(lambda i: i < 0, built(d, chat(clip, "?"), sampling).cache_ids)) for d in (demo, small)]
    assert len(keys[0]) == len(keys[1]) == 1
    assert keys[0] != keys[1]
    again = built(demo, chat(clip, "?"), sampling).cache_ids
    assert set(filter(lambda i: i < 0, again)) == keys[0]


@pytest.mark.parametrize("to_right", [True, False])
async def test_many_frames_are_understood(demo_engine: Any, tmp_path: Path, to_right: bool) -> None:
    clip = walk(tmp_path / "walk.mp4", to_right=to_right, size=(320, 240))
    request = chat(clip, "Which way does it move?", frames=FrameSampling(fps=8.0, max_frames=64))
    answer = await ask(demo_engine, request)
    assert len(answer.done.media[0].frames) == 64
    assert answer.text == f"It moves to the {'right' if to_right else 'left'}."


def test_families_without_a_budget_are_left_alone(tiny_model: Callable[..., Path], clip_path: Path) -> None:
    loaded = registry.load(EngineConfig(model=replace(EngineConfig().model, source=str(tiny_model("idefics3")))))
    plain = built(loaded, chat(clip_path, "?"), FrameSampling())
    keyed = built(replace(loaded, video_settings={"frame_longest_edge": 4096}), chat(clip_path, "?"), FrameSampling())
    assert plain.ids == keyed.ids


# -- budgets that a request asks for -----------------------------------------------------------------------------------


def seen(loaded: registry.Loaded, *pieces: Any, frames: FrameSampling = EVERYTHING, **more: Any) -> Any:
    """Receipts of pieces, the media of which have these fields in their parts."""
    request = chat(*pieces)
    parts = tuple(p if p.kind == "text" else replace(p, **more) for p in request.messages[0].parts)
    request = replace(request, messages=(replace(request.messages[0], parts=parts),))
    num_media = sum(p.kind != "text" for p in parts)
    return receipts(built(loaded, request, *[frames] * num_media))


def test_low_detail_costs_less(demo: registry.Loaded) -> None:
    """Twin: high and auto are what the model takes by itself."""
    photo = picture("#ff0000", "circle", (640, 480))
    cost = {detail: seen(demo, photo, "?", detail=detail)[0] for detail in ("low", "auto", "high")}
    assert cost["auto"].tokens == cost["high"].tokens == 12
    assert cost["low"].tokens == 6 < cost["auto"].tokens
    assert cost["low"].seen_px == (96, 64)
    assert cost["low"].sha256 == cost["auto"].sha256, "it is the same picture"


def test_a_budget_of_one_picture_is_its_own(demo: registry.Loaded) -> None:
    photo = picture("#ff0000", "circle", (640, 480))
    request = chat(photo, photo, "?")
    first, second, text = request.messages[0].parts
    request = replace(
        request, messages=(replace(request.messages[0], parts=(replace(first, max_pixels=4096), second, text)),)
    )
    prompt = built(demo, request, FrameSampling(), FrameSampling())
    assert [r.tokens for r in prompt.media] == [2, 12]
    assert len({i for i in prompt.cache_ids if i < 0}) == 2


@pytest.mark.parametrize("family", ["gemma3", "idefics3", "pixtral", "llava", "qwen2_5_vl"])
def test_every_family_takes_a_budget(tiny_model: Callable[..., Path], clip_path: Path, family: str) -> None:
    """Families of one size see a coarser picture of the same size; the prompt stays whole."""
    loaded = registry.load(EngineConfig(model=replace(EngineConfig().model, source=str(tiny_model(family)))))
    photo = picture("#ff0000", "circle", (640, 480))
    (plain,), (small,) = seen(loaded, photo, "?"), seen(loaded, photo, "?", max_pixels=64 * 64)
    assert 0 < small.tokens <= plain.tokens
    assert (small.tokens < plain.tokens) == (small.seen_px != plain.seen_px) or family == "idefics3"
    (clip,) = seen(loaded, clip_path, "?", frames=FrameSampling(max_pixels=4 * 56 * 56))
    assert clip.tokens > 0


def test_more_frames_at_one_budget_are_blurrier(demo: registry.Loaded, tmp_path: Path) -> None:
    clip = walk(tmp_path / "walk.mp4", to_right=True)
    sizes = {
        count: seen(demo, clip, "?", frames=FrameSampling(fps=10.0, max_frames=count, max_pixels=8 * 128 * 96))[0]
        for count in (4, 8, 16, 32)
    }
    assert [sizes[n].seen_px for n in (4, 8, 16, 32)] == [(128, 96), (128, 96), (64, 64), (64, 32)]
    assert all(len(r.frames) * r.seen_px[0] * r.seen_px[1] <= 8 * 128 * 96 for r in sizes.values())


def test_a_budget_that_nothing_can_meet_is_refused(demo: registry.Loaded, clip_path: Path) -> None:
    with pytest.raises(BadMedia, match=r"1,000 pixels are too few; .* is 4,096"):
        seen(demo, clip_path, "?", frames=FrameSampling(max_pixels=1000))
    (tight,) = seen(demo, picture("red", "circle", (70, 60)), "?", max_pixels=9216)
    assert tight.seen_px == (64, 64), "its least, 9,216 pixels, would round up to more than was asked for"
    with pytest.raises(BadMedia, match="500 pixels are too few"):
        seen(demo, picture("red"), "?", max_pixels=500)


def test_at_least_so_many_pixels(demo: registry.Loaded) -> None:
    """Twin: by itself the model reads the least that it can."""
    small = picture("#ff0000", "circle", (64, 64))
    (plain,), (more,) = seen(demo, small, "?"), seen(demo, small, "?", min_pixels=16_000)
    assert plain.seen_px == (96, 96) and more.seen_px == (128, 128) and more.tokens > plain.tokens
    assert seen(demo, small, "?", min_pixels=10)[0].seen_px == (96, 96), "it has so many anyway"
    with pytest.raises(BadMedia, match=r"min_pixels: 16,385 are more than this model reads of it, 16,384"):
        seen(demo, small, "?", min_pixels=16_385)


def test_exactly_this_size(demo: registry.Loaded, clip_path: Path) -> None:
    """Rounded to the model's patches, as Qwen's tools do; also of every frame of a clip."""
    photo = picture("#ff0000", "circle", (640, 480))
    assert seen(demo, photo, "?", exact_px=(100, 130))[0].seen_px == (96, 128)
    assert seen(demo, clip_path, "?", exact_px=(100, 100))[0].seen_px == (96, 96)
    with pytest.raises(BadMedia, match=r"resized_width, resized_height: 512 x 512 are 262,144 pixels; of this, 9,216"):
        seen(demo, photo, "?", exact_px=(512, 512))


def test_bounds_of_a_clip_are_of_each_frame(demo: registry.Loaded, tmp_path: Path) -> None:
    clip, sampling = walk(tmp_path / "walk.mp4", to_right=True), FrameSampling(max_frames=8)
    plain, few = (seen(demo, clip, "?", frames=sampling, max_pixels=most)[0] for most in (None, 9216))
    assert plain.seen_px == (128, 96) and len(few.frames) == 8
    assert 9216 // 2 < few.seen_px[0] * few.seen_px[1] <= 9216
    small = walk(tmp_path / "small.mp4", to_right=True, size=(64, 48))
    assert seen(demo, small, "?", frames=sampling, min_pixels=12_288)[0].seen_px == (128, 96)
    with pytest.raises(BadMedia, match="min_pixels"):
        seen(demo, small, "?", frames=sampling, min_pixels=20_000)


@pytest.mark.parametrize("asked", [{"min_pixels": 9}, {"exact_px": (96, 96)}])
def test_families_with_sizes_of_their_own_refuse(tiny_model: Callable[..., Path], asked: dict[str, Any]) -> None:
    loaded = registry.load(EngineConfig(model=replace(EngineConfig().model, source=str(tiny_model("idefics3")))))
    with pytest.raises(BadMedia, match="this model reads every picture at a size of its own"):
        seen(loaded, picture("red"), "?", **asked)
