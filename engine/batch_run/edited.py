"""Answers that a person has corrected: what the model said stays beside them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine.batch_run.question_table import in_one_line
from engine.batch_run.task import json_value
from engine.errors import BadRequest
from engine.grounding.forms import FORMS
from engine.grounding.place import with_regions
from engine.types import Json, MediaReceipt


def with_answer(record: Json, answer: str) -> Json:
    """The record with this answer in place of the model's; with the model's own again, it is as it was.

    Raises BadRequest for a record without an answer, and for decisions, which `with_decision` changes.
    """
    if record.get("error") is not None or "decisions" in record:
        raise BadRequest("answer: this row has no answer in words.", param="answer")
    changed = {**record, "answer": answer}
    if "valid" in record:
        changed["value"], changed["valid"] = json_value(answer)
    if "grounding" in record:
        changed["media"] = _with_boxes(record["media"], answer, record["grounding"])
    return _marked(changed, record)


def with_decision(record: Json, place: int, option: str) -> Json:
    """The record with this option as the answer to the question at this place, from 0. The probabilities stay the
    model's.

    Raises BadRequest for a record without such a question, and for an option that the question does not have.
    """
    decisions: Sequence[Mapping[str, Any]] = record.get("decisions") or ()
    if not 0 <= place < len(decisions):
        raise BadRequest("question: this row has no answer to such a question.", param="question")
    one = decisions[place]
    model = one.get("model_answer", one["answer"])
    if option not in (*one["probabilities"], model):
        raise BadRequest(f"answer: it must be one of {', '.join(one['probabilities'])}.", param="answer")
    plain = {name: value for name, value in one.items() if name not in ("edited", "model_answer")}
    is_own = option == model
    new = {**plain, "answer": option, **({} if is_own else {"edited": True, "model_answer": model})}
    changed = [*decisions[:place], new, *decisions[place + 1 :]]
    return _marked({**record, "decisions": changed, "answer": in_one_line(changed)}, record)


def _with_boxes(media: Sequence[Json], answer: str, grounding: Json) -> list[Json]:
    """The receipts with the boxes of this answer (engine.batch_run.task)."""
    form = FORMS[grounding["model_type"]]
    receipts = []
    for one in media:
        decoded = (one["decoded"][0], one["decoded"][1])
        seen = decoded if grounding["given_in"] == "original" else (one["seen"][0], one["seen"][1])
        receipts.append(MediaReceipt(one["kind"], 0, decoded, seen, one["tokens"], one["sha256"]))
    if grounding["given_in"] == "original":  # numbers of the text are pixels already
        form = replace(form, steps=None)
    read = with_regions(tuple(receipts), {0: answer}, form)
    return [
        {**one, "boxes": [region.as_json() for region in receipt.regions]}
        for one, receipt in zip(media, read, strict=True)
    ]


def _marked(changed: Json, before: Json) -> Json:
    model = before.get("model_answer", before["answer"])
    plain = {name: value for name, value in changed.items() if name not in ("edited", "model_answer")}
    return plain if plain["answer"] == model else {**plain, "edited": True, "model_answer": model}
