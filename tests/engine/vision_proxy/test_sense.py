"""A model that cannot see says what is there all the same: the vision model's words reach it, and they are about the
very picture that was sent."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.bounded import BoundedCache
from engine.config import EngineConfig, ModelSpec, VisionProxy
from engine.types import Description, Request
from tests.conftest import EnginePool
from tests.engine.drive import Answer, ask, chat
from tests.pictures import picture

ASKED = "What colour is the circle?"
SHADES = {
    "red": ("#ff0000", "#f01010", "#e00000", "#fa0a1e"),
    "orange": ("#ff8000", "#f58214", "#ff8c00"),
    "yellow": ("#ffdd00", "#ffe600", "#f5dc0a"),
    "green": ("#00aa00", "#0a9614", "#14b428"),
    "blue": ("#0000ff", "#1e32f0", "#0a28e6", "#2040e0"),
    "purple": ("#800080", "#8c14a0", "#78148c"),
}
DRAWINGS = [(name, shades[i]) for i in range(4) for name, shades in SHADES.items() if i < len(shades)]
"""Each of another colour than the one before."""
NUM_RIGHT = 18
"""Of the 20 drawings: both models are small, and both may err once."""


@pytest.fixture(scope="module")
def engine(smollm2: Path, engine_pool: EnginePool) -> Any:
    """A language model with sense, and the demo model as its eyes."""
    words = ModelSpec(str(smollm2), name="words", vision="proxy", vision_proxy=VisionProxy("demo"))
    return engine_pool.start(EngineConfig(more_models=(words,)))


def about(shade: str, question: str = ASKED, **more: Any) -> Request:
    return chat(picture(shade, "circle", (160, 120)), question, model="words", max_tokens=12, **more)


async def answered(engine: Any) -> list[tuple[str, Answer]]:
    """The colour of each drawing, and what was answered about it."""
    await engine.ready("words")
    answers = await asyncio.gather(*(ask(engine, about(shade)) for _, shade in DRAWINGS))
    return [(name, answer) for (name, _), answer in zip(DRAWINGS, answers, strict=True)]


def check_right(answers: list[tuple[str, Answer]]) -> None:
    """The text model's own words name the right colour, and no other."""
    others = [set(SHADES) & set(answer.text.lower().replace(".", "").split()) for _, answer in answers]
    num_right = sum(found == {name} for (name, _), found in zip(answers, others, strict=True))
    texts = [(name, answer.text) for name, answer in answers]
    assert num_right >= NUM_RIGHT, f"{num_right} of {len(answers)} answers are right: {texts}"


async def test_the_colour_of_twenty_drawings(engine: Any) -> None:
    answers = await answered(engine)
    assert len(answers) == 20
    check_right(answers)
    for name, answer in answers:
        (description,) = answer.done.descriptions
        assert description.model == "demo" and description.text and answer.done.media == ()
        if name in answer.text:
            assert name in description.text, "the answer comes from what was said"


async def test_with_the_description_of_another_picture_it_is_wrong(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin: what was said about one picture is handed out for the next one."""
    await engine.cache.clear()
    said: list[Description] = [(await ask(engine, about("black"))).done.descriptions[0]]
    get = BoundedCache.get

    def shifted(self: BoundedCache[Any, Any], key: Any) -> Any:
        found = get(self, key)
        if not isinstance(found, Description):
            return found
        said.append(found)
        return replace(said[-2], sha256=found.sha256)

    await answered(engine)
    monkeypatch.setattr(BoundedCache, "get", shifted)
    wrong = await answered(engine)
    with pytest.raises(AssertionError, match="answers are right"):
        check_right(wrong)
