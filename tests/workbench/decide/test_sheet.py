"""The pure half of the Decide tab: rows to questions, answers to bars, both to CSV and back."""

from __future__ import annotations

from typing import Any

import pytest

from engine.batch_run.question_table import read_csv, typed_questions
from engine.types import Decision, Decisions, Done, Timing, Usage
from workbench.decide import sheet

ROWS: list[Any] = [
    {"question": "Is it red?", "type": "yes or no", "options": []},
    {"question": "Which, of these?", "type": "choice", "options": ["a, b", "c|d", '"e"', "[f]", "ü\n"]},
    {"question": "How much?", "type": "score", "options": ["none", "some", "all"]},
]


def decisions(*probabilities: tuple[float, ...]) -> Decisions:
    done = Done("stop", Usage(1234, 0, 1000), Timing(total_ms=210.0))
    return Decisions(tuple(map(Decision, probabilities)), done)


def test_answers_are_words_and_bars() -> None:
    asked = typed_questions([ROWS[0], ROWS[2]])
    drawn = sheet.answers_json(asked, decisions((0.9, 0.1), (0.1, 0.2, 0.7)))
    assert drawn["summary"] == "2 questions in 210 ms · 1,234 tokens, 1,000 of them from the cache"
    yes, much = drawn["answers"]
    assert (yes["answer"], yes["confidence"]) == ("Yes", pytest.approx(0.8))
    assert much["answer"] == "all, mean 1.60 of 0 to 2"
    assert [(bar["label"], bar["best"]) for bar in much["bars"]] == [("none", False), ("some", False), ("all", True)]
    assert [bar["probability"] for bar in much["bars"]] == [0.1, 0.2, 0.7]


def test_what_is_exported_can_be_imported_again() -> None:
    rows = [{**row, "options": [option.strip() for option in row["options"]]} for row in ROWS]
    assert read_csv(sheet.write_csv(rows)) == rows
    asked = typed_questions(rows)
    answers = sheet.answers_json(asked, decisions((0.9, 0.1), (0.2,) * 5, (0.1, 0.2, 0.7)))["answers"]
    text = sheet.write_csv(rows, answers)
    assert text.splitlines()[0] == "question,type,options,answer,confidence,probabilities"
    assert '""some"": 0.2' in text and read_csv(text) == rows
