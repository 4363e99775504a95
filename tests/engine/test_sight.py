"""The demo model's answers are true: of a picture, of several, of a clip, in a follow-up, in chats of 8 and 24 turns,
after a long system prompt, as boxes, in a batch of mixed rows, on every example card. A swapped row, a lost frame or a
wrong picture is a wrong word here; shuffled weights must fail.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw
from safetensors.numpy import load_file, save_file

from engine.assets import asset
from engine.config import EngineConfig, ModelSpec
from engine.types import FrameSampling, Message, Part, Request
from tests.engine.drive import GREEDY, ask, chat, user
from tests.pictures import PAPER, Shape, keeps_promise, picture, write_clip

SEEN = "What is in this image?"
HONEST = "I am only a tiny demo model, so I cannot answer that. Please load a larger model."
COLOURS = {"red": "red", "#00aa00": "green", "blue": "blue", "#ffdd00": "yellow"}
SHAPES: tuple[Shape, ...] = ("circle", "square", "triangle")
WAYS = {"to the left": (-1, 0), "to the right": (1, 0), "up": (0, -1), "down": (0, 1)}


def moving(path: Path, way: str, num_frames: int = 16, fps: float = 8.0) -> Path:
    """A blue square that crosses half of the picture."""
    frames = []
    for index in range(num_frames):
        image = Image.new("RGB", (320, 240), PAPER)
        along = 80 * (2 * index / (num_frames - 1) - 1)
        x, y = (centre + along * step for centre, step in zip((160, 120), WAYS[way], strict=True))
        ImageDraw.Draw(image).rectangle((x - 36, y - 36, x + 36, y + 36), fill="blue")
        frames.append(image)
    return write_clip(path, frames, fps)


async def answer(engine: Any, *pieces: Any, **more: Any) -> str:
    return (await ask(engine, chat(*pieces, max_tokens=48, **more))).text


def right(text: str, *words: str) -> bool:
    return all(word in text.lower().replace(".", "").split() for word in words)


async def described(engine: Any) -> float:
    """Share of twelve pictures of one shape that are named with the right colour and shape."""
    cases = [(colour, name, shape) for colour, name in COLOURS.items() for shape in SHAPES]
    texts = await asyncio.gather(
        *(answer(engine, picture(colour, shape, (256, 256)), SEEN) for colour, _, shape in cases)
    )
    return sum(right(text, name, shape) for text, (_, name, shape) in zip(texts, cases, strict=True)) / len(cases)


QUESTIONS = (SEEN, "What color is it?", "What shape is it?")
SCREED = " ".join(
    f"Rule {number}: the assistant answers the {who} in plain words and never talks about {what}."
    for number, (who, what) in enumerate(
        itertools.product(
            ("customer", "engineer", "manager", "visitor"), ("prices", "politics", "the weather", "music")
        ),
        1,
    )
)


async def remembered(engine: Any, num_turns: int) -> float:
    """Share of right answers in chats of this many turns: eight new pictures, then questions about the last of them.
    Each question follows the model's own answers."""

    async def hold(first: int) -> int:
        cases = [(colour, name, shape) for shape in SHAPES for colour, name in COLOURS.items()]
        turns: list[Message] = []
        hits = 0
        for number in range(num_turns):
            colour, name, shape = cases[(first + 5 * min(number, 7)) % len(cases)]
            shown = (picture(colour, shape, (256, 256)),) if number < 8 else ()
            question = QUESTIONS[(number + first) % 3]
            turns.append(user(*shown, question))
            text = (await ask(engine, Request(messages=tuple(turns), sampling=GREEDY, max_tokens=48))).text
            turns.append(Message("assistant", (Part("text", text=text),)))
            hits += right(text, *(word for word, asked in ((name, "shape"), (shape, "color")) if asked not in question))
        return hits

    return sum(await asyncio.gather(*(hold(first) for first in range(3)))) / (3 * num_turns)


async def obeyed(engine: Any) -> float:
    """Share of twelve pictures that are described in spite of a system prompt of some 500 tokens."""
    cases = [(colour, name, shape) for colour, name in COLOURS.items() for shape in SHAPES]
    system = Message("system", (Part("text", text=SCREED),))
    requests = [
        Request(messages=(system, user(picture(colour, shape, (256, 256)), SEEN)), sampling=GREEDY, max_tokens=48)
        for colour, _, shape in cases
    ]
    done = await asyncio.gather(*(ask(engine, request) for request in requests))
    assert all(answer.done.usage.prompt_tokens > 500 for answer in done)
    return sum(right(a.text, name, shape) for a, (_, name, shape) in zip(done, cases, strict=True)) / len(cases)


def overlap(box: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    wide = min(box[2], other[2]) - max(box[0], other[0])
    high = min(box[3], other[3]) - max(box[1], other[1])
    shared = max(0.0, wide) * max(0.0, high)
    size = sum((right - left) * (bottom - top) for left, top, right, bottom in (box, other))
    return shared / (size - shared)


async def boxed(engine: Any) -> float:
    """Mean overlap of the boxes around twelve squares, each at a place of its own, with the squares."""

    async def one(number: int, colour: str) -> float:
        x, y, side = 60 + 85 * (number % 4), 70 + 80 * (number // 4), 110
        image = Image.new("RGB", (480, 360), PAPER)
        ImageDraw.Draw(image).rectangle((x, y, x + side, y + side), fill=colour)
        request = chat(image, "Where is the square? Answer with a box.", max_tokens=96)
        (receipt,) = (await ask(engine, request)).done.media
        return max((overlap(region.px, (x, y, x + side, y + side)) for region in receipt.regions), default=0.0)

    places = [one(number, list(COLOURS)[number % 4]) for number in range(12)]
    return sum(await asyncio.gather(*places)) / len(places)


async def test_a_box_is_where_the_shape_is(demo_engine: Any) -> None:
    assert await boxed(demo_engine) > 0.7


async def test_every_row_of_a_batch_gets_its_own_pictures_answer(demo_engine: Any) -> None:
    assert await described(demo_engine) == 1.0


async def test_shuffled_weights_see_nothing(tmp_path: Path, engine_pool: Any) -> None:
    """The twin: the same checks on the same weights in another order."""
    folder = tmp_path / "shuffled"
    shutil.copytree(asset("demo-model"), folder)
    random = np.random.default_rng(0)
    weights = load_file(folder / "model.safetensors")
    shuffled = {name: random.permutation(value.reshape(-1)).reshape(value.shape) for name, value in weights.items()}
    save_file(shuffled, folder / "model.safetensors", metadata={"format": "mlx"})
    engine = engine_pool.borrow(EngineConfig(model=ModelSpec(str(folder))))
    assert await described(engine) < 0.2
    assert await remembered(engine, 2) < 0.2
    assert await obeyed(engine) < 0.2
    assert await boxed(engine) < 0.1


@pytest.mark.parametrize(("num_turns", "least"), [(8, 0.95), (24, 0.95)])
async def test_a_long_chat_is_about_the_last_picture(demo_engine: Any, num_turns: int, least: float) -> None:
    assert await remembered(demo_engine, num_turns) >= least


async def test_a_long_system_prompt_changes_nothing(demo_engine: Any) -> None:
    assert await obeyed(demo_engine) >= 0.9


@pytest.mark.parametrize(
    "text",
    ["Lorem ipsum dolor sit amet, consectetur adipiscing elit.", SCREED, "def f(x):\n    return x", "你好", "🙂"],
)
async def test_words_it_was_not_taught_get_one_honest_sentence(demo_engine: Any, text: str) -> None:
    done = await ask(demo_engine, chat(text, max_tokens=64))
    assert (done.text, done.done.finish_reason) == (HONEST, "stop")


async def test_two_pictures_are_told_apart_and_their_order_counts(demo_engine: Any) -> None:
    red, blue = picture("red", "circle", (256, 256)), picture("blue", "square", (256, 256))
    first = await answer(demo_engine, red, blue, "Compare these images.")
    second = await answer(demo_engine, blue, red, "Compare these images.")
    assert first.index("red circle") < first.index("blue square")
    assert second.index("blue square") < second.index("red circle")


@pytest.mark.parametrize("way", WAYS)
async def test_a_clip_moves_the_way_it_moves(demo_engine: Any, tmp_path: Path, way: str) -> None:
    clip = moving(tmp_path / "clip.mp4", way)
    assert way in await answer(demo_engine, clip, "What happens in this video?")


async def test_sixty_four_frames_are_as_sharp_as_four(demo_engine: Any, tmp_path: Path) -> None:
    clip = moving(tmp_path / "clip.mp4", "up", num_frames=64)
    frames = FrameSampling(fps=8.0, max_frames=64)
    done = await ask(demo_engine, chat(clip, "What happens in this video?", max_tokens=48, frames=frames))
    assert len(done.done.media[0].frames) == 64
    assert right(done.text, "blue", "square", "moves", "up"), done.text


async def test_a_follow_up_is_about_the_earlier_picture(demo_engine: Any) -> None:
    first = await answer(demo_engine, picture("#00aa00", "triangle", (256, 256)), SEEN)
    turns = (
        user(picture("#00aa00", "triangle", (256, 256)), SEEN),
        Message("assistant", (Part("text", text=first),)),
        user("What color is it? Answer in one word."),
    )
    text = (await ask(demo_engine, Request(messages=turns, sampling=GREEDY, max_tokens=16))).text
    assert text == "Green."


async def test_text_picture_and_clip_rows_side_by_side(demo_engine: Any, tmp_path: Path) -> None:
    clip = moving(tmp_path / "clip.mp4", "down")
    texts = await asyncio.gather(
        answer(demo_engine, "Who are you?"),
        answer(demo_engine, picture("blue", "circle", (300, 200)), SEEN),
        answer(demo_engine, clip, "What happens in this video?"),
        answer(demo_engine, "What color is the square?", picture("red", "square", (128, 128))),
    )
    assert "demo model" in texts[0]
    assert right(texts[1], "blue", "circle")
    assert right(texts[2], "blue", "square", "down")
    assert texts[3] == "It is red."


def test_what_keeps_a_promise() -> None:
    box = '[{"bbox_2d": [690, 30, 960, 350], "label": "yellow star"}]'
    assert keeps_promise(box.replace("690", "680"), box)
    assert not keeps_promise(box.replace("690", "630"), box)
    assert not keeps_promise(box.replace("yellow", "red"), box)
    assert not keeps_promise("It is yellow.", "It is red.")


async def test_every_sample_gets_the_answer_it_promises(demo_engine: Any) -> None:
    folder = asset("samples")
    samples = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
    kinds = {".mp4": "video"}
    requests = [
        Request(
            messages=(
                Message(
                    "user",
                    (
                        *(Part(kinds.get(Path(f).suffix, "image"), path=str(folder / f)) for f in sample["files"]),  # type: ignore[arg-type]
                        Part("text", text=sample["text"]),
                    ),
                ),
            )
        )
        for sample in samples
    ]
    answers = await asyncio.gather(*(ask(demo_engine, request) for request in requests))
    broken = [a.text for a, sample in zip(answers, samples, strict=True) if not keeps_promise(a.text, sample["expect"])]
    assert not broken
