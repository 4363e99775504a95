"""Typed decisions: TypedQuestion ── Option goes in with a request; a Decision comes out for each, Decisions for all.

Frozen values in pure Python: no MLX, no numpy, safe in every thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from engine.types.events import Done
from engine.types.request import Part

QuestionKind = Literal["predicate", "choice", "score"]

YES_NO = ("Yes", "No")
"""The options of a predicate, in their order."""


@dataclass(frozen=True, slots=True)
class Option:
    """One of a question's answers. text: what the model would write; description: what it means, () for nothing."""

    text: str
    description: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class TypedQuestion:
    """What is asked about a request's messages, for itself: no question sees another.

    kind: "predicate", its options are yes and no; "choice", the order of its options means nothing; "score", they are
    levels, the lowest first. instructions: text, and media of its own. param names it in the client's own terms, e.g.
    "questions[3]", for error messages. alone: put to the model in a prompt of its own, whatever else is asked.
    """

    kind: QuestionKind
    instructions: tuple[Part, ...]
    options: tuple[Option, ...]
    param: str = "questions"
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer to a question: for each option, in their order, the probability that the model, made to write one of
    them, writes this one. They add up to 1."""

    probabilities: tuple[float, ...]

    @property
    def best(self) -> int:
        """The place of the likeliest option; of equal ones the first."""
        return max(range(len(self.probabilities)), key=self.probabilities.__getitem__)

    @property
    def confidence(self) -> float:
        """Of a choice: 0 where all options are as likely, 1 where one is certain. As transformers' DecisionPipeline."""
        fair = 1 / len(self.probabilities)
        return max(0.0, (self.probabilities[self.best] - fair) / (1 - fair)) if fair < 1 else 1.0

    @property
    def score(self) -> float:
        """Of levels, counted from 0: the mean level."""
        return sum(level * p for level, p in enumerate(self.probabilities))

    @property
    def score_confidence(self) -> float:
        """Of levels: 1 where one is certain, less the further the others are from it, 0 for no better than all alike.

        As transformers' DecisionPipeline."""
        num = len(self.probabilities)
        distance = sum(p * abs(level - self.best) for level, p in enumerate(self.probabilities))
        alike = sum(abs(level - (num - 1) / 2) for level in range(num)) / num
        return max(0.0, 1 - distance / alike) if num > 1 else 1.0


@dataclass(frozen=True, slots=True)
class Decisions:
    """One Decision for each question, in their order (Engine.decide).

    done: as of any request. In its usage a token counts once, also where several questions share it, and nothing is
    generated. written_tokens: how many of the computed tokens the cache keeps for later.
    """

    answers: tuple[Decision, ...]
    done: Done
    written_tokens: int = 0
