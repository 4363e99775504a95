"""Decisions with sense in the words: a trained language model picks what a text is about; and its answer follows the
text, not the options."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.types import Decision, Request
from tests.conftest import EngineFor
from tests.engine.drive import user
from tests.engine.runtime.test_decide import question

FRANCE = "The capital of France is Paris. It lies on the river Seine."
COMPLAINT = "I was charged twice for my order and nobody answers my letters. I want my money back now!"
PRAISE = "This movie was wonderful, I loved every minute of it!"
SLATING = "What a terrible film. I wasted two hours of my life."
CITY = question("choice", "Which city is named?", "London", "Paris", "Rome", "Berlin")
COUNTRY = question("choice", "Which country is it about?", "Germany", "Spain", "France")
FEELING = question("choice", "What is the sentiment of this review?", "negative", "positive")
COOKING = question("predicate", "The text is about cooking.")


async def decide(engine: Any, text: str, *questions: Any) -> tuple[Decision, ...]:
    decided = await engine.decide(Request(messages=(user(text),)), questions)
    return tuple(decided.answers)


async def test_choices_follow_the_text(smollm2: Path, engine_for: EngineFor) -> None:
    engine = await engine_for(smollm2, max_num_seqs=8)
    city, country, cooking = await decide(engine, FRANCE, CITY, COUNTRY, COOKING)
    assert CITY.options[city.best].text == "Paris" and city.confidence > 0.5
    assert COUNTRY.options[country.best].text == "France"
    assert cooking.probabilities[0] < 0.5
    (mood,) = await decide(engine, COMPLAINT, question("choice", "What is the mood of the customer?", "happy", "angry"))
    assert mood.best == 1


async def test_what_is_read_moves_the_probability(smollm2: Path, engine_for: EngineFor) -> None:
    """So small a model leans to one side whatever it reads; but it leans less where the text says otherwise."""
    engine = await engine_for(smollm2, max_num_seqs=8)
    (praise,), (slating,) = [await decide(engine, text, FEELING) for text in (PRAISE, SLATING)]
    assert praise.probabilities[1] > slating.probabilities[1] + 0.02


async def test_sabotage_another_text_is_seen(
    smollm2: Path, engine_for: EngineFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twin: the rows go on from a prompt that is not theirs, as where they share what is not the same."""
    from engine.cache import tensors

    behind = tensors._behind_shared

    def empty(layer: Any, *own: Any) -> Any:
        nothing = SimpleNamespace(keys=0.0 * layer.keys, values=0.0 * layer.values, offset=layer.offset)
        return behind(nothing, *own)

    monkeypatch.setattr(tensors, "_behind_shared", empty)
    with pytest.raises(AssertionError, match="Paris"):
        await test_choices_follow_the_text(smollm2, engine_for)
