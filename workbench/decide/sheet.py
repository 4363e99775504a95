"""Answers of the Decide tab as plain values, and its table as CSV. Pure.

Its questions are read in engine.batch_run.question_table.

exported CSV   question,type,options,answer,confidence and a column with the probability of each option as JSON
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from engine.batch_run.question_table import COLUMNS, answer_confidence, answer_words
from engine.types import Decision, Decisions, Json, TypedQuestion
from workbench.words import milliseconds, plural


def answers_json(questions: Sequence[TypedQuestion], decisions: Decisions) -> Json:
    """What is drawn: for each question its answer in a word and a bar for each option; then what all of it took."""
    usage = decisions.done.usage
    cached = f"{usage.cached_tokens:,}" if usage.cached_tokens else "none"
    tokens = f"{plural(usage.prompt_tokens, 'token')}, {cached} of them from the cache"
    took = milliseconds(decisions.done.timing.total_ms)
    return {
        "answers": [_answer(question, answer) for question, answer in zip(questions, decisions.answers, strict=True)],
        "summary": f"{plural(len(questions), 'question')} in {took} · {tokens}",
    }


def _answer(question: TypedQuestion, decision: Decision) -> Json:
    bars = [
        {"label": option.text, "probability": probability, "best": place == decision.best}
        for place, (option, probability) in enumerate(zip(question.options, decision.probabilities, strict=True))
    ]
    confidence = answer_confidence(question, decision)
    return {"answer": answer_words(question, decision), "confidence": confidence, "bars": bars}


def write_csv(rows: Sequence[Mapping[str, Any]], answers: Sequence[Mapping[str, Any]] = ()) -> str:
    """The rows as `read_csv` reads them; with answers, one for each row, their columns too."""
    table = pd.DataFrame([_cells(row) for row in rows], columns=list(COLUMNS))
    if answers:
        table["answer"] = [answer["answer"] for answer in answers]
        table["confidence"] = [answer["confidence"] for answer in answers]
        table["probabilities"] = [
            json.dumps({bar["label"]: bar["probability"] for bar in answer["bars"]}, ensure_ascii=False)
            for answer in answers
        ]
    return str(table.to_csv(index=False))


def _cells(row: Mapping[str, Any]) -> list[str]:
    options = [str(option) for option in row.get("options") or ()]
    plain = " | ".join(options)
    is_plain = not any("|" in option or option != option.strip() for option in options) and not plain.startswith("[")
    return [str(row.get("question") or ""), str(row["type"]), plain if is_plain else json.dumps(options)]
