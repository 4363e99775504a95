"""Questions as rows of a table and as CSV."""

from __future__ import annotations

from typing import Any

import pytest

from engine.batch_run.question_table import read_csv, typed_questions
from engine.errors import BadRequest

ROWS: list[Any] = [
    {"question": "Is it red?", "type": "yes or no", "options": []},
    {"question": "How much?", "type": "score", "options": ["none", "some", "all"]},
]


def test_rows_become_questions() -> None:
    asked = typed_questions(ROWS)
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
        typed_questions([row])


def test_tables_of_others_are_read() -> None:
    text = "Instructions, Kind ,values,note\nIs it?,predicate,,x\nWhich?,,a | b,\nHow?,score,a|b,\n"
    assert [(r["question"], r["type"], r["options"]) for r in read_csv(text)] == [
        ("Is it?", "yes or no", []),
        ("Which?", "choice", ["a", "b"]),
        ("How?", "score", ["a", "b"]),
    ]
    assert read_csv("question\nNA\n") == [{"question": "NA", "type": "yes or no", "options": []}]


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
        read_csv(text)
