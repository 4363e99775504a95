"""The pure half of the Decide tab: rows to questions, answers to bars, both to CSV and back."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import BadRequest
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


def test_rows_become_questions() -> None:
    asked = sheet.typed_questions([ROWS[0], ROWS[2]])
    assert [q.kind for q in asked] == ["predicate", "score"]
    assert [[o.text for o in q.options] for q in asked] == [["Yes", "No"], ["none", "some", "all"]]
    assert asked[1].instructions[0].text == "How much?" and asked[1].param == "Question 2"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"type": "yes or no"}, "Question 1: it has no words yet"),
        ({"type": "guess", "question": "a"}, "type must be one of yes or no, choice, score"),
        ({"type": "choice", "question": "a", "options": ["b"]}, "at least two options"),
        ({"type": "choice", "question": "a", "options": ["b", " "]}, "each needs words"),
        ({"type": "score", "question": "a", "options": ["b", "b "]}, "two of its options are the same"),
    ],
)
def test_a_row_that_cannot_be_asked_is_named(row: Any, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        sheet.typed_questions([row])


def test_answers_are_words_and_bars() -> None:
    asked = sheet.typed_questions([ROWS[0], ROWS[2]])
    drawn = sheet.answers_json(asked, decisions((0.9, 0.1), (0.1, 0.2, 0.7)))
    assert drawn["summary"] == "2 questions in 210 ms · 1,234 tokens, 1,000 of them from the cache"
    yes, much = drawn["answers"]
    assert (yes["answer"], yes["confidence"]) == ("Yes", pytest.approx(0.8))
    assert much["answer"] == "all (1.60)"
    assert [(bar["label"], bar["best"]) for bar in much["bars"]] == [("none", False), ("some", False), ("all", True)]
    assert [bar["probability"] for bar in much["bars"]] == [0.1, 0.2, 0.7]


def test_what_is_exported_can_be_imported_again() -> None:
    rows = [{**row, "options": [option.strip() for option in row["options"]]} for row in ROWS]
    assert sheet.read_csv(sheet.write_csv(rows)) == rows
    asked = sheet.typed_questions(rows)
    answers = sheet.answers_json(asked, decisions((0.9, 0.1), (0.2,) * 5, (0.1, 0.2, 0.7)))["answers"]
    text = sheet.write_csv(rows, answers)
    assert text.splitlines()[0] == "question,type,options,answer,confidence,probabilities"
    assert '""some"": 0.2' in text and sheet.read_csv(text) == rows


def test_tables_of_others_are_read() -> None:
    text = "Instructions, Kind ,values,note\nIs it?,predicate,,x\nWhich?,,a | b,\nHow?,score,a|b,\n"
    assert [(r["question"], r["type"], r["options"]) for r in sheet.read_csv(text)] == [
        ("Is it?", "yes or no", []),
        ("Which?", "choice", ["a", "b"]),
        ("How?", "score", ["a", "b"]),
    ]
    assert sheet.read_csv("question\nNA\n") == [{"question": "NA", "type": "yes or no", "options": []}]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a table that can be read"),
        ('question\n"a', "not a table that can be read"),
        ("words\na\n", "no column named question"),
        ("question,type\na,guess\n", "Row 1: the type 'guess' is none of"),
        ("question,options\na,[b\n", "Row 1: its options begin with"),
        ("question\n" + "a\n" * 401, "401 rows; at most 400"),
        ("x" * 4_000_001, "at most 4,000,000 are read"),
    ],
)
def test_a_table_that_cannot_be_read_says_why(text: str, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        sheet.read_csv(text)
