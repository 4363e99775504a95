"""What the page asks of every row -> the task of the runner. Pure."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, Field

from engine.batch_run.question_table import typed_questions
from engine.batch_run.task import BatchTask
from engine.errors import BadRequest
from engine.runtime.decisions.decide import check_questions
from engine.types import Json, Sampling
from workbench.language import t

MAX_PROMPT_CHARS = 200_000
MAX_TOKENS = 1024
"""Of an answer, where the page says no other number."""


class RunForm(BaseModel):
    """What the page sends. form: what an answer is. folder: in place of files that were sent."""

    prompt: str = Field(default="", max_length=MAX_PROMPT_CHARS)
    system: str = Field(default="", max_length=MAX_PROMPT_CHARS)
    form: Literal["text", "json", "questions"] = "text"
    schema_text: str = Field(default="", max_length=MAX_PROMPT_CHARS)
    questions: list[Json] = []
    max_tokens: int = Field(default=MAX_TOKENS, ge=1, le=1_000_000)
    temperature: float = Field(default=0.0, ge=0.0, le=10.0)
    model: str = Field(default="", max_length=500)
    folder: str = Field(default="", max_length=4096)


def task_of(form: RunForm) -> BatchTask:
    """Raises BadRequest for nothing to ask, a schema that is none, and questions that are not whole."""
    questions = typed_questions(form.questions) if form.form == "questions" else ()
    if form.form == "questions":
        check_questions(questions)
    elif not form.prompt.strip():
        raise BadRequest(t("Write first what to ask about each file."), param="prompt")
    return BatchTask(
        form.prompt,
        form.system,
        _schema(form.schema_text) if form.form == "json" else None,
        questions,
        Sampling(temperature=form.temperature),
        form.max_tokens,
        form.model or None,
    )


def _schema(text: str) -> Json | bool:
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest(t("The schema is not JSON: {reason}.", reason=str(error)), param="schema") from error
    if not isinstance(schema, dict | bool):
        raise BadRequest(t("The schema is not a JSON Schema: it must be an object."), param="schema")
    return schema
