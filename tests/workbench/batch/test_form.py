"""What the page sends -> the task of the runner."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from engine.errors import BadRequest
from workbench.batch.form import RunForm, task_of


def task(**fields: Any) -> Any:
    return task_of(RunForm(**fields))


def test_the_forms_of_an_answer() -> None:
    text = task(prompt="What is {name}?", schema_text="{", questions=[{}])
    assert (text.prompt, text.schema, text.questions, text.sampling.temperature) == ("What is {name}?", None, (), 0.0)
    assert task(prompt="?", form="json", schema_text='{"type": "object"}').schema == {"type": "object"}
    asked = task(form="questions", questions=[{"question": "Is it red?", "type": "yes or no"}])
    assert [one.kind for one in asked.questions] == ["predicate"] and asked.prompt == ""
    assert task(prompt="?").settings({}) == task(prompt="?").settings({})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prompt": " "}, "Write first what to ask"),
        ({"prompt": "?", "form": "json", "schema_text": '{"a": '}, "The schema is not JSON"),
        ({"prompt": "?", "form": "json", "schema_text": "[]"}, "must be an object"),
        ({"form": "questions"}, "between 1 and 400"),
        ({"form": "questions", "questions": [{"question": "", "type": "yes or no"}]}, "Question 1: it has no words"),
    ],
)
def test_what_is_wrong_is_said(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        task(**fields)


@pytest.mark.parametrize("fields", [{"form": "xml"}, {"max_tokens": 0}, {"temperature": -1}])
def test_no_other_values(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RunForm(prompt="?", **fields)
