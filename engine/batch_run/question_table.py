"""Typed questions as rows of a table, and as CSV. Pure.

row       {"question": ..., "type": "yes or no" | "choice" | "score", "options": [...]}
CSV       question,type,options            options parted by "|", or as a JSON list where one holds a "|"
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from engine import spreadsheet
from engine.errors import BadRequest
from engine.runtime.decisions.decide import MAX_QUESTIONS
from engine.types import YES_NO, Decision, Json, Option, Part, QuestionKind, TypedQuestion

KINDS: dict[str, QuestionKind] = {"yes or no": "predicate", "choice": "choice", "score": "score"}
COLUMNS = ("question", "type", "options")
OTHER_NAMES = {
    "instructions": "question",
    "kind": "type",
    "choices": "options",
    "values": "options",
    "levels": "options",
}
OTHER_KINDS = {"predicate": "yes or no", "yes/no": "yes or no", "noul": "yes or no", "": "yes or no"}
MAX_CSV_CHARS = 4_000_000


def typed_questions(rows: Sequence[Mapping[str, Any]]) -> tuple[TypedQuestion, ...]:
    """Raises BadRequest that names the row, counted from 1."""
    return tuple(_typed(row, f"Question {number}") for number, row in enumerate(rows, 1))


def _typed(row: Mapping[str, Any], name: str) -> TypedQuestion:
    kind = KINDS.get(str(row.get("type") or ""))
    if kind is None:
        raise BadRequest(f"{name}: its type must be one of {', '.join(KINDS)}.", param=name)
    text = str(row.get("question") or "").strip()
    if not text:
        raise BadRequest(f"{name}: it has no words yet.", param=name)
    options = [str(option).strip() for option in row.get("options") or ()] if kind != "predicate" else list(YES_NO)
    if len(options) < 2 or not all(options):
        raise BadRequest(f"{name}: a {row['type']} needs at least two options, and each needs words.", param=name)
    if len(set(options)) < len(options):
        raise BadRequest(f"{name}: two of its options are the same.", param=name)
    return TypedQuestion(kind, (Part("text", text, param=name),), tuple(map(Option, options)), name)


def answer_words(question: TypedQuestion, decision: Decision) -> str:
    """The likeliest option; of levels with the mean level, the lowest being 0: "two, mean 1.93 of 0 to 3"."""
    best = question.options[decision.best].text
    if question.kind != "score":
        return best
    return f"{best}, mean {decision.score:.2f} of 0 to {len(question.options) - 1}"


def answer_confidence(question: TypedQuestion, decision: Decision) -> float:
    """From 0 to 1, as the kind of the question has it."""
    return decision.score_confidence if question.kind == "score" else decision.confidence


def in_one_line(answers: Sequence[Mapping[str, Any]]) -> str:
    """The answers of a record's decisions."""
    return "; ".join(f"{one['question']} {one['answer']}" for one in answers)


def read_csv(text: str) -> list[Json]:
    """The rows of a CSV; columns that are not known are left out. Raises BadRequest in plain words."""
    if len(text) > MAX_CSV_CHARS:
        raise BadRequest(f"The file has {len(text):,} characters; at most {MAX_CSV_CHARS:,} are read.")
    try:
        table = spreadsheet.read_csv(io.StringIO(text))
    except (ValueError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise BadRequest(f"This is not a table that can be read: {str(error).splitlines()[0]}") from error
    names = {name: str(name).strip().lower() for name in table.columns}
    table = table.rename(columns={name: OTHER_NAMES.get(plain, plain) for name, plain in names.items()})
    if "question" not in table.columns:
        raise BadRequest("The table has no column named question. Its columns are question, type and options.")
    table = table.loc[:, ~table.columns.duplicated()]
    if len(table) > MAX_QUESTIONS:
        raise BadRequest(f"The table has {len(table):,} rows; at most {MAX_QUESTIONS} questions can be asked at once.")
    return [_row(record, number) for number, record in enumerate(table.to_dict("records"), 1)]


def _row(record: Mapping[Any, Any], number: int) -> Json:
    given = str(record.get("type", "")).strip().lower()
    kind = OTHER_KINDS.get(given, given)
    options = _options(str(record.get("options", "")), number)
    if not given and options:
        kind = "choice"
    if kind not in KINDS:
        raise BadRequest(f"Row {number}: the type {given!r} is none of {', '.join(KINDS)}.")
    return {
        "question": str(record["question"]).strip(),
        "type": kind,
        "options": options if kind != "yes or no" else [],
    }


def _options(text: str, number: int) -> list[str]:
    if not text.strip().startswith("["):
        return [option.strip() for option in text.split("|") if option.strip()]
    try:
        return [str(option) for option in json.loads(text)]
    except ValueError as error:
        raise BadRequest(f"Row {number}: its options begin with [ and are no JSON list.") from error
