"""What may come next: reasoning before an answer, its end, words that are banned. Token by token, without a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from engine.grammar.compile import Grammars
from engine.grammar.follow import CompiledGrammar, Follower, ThinkTokens
from engine.grammar.mask import AnswerMask, BadWords, NoEndBefore
from engine.types import Grammar

TinyModel = Callable[..., Path]
END, OTHER_END = 2, 0
OPEN, CLOSE = 700, 701
"""Tokens that stand for the marks of reasoning."""


@pytest.fixture(scope="module")
def yes_or_no(tokenizer: Any) -> CompiledGrammar:
    return Grammars(tokenizer, [END, OTHER_END]).compile(Grammar("choice", json.dumps(["y", "n"])))


def next_ids(follower: Follower) -> set[int] | None:
    allowed = follower.allowed()
    return None if allowed is None else set(np.flatnonzero(allowed).tolist())


def ids_of(tokenizer: Any, *texts: str) -> set[int]:
    return {tokenizer.convert_tokens_to_ids(text) for text in texts}


def test_an_answer_to_its_end(yes_or_no: CompiledGrammar, tokenizer: Any) -> None:
    (yes,), both = ids_of(tokenizer, "y"), ids_of(tokenizer, "y", "n")
    one, other = Follower(yes_or_no), Follower(yes_or_no)
    assert next_ids(one) == both
    one.accept(yes)
    assert next_ids(one) == {END, OTHER_END}, "every token that ends an answer may end it"
    assert next_ids(other) == both, "another answer is where it was"
    one.accept(OTHER_END)
    one.accept(123)  # the batch is one step ahead of what is handed out
    assert next_ids(one) is None and one.error is None


def test_a_token_that_may_not_come_is_an_error_not_an_exception(yes_or_no: CompiledGrammar, tokenizer: Any) -> None:
    follower = Follower(yes_or_no)
    (wrong,) = ids_of(tokenizer, "q")
    follower.accept(wrong)
    assert follower.error is not None and follower.error.code == "invalid_grammar"
    assert next_ids(follower) is None


THINK = ThinkTokens((OPEN,), (CLOSE,))


@pytest.mark.parametrize("think", [THINK, ThinkTokens((OPEN, 50), (CLOSE, 51))])
def test_reasoning_is_free_and_the_answer_after_it_is_not(
    yes_or_no: CompiledGrammar, tokenizer: Any, think: ThinkTokens
) -> None:
    both = ids_of(tokenizer, "y", "n")
    follower = Follower(yes_or_no, think, "start")
    assert next_ids(follower) == both | {OPEN}, "the model decides whether it reasons"
    follower.accept(OPEN)
    for token in think.start[1:]:
        assert next_ids(follower) == {token}
        follower.accept(token)
    for token in (9, CLOSE if len(think.end) > 1 else 9, 9):
        assert follower.is_reasoning and next_ids(follower) is None
        follower.accept(token)
    for token in think.end:
        assert next_ids(follower) is None
        follower.accept(token)
    assert next_ids(follower) == both


def test_a_model_that_does_not_reason_this_time(yes_or_no: CompiledGrammar, tokenizer: Any) -> None:
    (yes,) = ids_of(tokenizer, "y")
    follower = Follower(yes_or_no, THINK, "start")
    follower.accept(yes)
    assert next_ids(follower) == {END, OTHER_END}


def test_where_an_answer_begins() -> None:
    assert THINK.stage_after([5, 6, OPEN], in_reasoning=True) == "reasoning"
    assert THINK.stage_after([5, 6], in_reasoning=False) == "start"
    assert THINK.stage_after([5, OPEN, 7, CLOSE, 7], in_reasoning=False) == "answer", "the template has closed it"
    assert THINK.stage_after([CLOSE, 5, 6, 7, 8, 9, 10], in_reasoning=False) == "start", "that was an earlier turn"
    assert ThinkTokens((OPEN, 50), (CLOSE, 51)).stage_after([CLOSE], in_reasoning=False) == "start"


def left(mask: AnswerMask, answer: list[int], num_logits: int = 1024) -> set[int]:
    """What may come after an answer, asked as the batch does: before each token."""
    for end in range(len(answer) + 1):
        logits = mask(mx.array([1, 1, *answer[:end]]), mx.zeros((1, num_logits)))
    return set(np.flatnonzero(np.isfinite(np.array(logits)[0])).tolist())


def test_no_end_before() -> None:
    def mask() -> AnswerMask:
        return AnswerMask([NoEndBefore(2, {END, OTHER_END})])

    everything = set(range(1024))
    assert left(mask(), []) == left(mask(), [7]) == everything - {END, OTHER_END}
    assert left(mask(), [7, 7]) == everything


def test_bad_words() -> None:
    banned, words = [], [(5,), (7, 8), (7, 8, 9)]
    for answer in ([], [7], [7, 8], [8]):
        banned.append(set(range(1024)) - left(AnswerMask([BadWords(words)]), answer))
    assert banned == [{5}, {5, 8}, {5, 9}, {5}]


def test_the_form_counts_more_than_a_ban(yes_or_no: CompiledGrammar, tokenizer: Any) -> None:
    (yes,), (no,) = ids_of(tokenizer, "y"), ids_of(tokenizer, "n")
    bans = [NoEndBefore(9, {END, OTHER_END}), BadWords([(no,)])]
    assert left(AnswerMask(bans, Follower(yes_or_no)), []) == {yes}
    assert left(AnswerMask(bans, Follower(yes_or_no)), [yes]) == {END, OTHER_END}
    everything = BadWords([(yes,), (no,)])
    assert left(AnswerMask([everything], Follower(yes_or_no)), []) == {yes, no}


def test_reasoning_about_a_form_may_not_end_the_answer(yes_or_no: CompiledGrammar) -> None:
    mask = AnswerMask((), Follower(yes_or_no, THINK, "reasoning"), frozenset({END, OTHER_END}))
    assert left(mask, [7]) == set(range(1024)) - {END, OTHER_END}


@pytest.mark.parametrize("num_logits", [900, 1100])
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_logits_of_another_width(yes_or_no: CompiledGrammar, tokenizer: Any, num_logits: int, dtype: Any) -> None:
    """Models have more logits than their tokenizer has tokens, or fewer."""
    masked = AnswerMask((), Follower(yes_or_no))(mx.array([1]), mx.zeros((1, num_logits), dtype))
    assert masked.shape == (1, num_logits) and masked.dtype == dtype
    assert set(np.flatnonzero(np.isfinite(np.array(masked.astype(mx.float32))[0])).tolist()) == ids_of(
        tokenizer, "y", "n"
    )
