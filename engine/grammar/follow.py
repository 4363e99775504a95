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


def next_tokens(matcher: LLMatcher, num_tokens: int) -> NDArray[np.bool_] | None:
    """Which token ids may come next, (num_tokens,); None where the matcher has failed."""
    bits = allocate_token_bitmask(1, num_tokens)
    fill_next_token_bitmask(matcher, bits)
    if matcher.is_error():
        return None
    return np.unpackbits(bits.view(np.uint8), bitorder="little").astype(np.bool_)


class Follower:
    """Where an answer is in its grammar, and which tokens may come next.

    Reasoning is free, from the model's mark for its beginning to that for its end; the grammar holds what comes after.
    A model that may reason decides at its first token whether it does. error: why the answer cannot go on, None while
    it can.
    """

    def __init__(
        self, compiled: CompiledGrammar, think: ThinkTokens | None = None, stage: AnswerStage = "answer"
    ) -> None:
        self._grammar = compiled.grammar
        self._num_tokens = compiled.num_tokens
        self._matcher = compiled.matcher.deep_copy()
        self._think = think
        self._stage = stage if think else "answer"
        self._tail: list[int] = []
        self._is_over = False
        self.error: BadRequest | None = None

    @property
    def is_reasoning(self) -> bool:
        return self._stage == "reasoning"

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
        mark = self._think.start if self._stage == "start" and self._think else ()
        if self._tail:  # the mark has several tokens, and some are there
            only = np.zeros(self._num_tokens, np.bool_)
            only[mark[len(self._tail)]] = True
            return only
        allowed = next_tokens(self._matcher, self._num_tokens)
        if allowed is None:
            self._note_error()
            return None
        if mark:
            allowed[mark[0]] = True
        return allowed

    def _consume(self, token: int) -> None:
        if self._is_over or self.error:
            return
        if self._matcher.is_stopped():  # nothing but an end was left
            self._is_over = True
        elif not self._matcher.consume_token(token):
            self._note_error()
        else:
            self._is_over = self._matcher.stop_reason() == "EndOfSentence"

    def _note_error(self) -> None:
        self._is_over = True
        self.error = refusal(self._grammar, self._matcher.get_error() or "the answer could not follow it")
