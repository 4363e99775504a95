"""The suite `structured`: what it costs to hold answers to a form, and what more answers from one prompt cost."""

from __future__ import annotations

import json
from collections.abc import Sequence

from engine.measure.bench.plan import BenchSettings, Case, Contrast, Group, Round, ScheduledQuestion
from engine.measure.bench.questions import Question, words

STREAMS = (1, 8)
PROMPT_TOKENS = 64
ANSWER_TOKENS = 96
LONG_TOKENS = 1024
ANSWERS = 4
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["new", "old", "lost", "found"]}, "maxItems": 4},
        "address": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 40},
                "zip": {"type": "string", "pattern": "^[0-9]{5}$"},
            },
            "required": ["city", "zip"],
        },
    },
    "required": ["name", "age", "tags", "address"],
}
PEOPLE = json.dumps({"type": "array", "items": PERSON, "minItems": 1000})
"""It does not end before the answers do, so that all have as many tokens."""


def groups(settings: BenchSettings) -> Sequence[Group]:
    return (*(_masked(settings, count) for count in STREAMS), _several(settings))


def _masked(settings: BenchSettings, count: int) -> Group:
    """The same prompts answered freely and in JSON, one after the other, to the same length."""
    streams = f"{count} stream{'s' * (count > 1)}"
    plain, held = (Case("structured", f"{name}, {streams}", (("streams", count),)) for name in ("free", "JSON"))
    num_tokens = min(settings.max_tokens, ANSWER_TOKENS)

    def make(number: int) -> Round:
        steps = []
        for case, schema in ((plain, ""), (held, PEOPLE)):
            texts = [
                words((settings.seed, "structured", case.name, number, stream), settings.words_of(PROMPT_TOKENS))
                for stream in range(count)
            ]
            asked = (
                Question(text, num_tokens, temperature=settings.temperature, ignore_end=not schema, schema=schema)
                for text in texts
            )
            steps.append(tuple(ScheduledQuestion(question, case) for question in asked))
        return tuple(steps)

    speed = Contrast(f"decode: JSON / free, {streams}", "generation_tps", held, plain, goal=0.9)
    return Group((plain, held), make, contrasts=(speed,))


def _several(settings: BenchSettings) -> Group:
    """One token of one answer, and of several answers to such a prompt: nearly all of it is prefill."""
    label = f"a {LONG_TOKENS:,}-token prompt"
    one, many = (Case("structured", f"{name} to {label}") for name in ("1 answer", f"{ANSWERS} answers"))

    def make(number: int) -> Round:
        def ask(case: Case, count: int) -> ScheduledQuestion:
            text = words((settings.seed, "several", count, number), settings.words_of(LONG_TOKENS))
            return ScheduledQuestion(Question(text, 1, temperature=settings.temperature, n=count, claim="cold"), case)

        return (ask(one, 1),), (ask(many, ANSWERS),)

    cheaper = Contrast(f"time: 1 answer / {ANSWERS} answers to {label}", "e2e", one, many, goal=round(1 / 1.15, 2))
    return Group((one, many), make, contrasts=(cheaper,), num_tokens=LONG_TOKENS)
