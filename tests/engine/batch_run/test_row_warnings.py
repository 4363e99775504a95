"""What is marked for a person to look at."""

from __future__ import annotations

from typing import Any

import pytest

from engine.batch_run import row_warnings as marks

LONG = "The picture shows a quiet street in the evening, with people who walk their dogs."


def record(**changes: Any) -> dict[str, Any]:
    receipt = {"tokens": 12, "decoded": [100, 80], "seen": [64, 64], "sha256": "a"}
    plain = {"key": "1", "answer": LONG, "finish_reason": "stop", "medium": "image", "described": False}
    return {**plain, "media": [{**receipt, **changes.pop("receipt", {})}], **changes}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, []),
        ({"finish_reason": "length"}, [marks.CUT_OFF]),
        ({"valid": False}, [marks.NOT_JSON]),
        ({"valid": True}, []),
        ({"receipt": {"tokens": 0}}, [marks.NO_TOKENS]),
        ({"media": []}, [marks.NO_TOKENS]),
        ({"media": [], "described": True}, []),
        ({"media": [], "medium": None}, []),
        ({"receipt": {"decoded": [129, 64]}}, [marks.SHRUNK]),
        ({"receipt": {"decoded": [128, 128]}}, []),
        ({"receipt": {"decoded": [900, 900]}, "medium": "document"}, []),
        ({"error": {"message": "damaged"}, "finish_reason": "length"}, []),
        ({"finish_reason": "length", "edited": True}, []),
        ({"valid": False, "edited": True}, [marks.NOT_JSON]),
    ],
)
def test_what_one_row_says(changes: Any, found: list[str]) -> None:
    assert marks.warnings_of(record(**changes)) == found


def test_one_long_answer_for_two_pictures() -> None:
    def other(key: str, sha256: str, answer: str = LONG, **more: Any) -> Any:
        return record(key=key, answer=answer, receipt={"sha256": sha256}, **more)

    def same(*records: Any) -> list[str]:
        """Keys of the records that say what another one says."""
        known = marks.SameAnswers()
        for one in records:
            known.note(one)
        return [one["key"] for one in records if marks.SAME_ANSWER in marks.all_warnings(one, known)]

    assert same(other("1", "a"), other("2", "b", f" {LONG}\n"), other("3", "c", LONG + "!")) == ["1", "2"]
    assert same(other("1", "a"), other("2", "a")) == [], "it is the same picture"
    assert same(other("1", "a", "It is red."), other("2", "b", "It is red.")) == []
    assert same(other("1", "a", error={}), other("2", "b", decisions=[])) == []
    assert same(other("1", "a"), other("2", "b", edited=True)) == [], "a person has looked at it"
    assert same(other("1", "a"), other("2", "b"), other("2", "b", "No.")) == [], "the later record counts"
