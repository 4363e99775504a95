"""What the vision model is asked, and how the text model reads its answer. Pure.

template + the question of the medium's own turn ──> question_prompt ──> the vision model
what it said ──> with_descriptions: texts of the user in place of the media ──> the text model
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.config import TEMPLATE_VARIABLES
from engine.types import Message, Part, Request

WORDS = {"image": "picture", "video": "clip"}
"""The kinds of media that can be described."""

NO_QUESTION = "What does it show?"
"""Of a medium in whose turn nobody has written anything."""


def turn_questions(messages: Sequence[Message]) -> tuple[str, ...]:
    """For each message, what the user wanted to know in the turn that it belongs to.

    That is its own text; of a message without text and of a tool's result, the user's next text before an answer comes,
    else the user's last one.
    """
    own = [_text(message) if message.role == "user" else "" for message in messages]

    def question(index: int) -> str:
        for later in range(index, len(messages)):
            if messages[later].role == "assistant":
                break
            if own[later]:
                return own[later]
        return next((text for text in reversed(own[:index]) if text), NO_QUESTION)

    return tuple(question(index) for index in range(len(messages)))


def question_prompt(template: str, question: str, kind: str, number: int) -> str:
    """The template with its variables filled in; braces around anything else stay as they are. number: of the medium in
    its request, from 1."""
    values = {"question": question, "prompt": question, "kind": WORDS[kind], "number": str(number)}
    return TEMPLATE_VARIABLES.sub(lambda found: values.get(found[1], found[0]), template)


def with_descriptions(request: Request, texts: Sequence[str]) -> Request:
    """The request with a text in place of each medium. texts: what was said about each, in the order of the media.

    They are texts like any that the user has typed: what looks like a control token in them is none
    (engine.prompt.outside_text).
    """
    said = iter(enumerate(texts, 1))

    def put(message: Message, place: int) -> Part:
        part = message.parts[place]
        if part.kind == "text":
            return part
        number, text = next(said)
        before = "\n\n" if place and message.parts[place - 1].kind == "text" else ""
        shown = f"{before}{WORDS[part.kind].capitalize()} {number} shows this: {text}{_behind(message, place)}"
        return Part("text", text=shown, param=part.param)

    messages = tuple(
        replace(message, parts=tuple(put(message, place) for place in range(len(message.parts))))
        for message in request.messages
    )
    return replace(request, messages=messages)


def _behind(message: Message, place: int) -> str:
    """What stands between a description and what follows it. Small models take a description for the question where
    nothing says that it is none."""
    rest = message.parts[place + 1 :]
    if not rest:
        return ""
    is_question = len(rest) == 1 and rest[0].kind == "text" and message.role == "user"
    if not is_question:
        return "\n" if rest[0].kind != "text" else "\n\n"
    num_media = sum(part.kind != "text" for part in message.parts)
    return f"\nAnswer from {'it' if num_media == 1 else 'them'}: "


def _text(message: Message) -> str:
    return "\n".join(part.text.strip() for part in message.parts if part.kind == "text" and part.text.strip())
