"""What is asked of every row, and how one row is asked. Any event loop."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from engine.batch_run.question_table import answer_confidence, answer_words, in_one_line
from engine.batch_run.rows import BatchRow
from engine.batch_run.template import filled, placeholders
from engine.errors import BadMedia, BadRequest
from engine.grounding.forms import FORMS
from engine.types import (
    Decisions,
    Done,
    Grammar,
    Json,
    MediaReceipt,
    Message,
    ModelCard,
    Part,
    Request,
    Sampling,
    TypedQuestion,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.core import Engine

MEDIA_WORDS = {"document": "page", "image": "picture", "video": "clip", "audio": "sound"}


@dataclass(frozen=True, slots=True)
class BatchTask:
    """prompt: with placeholders; "" only where there are questions. system: the system prompt, taken as it is. schema:
    what each answer must be, as JSON Schema. questions: asked in place of an answer. sampling: of the answers.
    tenant: whose requests these are (Request.tenant). marks: what stands before the names of these in errors, for
    whoever gave them: "--" on the command line."""

    prompt: str = ""
    system: str = ""
    schema: Json | bool | None = None
    questions: tuple[TypedQuestion, ...] = ()
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0.0))
    max_tokens: int | None = None
    model: str | None = None
    tenant: str = ""
    marks: str = ""

    @property
    def grammar(self) -> Grammar | None:
        return None if self.schema is None else Grammar("json_schema", json.dumps(self.schema), self.named("schema"))

    def named(self, field_name: str) -> str:
        """What whoever gave a field calls it."""
        return f"{self.marks}{field_name}"

    def settings(self, more: Json) -> Json:
        """What every answer depends on, for the journal. more: of the model and the engine."""
        return {
            "prompt": self.prompt,
            "system": self.system,
            "schema": self.schema,
            "questions": [asdict(replace(question, param="")) for question in self.questions],
            "sampling": asdict(self.sampling),
            "max_tokens": self.max_tokens,
            **more,
        }


def check_task(task: BatchTask, rows: Sequence[BatchRow], card: ModelCard, *, describes: bool) -> None:
    """Raise BadRequest for what would fail in every row: a placeholder that nothing fills, a model that sees nothing.

    describes: another model describes media to this one.
    """
    known = ["name"]
    known += ["page"] if any(row.page for row in rows) else []
    known += dict.fromkeys(name for row in rows for name in row.columns)
    placeholders(task.prompt, known, task.named("prompt"))
    takes = {"image": card.vision, "document": card.vision, "video": card.video, "audio": card.audio}
    kinds = {row.part.kind for row in rows if row.part}
    if kinds and not any(takes[kind] or (describes and kind != "audio") for kind in kinds):
        words = " or ".join(sorted(MEDIA_WORDS[kind] for kind in kinds))
        why = f"{card.id} takes no {words}: no row could be answered."
        raise BadRequest(why, code="unsupported_media", param="model")


class RowAsker:
    """Asks the engine about rows."""

    def __init__(self, engine: Engine, task: BatchTask) -> None:
        self._engine = engine
        self._task = task

    async def ask(self, row: BatchRow) -> Json:
        """The record of a row, without key and stamp. Raises EngineError."""
        if row.error:
            raise BadMedia(row.error, param=row.key)
        began_s = time.monotonic()
        request = self.request(row)
        if self._task.questions:
            found = await self._engine.decide(request, self._task.questions)
            record = {**_decided(self._task.questions, found), **_cost(found.done)}
        else:
            completion = await self._engine.complete(request)
            record = {"answer": completion.text, "finish_reason": completion.done.finish_reason}
            if self._task.schema is not None:
                record["value"], record["valid"] = json_value(completion.text)
            record |= _cost(completion.done)
            record |= await self._grounding(completion.done)
        kind = row.part.kind if row.part else None
        return {**record, "medium": kind, "ms": round(1000 * (time.monotonic() - began_s), 1)}

    async def _grounding(self, done: Done) -> Json:
        """Where that is known, how the coordinates in the answer are read: the model, and in what they are given."""
        model_type = (await self._engine.ready(self._task.model)).model_type
        if not done.media or model_type not in FORMS:
            return {}
        given_in = done.coordinates.given_in if done.coordinates else "model"
        return {"grounding": {"model_type": model_type, "given_in": given_in}}

    def request(self, row: BatchRow) -> Request:
        """What the engine is asked. Raises BadRequest for a placeholder that this row does not fill."""
        task = self._task
        values = {"name": row.name, **row.columns, **({"page": str(row.page)} if row.page else {})}
        try:
            text = filled(task.prompt, values)
        except KeyError as error:
            why = f"This row has nothing for {{{error.args[0]}}} of the prompt."
            raise BadRequest(why, param=task.named("prompt")) from error
        asked = [Part("text", text=text, param=task.named("prompt"))] if text else []
        parts = (*([row.part] if row.part else []), *asked)
        said = (Part("text", text=task.system, param=task.named("system")),)
        system = (Message("system", said),) if task.system else ()
        return Request(
            messages=(*system, Message("user", parts)),
            sampling=self._sampling(row),
            max_tokens=task.max_tokens,
            grammar=task.grammar,
            model=task.model,
            source="batch",
            tenant=task.tenant,
        )

    def _sampling(self, row: BatchRow) -> Sampling:
        """A row that is drawn has random numbers of its own: the same, whatever ran beside it."""
        if not self._task.sampling.temperature:
            return self._task.sampling
        digest = hashlib.sha256(row.key.encode("utf-8", "replace")).hexdigest()
        return replace(self._task.sampling, seed=int(digest[:8], 16))


def json_value(text: str) -> tuple[Any, bool]:
    """The JSON of an answer, and whether it is any."""
    try:
        return json.loads(text), True
    except (ValueError, RecursionError):
        return None, False


def _decided(questions: Sequence[TypedQuestion], decisions: Decisions) -> Json:
    """The answers to typed questions, and all of them in one line."""
    answers = [
        {
            "question": question.instructions[0].text,
            "type": question.kind,
            "answer": answer_words(question, decision),
            "confidence": round(answer_confidence(question, decision), 6),
            "probabilities": dict(zip((o.text for o in question.options), decision.probabilities, strict=True)),
        }
        for question, decision in zip(questions, decisions.answers, strict=True)
    ]
    return {"answer": in_one_line(answers), "decisions": answers, "finish_reason": "stop"}


def _cost(done: Done) -> Json:
    usage = done.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "cached_tokens": usage.cached_tokens,
        "completion_tokens": usage.completion_tokens,
        "media": [_receipt(receipt) for receipt in done.media],
        "described": bool(done.descriptions),
    }


def _receipt(receipt: MediaReceipt) -> Json:
    """Of a receipt what is the same in every run, and what was reused."""
    return {
        "kind": receipt.kind,
        "sha256": receipt.sha256,
        "decoded": list(receipt.decoded_px),
        "seen": list(receipt.seen_px),
        "tokens": receipt.tokens,
        "frames": len(receipt.frames),
        "features": asdict(receipt.features) if receipt.features else None,
        "notes": list(receipt.notes),
        "boxes": [region.as_json() for region in receipt.regions],
    }
