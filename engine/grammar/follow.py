"""A compiled grammar, and one answer on its way through it, with the reasoning that may come before. No MLX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask
from numpy.typing import NDArray

from engine.errors import BadRequest
from engine.types import Grammar

AnswerStage = Literal["start", "reasoning", "answer"]
FollowerState = tuple[AnswerStage, list[int], bool, BadRequest | None, int]

_TAIL = 4
"""How many tokens, such as line ends, may lie behind the mark that closes a prompt's reasoning."""

_MAX_REASON_CHARS = 400


def refusal(grammar: Grammar, reason: str) -> BadRequest:
    """A grammar that cannot be had, with llguidance's reason on one line."""
    reason = " ".join(reason.replace("<non-verbose/>", "").split())
    if len(reason) > _MAX_REASON_CHARS:
        reason = reason[:_MAX_REASON_CHARS] + "…"
    return BadRequest(f"{grammar.param}: {reason.rstrip('.')}.", param=grammar.param, code="invalid_grammar")


@dataclass(frozen=True, slots=True)
class ThinkTokens:
    """Token ids that open and close a model's reasoning."""

    start: tuple[int, ...]
    end: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Any) -> ThinkTokens | None:
        """Those of mlx-lm's TokenizerWrapper; None for a model that does not reason."""
        if not tokenizer.has_thinking:
            return None
        return cls(tuple(tokenizer.think_start_tokens), tuple(tokenizer.think_end_tokens))

    def stage_after(self, prompt: Sequence[int], *, in_reasoning: bool) -> AnswerStage:
        """Where an answer begins. A template that turns reasoning off closes it at the end of the prompt."""
        if in_reasoning:
            return "reasoning"
        last = len(prompt) - len(self.end)
        tail = range(max(0, last - _TAIL), last + 1)
        return "answer" if any(tuple(prompt[i : i + len(self.end)]) == self.end for i in tail) else "start"


@dataclass(frozen=True, slots=True)
class CompiledGrammar:
    """What it was compiled from, a matcher at the beginning of an answer, and the tokenizer's tokens as bytes."""

    grammar: Grammar
    matcher: LLMatcher
    vocabulary: LLTokenizer

    @property
    def is_of_calls(self) -> bool:
        """Whether it holds the calls of an answer and leaves the rest free (engine.grammar.calls)."""
        return self.grammar.kind == "calls"

    @property
    def num_tokens(self) -> int:
        return self.vocabulary.vocab_size


class Trail:
    """A matcher on its way through one answer, token by token, that can be set back."""

    def __init__(self, compiled: CompiledGrammar) -> None:
        self._compiled = compiled
        self._matcher = compiled.matcher.deep_copy()
        self._taken: list[int] = []

    def __len__(self) -> int:
        """How many tokens it has taken."""
        return len(self._taken)

    def take(self, token: int) -> bool:
        """Take the token that came, where it may come; the matcher is none that has stopped."""
        if not self._matcher.try_consume_tokens([token]):
            return False
        self._taken.append(token)
        return True

    def set_back(self, num_tokens: int) -> None:
        """To where it had taken so many."""
        num_behind = len(self._taken) - num_tokens
        del self._taken[num_tokens:]
        if num_behind:
            self._matcher.rollback(num_behind)
        if self._matcher.is_error():  # it has failed behind there, and stays so
            self._matcher = self._compiled.matcher.deep_copy()
            self._matcher.consume_tokens(self._taken)

    def next_tokens(self) -> NDArray[np.bool_] | None:
        """Which token ids may come next, (tokens of the tokenizer,); None where the matcher has failed."""
        bits = allocate_token_bitmask(1, self._compiled.num_tokens)
        fill_next_token_bitmask(self._matcher, bits)
        if self._matcher.is_error():
            return None
        return np.unpackbits(bits.view(np.uint8), bitorder="little").astype(np.bool_)

    def forced(self) -> Sequence[int]:
        """The tokens that come next, one after the other, as far as the grammar leaves no choice."""
        return self._matcher.compute_ff_tokens()

    @property
    def is_stopped(self) -> bool:
        """Whether nothing but an end is left."""
        return self._matcher.is_stopped()

    @property
    def is_ended(self) -> bool:
        """Whether a token that ends an answer has come."""
        return self._matcher.stop_reason() == "EndOfSentence"

    def refusal(self, otherwise: str) -> BadRequest:
        """Why it cannot go on. otherwise: where the matcher does not say."""
        return refusal(self._compiled.grammar, self._matcher.get_error() or otherwise)


class Follower:
    """Where an answer is in its grammar, and which tokens may come next.

    Reasoning is free, from the model's mark for its beginning to that for its end; the grammar holds what comes after.
    A model that may reason decides at its first token whether it does. error: why the answer cannot go on, None while
    it can.
    """

    def __init__(
        self, compiled: CompiledGrammar, think: ThinkTokens | None = None, stage: AnswerStage = "answer"
    ) -> None:
        self._num_tokens = compiled.num_tokens
        self._trail = Trail(compiled)
        self._think = think
        self._stage = stage if think else "answer"
        self._tail: list[int] = []
        self._is_over = False
        self.error: BadRequest | None = None

    @property
    def is_reasoning(self) -> bool:
        return self._stage == "reasoning"

    @property
    def state(self) -> FollowerState:
        """Where it is; set back to where it was, it goes on from there."""
        return self._stage, self._tail, self._is_over, self.error, len(self._trail)

    @state.setter
    def state(self, state: FollowerState) -> None:
        self._stage, self._tail, self._is_over, self.error, num_taken = state
        self._trail.set_back(num_taken)

    def accept(self, token: int) -> None:
        """Take the token that came."""
        if self._stage == "answer" or self._think is None:
            self._consume(token)
            return
        mark = self._think.start if self._stage == "start" else self._think.end
        self._tail = [*self._tail, token][-len(mark) :]
        is_begun = tuple(self._tail) == mark[: len(self._tail)]
        if self._stage == "start" and not is_begun:
            self._stage, self._tail = "answer", []
            self._consume(token)
        elif tuple(self._tail) == mark:
            self._stage = "reasoning" if self._stage == "start" else "answer"
            self._tail = []

    def allowed(self) -> NDArray[np.bool_] | None:
        """Which token ids may come next, as (tokens of the tokenizer,); None for all of them."""
        if self.is_reasoning or self._is_over:
            return None
        mark = self._mark()
        if self._tail:  # the mark has several tokens, and some are there
            only = np.zeros(self._num_tokens, np.bool_)
            only[mark[len(self._tail)]] = True
            return only
        allowed = self._trail.next_tokens()
        if allowed is None:
            self._note_error()
            return None
        if mark:
            allowed[mark[0]] = True
        return allowed

    def forced(self) -> Sequence[int]:
        """The tokens that come next, one after the other, as far as there is no choice."""
        if self.is_reasoning or self._is_over:
            return ()
        if mark := self._mark():
            return mark[len(self._tail) :] if self._tail else ()
        return self._trail.forced()

    def _mark(self) -> tuple[int, ...]:
        """What the answer may begin with in place of its form, while it may."""
        return self._think.start if self._stage == "start" and self._think else ()

    def _consume(self, token: int) -> None:
        if self._is_over or self.error:
            return
        if self._trail.is_stopped:
            self._is_over = True
        elif not self._trail.take(token):
            self._note_error()
        else:
            self._is_over = self._trail.is_ended

    def _note_error(self) -> None:
        self._is_over = True
        self.error = self._trail.refusal("the answer could not follow it")
