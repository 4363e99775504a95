"""What a run says while it goes on, and at its end."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from engine.batch_run.progress import RunProgress, summary


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def record(**more: Any) -> dict[str, Any]:
    plain = {"key": "a.png", "answer": "red", "finish_reason": "stop", "medium": None, "described": False, "media": []}
    tokens = {"prompt_tokens": 20, "cached_tokens": 8, "completion_tokens": 5}
    return {**plain, **tokens, "error": None, "warnings": [], **more}


def test_the_time_left_is_told_by_the_pace_of_this_session() -> None:
    now_s = 0.0
    screen = Screen()
    progress = RunProgress(total=1100, done=1000, stream=screen, clock=lambda: now_s)
    now_s = 10.0
    progress.note(record())
    assert progress.line() == "1,001 of 1,100 rows · about 16 min left"
    now_s = 10.1
    progress.note(record(error={"message": "damaged"}))
    now_s = 20.0
    progress.note(record(finish_reason="length"))
    assert progress.line() == "1,003 of 1,100 rows · 1 failed · 1 with warnings · about 11 min left"
    progress.end()
    lines = screen.getvalue().split("\r")
    assert len(lines) == 4, "a line a fifth of a second at most, and the last one"
    assert screen.getvalue().endswith("\n")


def test_where_nobody_looks_lines_are_few() -> None:
    now_s = 0.0
    log = io.StringIO()
    progress = RunProgress(total=100, done=0, stream=log, clock=lambda: now_s)
    for _ in range(100):
        now_s += 0.3
        progress.note(record())
    progress.end()
    assert len(log.getvalue().splitlines()) == 4 and log.getvalue().endswith("100 of 100 rows\n")


def test_the_summary_counts_what_went_wrong() -> None:
    records = [
        record(),
        record(warnings=["the answer was cut off"]),
        {"key": "b.png", "error": {"message": "the file is empty"}, "warnings": []},
    ]
    assert summary(records, 4, Path("out.csv"), 1).splitlines() == [
        "2 of 4 rows are answered, in out.csv",
        "1 captions are written; 1 answers have no file of their own",
        "1 failed; the same command asks for them again:",
        "  b.png: the file is empty",
        "1 have warnings:",
        "  1 × the answer was cut off",
        "40 prompt tokens, 16 of them from the cache; 10 tokens of answers",
    ]
