"""The JSON of /v1/decisions -> a Request and its questions. Raises BadRequest and BadMedia."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from engine.access.visibility import Caller
from engine.api.decisions.items import has_breakpoint, read_input, read_parts
from engine.api.decisions.schemas import ChoiceBody, DecisionsRequest, PredicateBody, QuestionBody, ScoreBody
from engine.config import MediaLimits
from engine.errors import BadRequest
from engine.types import YES_NO, Option, Part, Request, TypedQuestion

Asked = tuple[Request, tuple[TypedQuestion, ...]]


def decisions_request(body: DecisionsRequest, limits: MediaLimits, request_id: str, who: Caller) -> Asked:
    """What is asked about, and the questions in their order."""
    if body.prompt_cache_key == "":
        raise BadRequest("prompt_cache_key: it must not be empty.", param="prompt_cache_key")
    options = body.prompt_cache_options
    request = Request(
        messages=read_input(body.input, limits),
        id=request_id,
        tenant=who.tenant(body.prompt_cache_key or ""),
        reuse=not (options and options.mode == "explicit") or has_breakpoint(body.input),
    )
    return request, tuple(_question(raw, f"questions[{i}]", limits) for i, raw in enumerate(body.questions))


def _question(raw: QuestionBody, param: str, limits: MediaLimits) -> TypedQuestion:
    where = f"{param}.instructions"
    instructions = read_parts(raw.instructions, where, limits)
    if not any(part.kind != "text" or part.text.strip() for part in instructions):
        raise BadRequest(f"{where}: it must not be empty.", param=where)
    if isinstance(raw, ChoiceBody):
        return TypedQuestion("choice", instructions, _choices(raw, param), param)
    if isinstance(raw, ScoreBody):
        levels = tuple(described(level.label, level.description, param) for level in raw.levels)
        return TypedQuestion("score", instructions, levels, param)
    assert isinstance(raw, PredicateBody)
    return TypedQuestion("predicate", instructions, tuple(map(Option, YES_NO)), param)


def _choices(raw: ChoiceBody, param: str) -> tuple[Option, ...]:
    values = [choice.value for choice in raw.choices]
    for i, value in enumerate(values):
        if any(value == other and type(value) is type(other) for other in values[:i]):
            where = f"{param}.choices[{i}].value"
            raise BadRequest(f"{where}: each value must be unique.", param=where)
    texts = value_texts(values)
    return tuple(described(text, c.description, param) for text, c in zip(texts, raw.choices, strict=True))


def value_texts(values: Sequence[str | bool]) -> list[str]:
    """How each value is written: as it is; in JSON where two would look alike, as true and "true" do."""
    plain = [value.strip() if isinstance(value, str) else json.dumps(value) for value in values]
    times = Counter(plain)
    return [
        text if times[text] == 1 and text else json.dumps(value, ensure_ascii=False)
        for text, value in zip(plain, values, strict=True)
    ]


def described(text: str, description: str | None, param: str) -> Option:
    """An option with what it means."""
    return Option(text, (Part("text", text=description, param=param),) if description else ())
