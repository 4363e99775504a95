"""Answers that a person has corrected: what the model said stays beside them, and can be had back."""

from __future__ import annotations

from typing import Any

import pytest

from engine.batch_run.edited import with_answer, with_decision
from engine.batch_run.output import table
from engine.errors import BadRequest

PLAIN: dict[str, Any] = {"key": "a.png", "stamp": "1", "answer": "A red circle.", "finish_reason": "stop"}


def decided() -> dict[str, Any]:
    colour = {"question": "Color?", "type": "choice", "answer": "red", "confidence": 0.9}
    number = {"question": "How many?", "type": "score", "answer": "one, mean 0.98 of 0 to 3", "confidence": 0.8}
    decisions = [
        {**colour, "probabilities": {"red": 0.9, "blue": 0.1}},
        {**number, "probabilities": {"none": 0.1, "one": 0.9}},
    ]
    return {**PLAIN, "answer": "Color? red; How many? one, mean 0.98 of 0 to 3", "decisions": decisions}


def test_an_answer_and_the_way_back() -> None:
    changed = with_answer(PLAIN, "A red square.")
    assert changed == {**PLAIN, "answer": "A red square.", "edited": True, "model_answer": PLAIN["answer"]}
    twice = with_answer(changed, "A square.")
    assert twice["model_answer"] == PLAIN["answer"]
    assert with_answer(twice, PLAIN["answer"]) == PLAIN


def test_json_is_read_again() -> None:
    record = {**PLAIN, "answer": '{"a": 1}', "value": {"a": 1}, "valid": True}
    good, bad = with_answer(record, '{"a": 2}'), with_answer(record, "{")
    assert good["value"] == {"a": 2} and good["valid"]
    assert bad["value"] is None and not bad["valid"]
    assert with_answer(bad, '{"a": 1}') == record


def test_a_decision_is_one_of_its_options() -> None:
    changed = with_decision(decided(), 0, "blue")
    assert changed["answer"] == "Color? blue; How many? one, mean 0.98 of 0 to 3" and changed["edited"]
    assert changed["decisions"][0]["model_answer"] == "red" and changed["decisions"][0]["probabilities"]["red"] == 0.9
    both = with_decision(changed, 1, "none")
    assert with_decision(with_decision(both, 1, "one, mean 0.98 of 0 to 3"), 0, "red") == decided()
    for place, option in ((0, "green"), (2, "red"), (-1, "red")):
        with pytest.raises(BadRequest):
            with_decision(decided(), place, option)
    with pytest.raises(BadRequest):
        with_answer(decided(), "blue")
    with pytest.raises(BadRequest):
        with_answer({"key": "b", "error": {"message": "damaged"}}, "red")


def test_the_table_says_which() -> None:
    rest = {"file": "a.png", "page": None, "columns": {}, "error": None, "warnings": []}
    frame = table([{**with_answer(PLAIN, "No."), **rest}, {**PLAIN, **rest}])
    assert list(frame["edited"].fillna(False)) == [True, False]
    assert list(frame["answer"]) == ["No.", PLAIN["answer"]] and frame["model_answer"][0] == PLAIN["answer"]
    assert "edited" not in table([{**PLAIN, **rest}]), "a column where there is something to say"
