"""Typed questions as tokens: what they share, how each goes on from there, and the tree of its options. No MLX call.

    <user> ▣▣▣▣ │ Is it red? ... <assistant>       shared: everything before the question, media included; computed once
                │ What is it? ... <assistant>      suffix: the question and all that follows it, in its own row
    shared      │ suffix        │ options          options: see engine.prompt.option_tree

The prompt of the first question is built as any prompt is. Of the others only the suffixes are tokenized, together with
the last characters before them, so that a token over the border is seen: the shared part then ends before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from uuid import uuid4

from engine.errors import BadRequest, NotShared
from engine.models.control_tokens import ControlTokens
from engine.models.decision_settings import DecisionSettings
from engine.models.head import max_places
from engine.models.registry import Loaded
from engine.prompt.option_tree import OptionTree, Tokens
from engine.prompt.questions import question_parts, spellings, with_question
from engine.prompt.render import RenderedChat, render
from engine.types import Message, Reasoning, Request, TypedQuestion
from engine.types.media import Media

_BORDER_CHARS = 200
_MAX_BORDER_TOKENS = 8
"""A token over the border reaches back a few characters; a difference further back is another text."""

MAX_OPTION_TOKENS = 128
"""Of each way to write an option: a tree of options keeps every beginning of each, the square of its length."""
MAX_ALL_OPTION_TOKENS = 262_144
"""Of all options of the questions that are asked together."""


@dataclass(frozen=True, slots=True)
class QuestionTokens:
    """suffix: what follows the shared prompt, () where the question is a part of it. param: for error messages."""

    suffix: Tokens
    tree: OptionTree
    temperature: float
    param: str


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """Questions that go on from one prompt. tail: the tokens of the first question's prompt that are not shared."""

    questions: tuple[QuestionTokens, ...]
    tail: Tokens

    def num_shared(self, ids: Sequence[int]) -> int:
        """How many tokens of the first question's prompt all questions share.

        Raises NotShared where the prompt does not end as its text does: this family's processor rewrites it.
        """
        num_shared = len(ids) - len(self.tail)
        if num_shared < 1 or tuple(ids[num_shared:]) != self.tail:
            raise NotShared("The questions' prompts share nothing that is known.")
        return num_shared


class QuestionPrompts:
    """Builds them in any thread, for one model. control: encodes rendered chats, and is safe there.

    max_suffix_bytes: a longer question is computed as a prompt of its own, chunk by chunk.
    """

    def __init__(self, loaded: Loaded, control: ControlTokens, max_suffix_bytes: int) -> None:
        self._loaded = loaded
        self._control = control
        self._max_suffix_bytes = max_suffix_bytes
        self._num_ids = loaded.num_ids
        self.can_branch = loaded.adapter.can_branch
        """See Adapter.can_branch."""
        self.settings = DecisionSettings.read(Path(loaded.card.path))

    @property
    def max_places(self) -> int:
        """At how many places one pass may compute logits."""
        return max_places(self._num_ids)

    def groups(self, questions: Sequence[TypedQuestion]) -> list[list[int]]:
        """Which questions go together, by their places: short texts in one batch, each of the others alone."""
        alone = [self._is_alone(question) for question in questions]
        together = [i for i, is_alone in enumerate(alone) if not is_alone]
        return [*([together] if together else []), *([i] for i, is_alone in enumerate(alone) if is_alone)]

    def _is_alone(self, question: TypedQuestion) -> bool:
        parts = question_parts(question, self.settings)
        row = self._loaded.family
        if question.alone or len(parts) > 1 or parts[0].kind != "text" or row.whole_prompt or row.both_ways:
            return True
        return len(parts[0].text.encode()) > self._max_suffix_bytes

    def request(self, request: Request, questions: Sequence[TypedQuestion]) -> Request:
        """The request for one group: its messages, then the first of the questions."""
        parts = question_parts(questions[0], self.settings)
        return replace(
            request,
            messages=with_question(request.messages, parts),
            questions=tuple(questions),
            # Where a model may think before it answers, it is asked not to: no answer would begin with an option.
            reasoning=Reasoning(enabled=False),
        )

    def build(self, request: Request, media: Sequence[Media]) -> QuestionSet:
        """A group's questions. request: as `request` made it, its documents opened; media: one entry per media part.

        Raises BadRequest (template, options that are too long), and NotShared where questions of this model share
        nothing.
        """
        trees = self._trees(request.questions)
        if len(request.questions) == 1 and self._is_alone(request.questions[0]):
            suffixes, tail = [self._encode(self._closing(render(self._loaded, request, media)))], Tokens()
        else:
            suffixes, tail = self._suffixes(request, media)
        return QuestionSet(
            tuple(
                QuestionTokens(suffix, tree, self.settings.temperature(question.kind), question.param)
                for suffix, tree, question in zip(suffixes, trees, request.questions, strict=True)
            ),
            tail,
        )

    def _trees(self, questions: Iterable[TypedQuestion]) -> list[OptionTree]:
        encode = cache(self._encode_plain)  # yes, no and the values of a list are in many questions
        trees, num_tokens = [], 0
        for question in questions:
            options = [[encode(spelling) for spelling in option] for option in spellings(question)]
            longest = max(len(spelling) for option in options for spelling in option)
            if longest > MAX_OPTION_TOKENS:
                raise BadRequest(
                    f"{question.param}: an option may have {MAX_OPTION_TOKENS} tokens, got {longest}; what explains "
                    "it can stand in its description.",
                    param=question.param,
                )
            num_tokens += sum(len(spelling) for option in options for spelling in option)
            if num_tokens > MAX_ALL_OPTION_TOKENS:
                raise BadRequest(
                    f"{question.param}: the options of all questions may have {MAX_ALL_OPTION_TOKENS:,} tokens "
                    "together; ask in several calls.",
                    param=question.param,
                )
            trees.append(OptionTree(options))
        return trees

    def _encode_plain(self, text: str) -> Tokens:
        """An option as the model would write it; a control token in it is text."""
        aside = self._loaded.control.set_aside()
        return self._encode(aside.text(text), aside.texts)

    def _suffixes(self, request: Request, media: Sequence[Media]) -> tuple[list[Tokens], Tokens]:
        """Each question's suffix, and the first one's without what closes the thinking: its prompt has none of that."""
        before, behind, chat = self._around(request, media)
        aside = self._loaded.control.set_aside()
        for text in chat.aside:  # the same characters stand for them
            aside.text(text)
        texts = [aside.text(question_parts(question, self.settings)[0].text) for question in request.questions]
        border = before[-_BORDER_CHARS:]
        closing = self._closing(chat)
        tail = self._encode(border + texts[0] + behind, aside.texts)
        whole = [self._encode(border + text + behind + closing, aside.texts) for text in texts]
        kept = self._encode(border, aside.texts)
        num_kept = min(_num_common(kept, ids) for ids in (tail, *whole))
        if num_kept < len(kept) - _MAX_BORDER_TOKENS:
            raise NotShared("The questions are tokenized together with what is before them.")
        return [ids[num_kept:] for ids in whole], tail[num_kept:]

    def _around(self, request: Request, media: Sequence[Media]) -> tuple[str, str, RenderedChat]:
        """What the chat template writes before the question and behind it, in a chat with a mark in its place."""
        *before, last = request.messages
        *parts, question = last.parts
        text = question_parts(request.questions[0], self.settings)[0].text
        mark = uuid4().hex
        marked = replace(question, text=question.text.removesuffix(text) + mark)
        messages = (*before, Message(last.role, (*parts, marked)))
        chat = render(self._loaded, replace(request, messages=messages), media)
        sides = chat.text.split(mark)
        if len(sides) != 2:
            raise NotShared("The chat template does not write a question once.")
        return sides[0], sides[1], chat

    def _closing(self, chat: RenderedChat) -> str:
        """What ends the thinking that a template has begun."""
        return f"{self._loaded.tokenizer.think_end}\n\n" if chat.starts_in_reasoning else ""

    def _encode(self, text: str, aside: Sequence[str] = ()) -> Tokens:
        return tuple(self._control.encode(text, aside, add_special_tokens=False)) if text else ()


def _num_common(one: Tokens, other: Tokens) -> int:
    """How many tokens both begin with."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
