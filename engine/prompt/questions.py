"""How a typed question is put to a model in words, and how its options may be written. Pure; any thread.

    {instructions}
    Options:
    - {option}: {description}
    Answer with one of the options only.

Options of a choice are listed in alphabetical order, whatever order they came in, so that it cannot change an answer;
levels of a score in their own order, which means something. A model that was taught no such lists says so in its
decision.json (engine.models.decision_settings); it is asked for a word instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from engine.models.decision_settings import DecisionSettings
from engine.types import YES_NO, Message, Option, Part, TypedQuestion

_GAP = "\n\n"
"""Between a text of the messages and the question: tokenizers never join what stands on its two sides."""

YES_OR_NO_ONLY = f"\nAnswer {' or '.join(YES_NO)} only."
"""Behind a predicate whose options need no list."""


def with_question(messages: Sequence[Message], parts: Sequence[Part]) -> tuple[Message, ...]:
    """The messages with a question at their end: in the user's last message, or in one of its own."""
    *before, last = messages or (Message("user", ()),)
    if last.role != "user":
        return (*messages, Message("user", tuple(parts)))
    first, *rest = parts
    if last.parts and last.parts[-1].kind == "text" and first.kind == "text":
        first = replace(first, text=_GAP + first.text)
    return (*before, Message("user", (*last.parts, first, *rest)))


def question_parts(question: TypedQuestion, settings: DecisionSettings) -> tuple[Part, ...]:
    """The question as the model reads it. Text alone is one part, stripped; else media stay where they are."""
    parts = [*question.instructions, *_ending(question, settings)]
    joined: list[Part] = []
    for is_text, run in groupby(parts, lambda part: part.kind == "text"):
        alike = list(run)
        joined += [replace(alike[0], text="".join(part.text for part in alike))] if is_text else alike
    if len(joined) == 1:
        return (replace(joined[0], text=joined[0].text.strip()),)
    return tuple(joined)


def _ending(question: TypedQuestion, settings: DecisionSettings) -> list[Part]:
    """What follows the instructions."""
    param = question.param
    is_described = any(option.description for option in question.options)
    if question.kind == "predicate" and not is_described:
        return [] if not settings.list_options else [Part("text", YES_OR_NO_ONLY, param=param)]
    if not settings.list_options and not is_described:
        return [Part("text", " Answer in one word.", param=param)]
    noun = "levels, from lowest to highest" if question.kind == "score" else "options"
    parts = [Part("text", f"\n{noun.capitalize()}:\n", param=param)]
    for option in _listed(question):
        parts.append(Part("text", f"- {option.text}", param=param))
        if option.description:
            parts += [Part("text", ": ", param=param), *option.description]
        parts.append(Part("text", "\n", param=param))
    return [*parts, Part("text", f"Answer with one of the {noun.partition(',')[0]} only.", param=param)]


def _listed(question: TypedQuestion) -> list[Option]:
    options = list(question.options)
    return sorted(options, key=lambda option: option.text) if question.kind == "choice" else options


def spellings(question: TypedQuestion) -> list[tuple[str, ...]]:
    """For each option the ways in which a model may write it: as it is, and with a capital or a small first letter
    where that is no other option."""
    texts = {option.text for option in question.options}
    return [
        (option.text, *sorted({spelling for spelling in _cases(option.text) if spelling not in texts}))
        for option in question.options
    ]


def _cases(text: str) -> tuple[str, str]:
    return text[:1].upper() + text[1:], text[:1].lower() + text[1:]
