"""Rows of the Decide tab <-> typed questions, their answers as plain values, and both as CSV. Pure.

row       {"question": ..., "type": "yes or no" | "choice" | "score", "options": [...]}
CSV       question,type,options            options parted by "|", or as a JSON list where one holds a "|"
exported  ... answer,confidence and a column with the probability of each option as JSON
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from engine.errors import BadRequest
from engine.runtime.deciding import MAX_QUESTIONS
from engine.types import Decision, Decisions, Json, Option, Part, QuestionKind, TypedQuestion
from workbench.language import catalogued, number, t
from workbench.words import milliseconds, plural

KINDS: dict[str, QuestionKind] = {"yes or no": "predicate", "choice": "choice", "score": "score"}
YES_NO = (catalogued("Yes"), catalogued("No"))
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
    return tuple(_typed(row, t("Question {number}", number=number)) for number, row in enumerate(rows, 1))


def _typed(row: Mapping[str, Any], name: str) -> TypedQuestion:
    kind = KINDS.get(str(row.get("type") or ""))
    if kind is None:
        raise BadRequest(t("{name}: its type must be one of {kinds}.", name=name, kinds=", ".join(KINDS)), param=name)
    text = str(row.get("question") or "").strip()
    if not text:
        raise BadRequest(t("{name}: it has no words yet.", name=name), param=name)
    options = [str(option).strip() for option in row.get("options") or ()] if kind != "predicate" else list(YES_NO)
    if len(options) < 2 or not all(options):
        raise BadRequest(
            t("{name}: a {type} needs at least two options, and each needs words.", name=name, type=row["type"]),
            param=name,
        )
    if len(set(options)) < len(options):
        raise BadRequest(t("{name}: two of its options are the same.", name=name), param=name)
    return TypedQuestion(kind, (Part("text", text, param=name),), tuple(map(Option, options)), name)


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
    return {"answer": _words(question, decision), "confidence": _confidence(question, decision), "bars": bars}


def _words(question: TypedQuestion, decision: Decision) -> str:
    best = _shown(question, question.options[decision.best].text)
    return f"{best} ({number(decision.score, '.2f')})" if question.kind == "score" else best


def _shown(question: TypedQuestion, option: str) -> str:
    """An option as the page says it; the model is asked about the words of the question's own."""
    return t(option) if question.kind == "predicate" else option


def _confidence(question: TypedQuestion, decision: Decision) -> float:
    return decision.score_confidence if question.kind == "score" else decision.confidence


def read_csv(text: str) -> list[Json]:
    """The rows of a CSV; columns that are not known are left out. Raises BadRequest in plain words."""
    if len(text) > MAX_CSV_CHARS:
        raise BadRequest(
            t(
                "The file has {count} characters; at most {most} are read.",
                count=len(text),
                most=MAX_CSV_CHARS,
            )
        )
    try:
        table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, skipinitialspace=True)
    except (ValueError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise BadRequest(
            t("This is not a table that can be read: {reason}", reason=str(error).splitlines()[0])
        ) from error
    names = {name: str(name).strip().lower() for name in table.columns}
    table = table.rename(columns={name: OTHER_NAMES.get(plain, plain) for name, plain in names.items()})
    if "question" not in table.columns:
        raise BadRequest(t("The table has no column named question. Its columns are question, type and options."))
    table = table.loc[:, ~table.columns.duplicated()]
    if len(table) > MAX_QUESTIONS:
        raise BadRequest(
            t(
                "The table has {count} rows; at most {most} questions can be asked at once.",
                count=len(table),
                most=MAX_QUESTIONS,
            )
        )
    return [_row(record, number) for number, record in enumerate(table.to_dict("records"), 1)]


def _row(record: Mapping[Any, Any], number: int) -> Json:
    given = str(record.get("type", "")).strip().lower()
    kind = OTHER_KINDS.get(given, given)
    options = _options(str(record.get("options", "")), number)
    if not given and options:
        kind = "choice"
    if kind not in KINDS:
        raise BadRequest(
            t(
                "Row {number}: the type {given} is none of {kinds}.",
                number=number,
                given=repr(given),
                kinds=", ".join(KINDS),
            )
        )
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
        raise BadRequest(t("Row {number}: its options begin with [ and are no JSON list.", number=number)) from error


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
