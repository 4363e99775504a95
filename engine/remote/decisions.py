"""Typed questions as the body of another server's /v1/decisions, and its answer -> Decisions. Pure.

https://developers.openai.com/api/docs/guides/decisions
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from engine.access.visibility import salt_beyond
from engine.remote.numbers import finite, is_count
from engine.request_body import part_body
from engine.types import Decision, FrameSampling, Json, Message, Part, Request, TypedQuestion

ROUTE = "/decisions"
_NAME = {"choice": "value", "score": "label"}
"""The field of an answer that says which option a probability is of."""


def unsayable_question(questions: Sequence[TypedQuestion]) -> str:
    """Why such a body cannot ask these; "" where it can."""
    for question in questions:
        described = [option.description for option in question.options if option.description]
        if any(part.kind != "text" for description in described for part in description):
            return f"{question.param}: an option is described by a medium"
        if question.kind == "predicate" and described:
            return f"{question.param}: it says what yes and no mean"
        if question.kind != "predicate" and len(question.options) < 2:
            return f"{question.param}: it has one option only"
        if not any(part.kind != "text" or part.text.strip() for part in question.instructions):
            return f"{question.param}: it has no instructions"
    return ""


def sampled(parts: Sequence[Part], frames: FrameSampling) -> tuple[Part, ...]:
    """The same, with clips that say how they are sampled: this body has no words that say it for all."""
    return tuple(
        replace(part, frames=part.frames.over(frames) if part.frames else frames)
        if part.kind == "video" and not part.parts and frames != FrameSampling()
        else part
        for part in parts
    )


def decisions_body(
    request: Request, questions: Sequence[TypedQuestion], model: str, named: Callable[[Part], str]
) -> Json:
    """model: its name at the server. named: the URL of a medium."""
    body: Json = {
        "model": model,
        "input": [item for message in request.messages for item in _items(message, named)],
        "questions": [_question(question, named) for question in questions],
    }
    if salt := salt_beyond(request.tenant):
        body["prompt_cache_key"] = salt
    return body if request.reuse else body | {"prompt_cache_options": {"mode": "explicit"}}


def read_decisions(questions: Sequence[TypedQuestion], told: Json) -> tuple[Decision, ...]:
    """Raises LookupError, TypeError or ValueError for what is no answer to these questions."""
    answers = told["answers"]
    return tuple(_decision(question, answer) for question, answer in zip(questions, answers, strict=True))


def usage_of_chat(told: Json) -> Json:
    """The usage of an answer, in the words of a chat's."""
    usage = told.get("usage")
    if not isinstance(usage, dict):
        return {}
    names = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}
    names["prompt_tokens_details"] = "input_tokens_details"
    return {**usage, **{ours: usage.get(theirs) for ours, theirs in names.items()}}


def written_tokens(told: Json) -> int:
    """How many of the computed tokens that server keeps; 0 where it does not say."""
    usage = told.get("usage")
    details = usage.get("input_tokens_details") if isinstance(usage, dict) else None
    written = details.get("cache_write_tokens") if isinstance(details, dict) else None
    return written if is_count(written) else 0


def _items(message: Message, named: Callable[[Part], str]) -> Iterator[Json]:
    if message.role == "tool":
        output = [_part(part, named) for part in message.parts]
        yield {"type": "function_call_output", "call_id": message.tool_call_id, "output": output}
        return
    if message.parts or not message.tool_calls:
        yield {"type": "message", "role": message.role, "content": [_part(part, named) for part in message.parts]}
    for call in message.tool_calls:
        yield {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}


def _part(part: Part, named: Callable[[Part], str]) -> Json:
    body = part_body(part, named)
    if body["type"] == "text":
        return {"type": "input_text", "text": body["text"]}
    if body["type"] == "image_url":
        fields = dict(body["image_url"])
        return {"type": "input_image", "image_url": fields.pop("url"), **fields}
    return body


def _question(question: TypedQuestion, named: Callable[[Part], str]) -> Json:
    head: Json = {"type": question.kind, "instructions": [_part(part, named) for part in question.instructions]}
    if question.kind == "predicate":
        return head
    name = _NAME[question.kind]
    options: list[Json] = [{name: option.text} for option in question.options]
    for option, said in zip(question.options, options, strict=True):
        if option.description:
            said["description"] = "".join(part.text for part in option.description)
    return head | {"choices" if question.kind == "choice" else "levels": options}


def _decision(question: TypedQuestion, answer: Any) -> Decision:
    if answer["type"] != question.kind:
        raise ValueError(answer["type"])
    if question.kind == "predicate":
        yes = _probability(answer["probability"])
        return Decision((yes, 1 - yes))
    name = _NAME[question.kind]
    told = {str(one[name]).strip(): _probability(one["probability"]) for one in answer["probabilities"]}
    return Decision(tuple(told[option.text.strip()] for option in question.options))


def _probability(value: Any) -> float:
    if not 0 <= (number := finite(value)) <= 1:
        raise ValueError(value)
    return number
