"""questions: long lists cost as much as they are long, and never the event loop's time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.models.decision_settings import DecisionSettings
from engine.prompt import questions
from engine.prompt.question_tokens import QuestionPrompts
from engine.prompt.questions import question_parts
from engine.types import Message, Option, Part, Request, TypedQuestion
from tests.conftest import EngineFor

SETTINGS = DecisionSettings()


def text(words: str) -> Part:
    return Part("text", text=words, param="questions[0]")


def listed(num_options: int, words: str) -> TypedQuestion:
    options = tuple(Option(f"option {i:03}", (text(words), text("!"))) for i in range(num_options))
    return TypedQuestion("choice", (text(" Well"), text(", which? ")), options, "questions[0]")


def test_the_texts_of_a_question_are_one() -> None:
    (part,) = question_parts(listed(2, "long"), SETTINGS)
    assert part.text == (
        "Well, which? \nOptions:\n- option 000: long!\n- option 001: long!\nAnswer with one of the options only."
    )


def test_media_stay_where_they_are() -> None:
    seen = Part("image", url="data:,x", param="questions[0]")
    asked = TypedQuestion("choice", (text("a"), text("b"), seen, seen, text("c")), (Option("x", (seen,)), Option("y")))
    parts = question_parts(asked, SETTINGS)
    assert [part.kind for part in parts] == ["text", "image", "image", "text", "image", "text"]
    assert parts[0].text == "ab" and parts[3].text == "c\nOptions:\n- x: "


@pytest.mark.parametrize("num_options", [10, 255])
def test_every_text_is_joined_once(num_options: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not timed: characters of texts that are made."""
    made: list[int] = []
    replace = questions.replace

    def counted(part: Part, **changes: Any) -> Part:
        made.append(len(changes["text"]))
        return replace(part, **changes)

    monkeypatch.setattr(questions, "replace", counted)
    (part,) = question_parts(listed(num_options, "word " * 100), SETTINGS)
    assert len(part.text) > 500 * num_options
    assert sum(made) <= 2 * len(part.text) + 100, "texts are joined again and again"


async def test_questions_are_put_together_off_the_event_loop(
    tiny_model: Callable[..., Path], engine_for: EngineFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: dict[str, set[int]] = {}

    def noted(name: str) -> Callable[..., Any]:
        own = getattr(QuestionPrompts, name)

        def method(*args: Any) -> Any:
            threads.setdefault(name, set()).add(threading.get_ident())
            return own(*args)

        return method

    for name in ("groups", "request", "build"):
        monkeypatch.setattr(QuestionPrompts, name, noted(name))
    engine = await engine_for(tiny_model("llama"))
    request = Request(messages=(Message("user", (text("Something."),)),))
    decided = await engine.decide(request, (listed(3, "x"), listed(40, "word " * 20), listed(2, "y")))
    assert len(decided.answers) == 3 and set(threads) == {"groups", "request", "build"}
    assert threading.get_ident() not in set.union(*threads.values()), "on the event loop"
