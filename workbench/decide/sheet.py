"""Answers of the Decide tab as plain values, and its table as CSV. Pure.

Its questions are read in engine.batch_run.question_table.

exported CSV   question,type,options,answer,confidence and a column with the probability of each option as JSON
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from engine import spreadsheet
from engine.batch_run.question_table import COLUMNS, answer_confidence
from engine.types import Decision, Decisions, Json, TypedQuestion
from workbench.language import catalogued, number, t
from workbench.words import milliseconds, plural

YES_NO = (catalogued("Yes"), catalogued("No"))
"""The options of the engine's yes-or-no questions, as the page says them."""


def answers_json(questions: Sequence[TypedQuestion], decisions: Decisions) -> Json:
    """What is drawn: for each question its answer in a word and a bar for each option; then what all of it took."""
    usage = decisions.done.usage
    cached = t("{count} of them from the cache", count=usage.cached_tokens)
    tokens = f"{plural(usage.prompt_tokens, 'token')}, {cached}"
    took = milliseconds(decisions.done.timing.total_ms)
    return {
        "answers": [_answer(question, answer) for question, answer in zip(questions, decisions.answers, strict=True)],
        "summary": f"{t('{questions} in {time}', questions=plural(len(questions), 'question'), time=took)} · {tokens}",
    }


def _answer(question: TypedQuestion, decision: Decision) -> Json:
    bars = [
        {"label": _shown(question, option.text), "probability": probability, "best": place == decision.best}
        for place, (option, probability) in enumerate(zip(question.options, decision.probabilities, strict=True))
    ]
    return {"answer": _words(question, decision), "confidence": answer_confidence(question, decision), "bars": bars}


def _words(question: TypedQuestion, decision: Decision) -> str:
    """See engine.batch_run.question_table.answer_words, in the reader's language."""
    best = _shown(question, question.options[decision.best].text)
    if question.kind != "score":
        return best
    mean, highest = number(decision.score, ".2f"), len(question.options) - 1
    return t("{level}, mean {mean} of 0 to {highest}", level=best, mean=mean, highest=highest)


def _shown(question: TypedQuestion, option: str) -> str:
    """An option as the page says it; the model is asked about the words of the question's own."""
    return t(option) if question.kind == "predicate" else option


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
    return spreadsheet.write_csv(table)


def _cells(row: Mapping[str, Any]) -> list[str]:
    options = [str(option) for option in row.get("options") or ()]
    plain = " | ".join(options)
    is_plain = not any("|" in option or option != option.strip() for option in options) and not plain.startswith("[")
    return [str(row.get("question") or ""), str(row["type"]), plain if is_plain else json.dumps(options)]
