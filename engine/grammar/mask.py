"""What may not come next in one answer, as a logits processor. Engine thread only.

Only rows with one pay for it. Its mask is made while the step's forward pass runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError, Internal
from engine.grammar.budget import ThinkBudget
from engine.grammar.calls import CallFollower
from engine.grammar.follow import Follower

log = logging.getLogger(__name__)


class Ban(Protocol):
    """Forbids tokens, depending on the answer so far."""

    def token_ids(self, answer: Sequence[int]) -> Collection[int]:
        """Those that may not come next. answer: the token ids before."""


class NoEndBefore:
    """Forbids the end of an answer for its first min_tokens tokens."""

    def __init__(self, min_tokens: int, stop_ids: Collection[int]) -> None:
        self._min_tokens = min_tokens
        self._stop_ids = stop_ids

    def token_ids(self, answer: Sequence[int]) -> Collection[int]:
        return self._stop_ids if len(answer) < self._min_tokens else ()


class BadWords:
    """Forbids the last token of each word where the tokens before it are there, as vLLM does.

    words: token ids of each way to write each word.
    """

    def __init__(self, words: Iterable[Sequence[int]]) -> None:
        self._words = [(tuple(word[:-1]), word[-1]) for word in words]

    def token_ids(self, answer: Sequence[int]) -> Collection[int]:
        return {last for first, last in self._words if _ends_with(answer, first)}


def _ends_with(answer: Sequence[int], first: tuple[int, ...]) -> bool:
    return len(first) <= len(answer) and tuple(answer[len(answer) - len(first) :]) == first


class AnswerMask:
    """A logits processor (tokens (n,), logits (1, vocabulary)) -> logits, -inf where a token may not come.

    Where a grammar leaves nothing but what is banned, the grammar counts more: the answer must be able to go on. error:
    why it cannot go on as it must; then nothing is forbidden any more, and whoever hands its tokens out ends it. It
    never raises, since all rows of a batch would end with it.
    """

    def __init__(
        self,
        bans: Sequence[Ban] = (),
        follower: Follower | CallFollower | None = None,
        stop_ids: Collection[int] = (),
        budget: ThinkBudget | None = None,
    ) -> None:
        """stop_ids: the tokens that end an answer; none may come while the model reasons about one with a grammar.
        budget: what ends its reasoning, whatever else is said of it."""
        self._bans = bans
        self._follower = follower
        self._budget = budget
        self._stop_ids = stop_ids
        self._answer: list[int] | None = None
        self._drawn: mx.array | None = None
        self.error: EngineError | None = None

    def watch(self, sampler: Callable[[mx.array], mx.array]) -> Callable[[mx.array], mx.array]:
        """The same sampler, log-probabilities -> token (1,). What it draws is read here as soon as it is there; the
        tokens that a call brings are computed on their own, behind the pass of the row before."""

        def draw(logprobs: mx.array) -> mx.array:
            self._drawn = sampler(logprobs)
            return self._drawn

        return draw

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        mx.async_eval(logits)
        try:
            self._take(tokens)
            allowed = None if self.error else self._allowed(logits.shape[-1])
        except Exception:
            log.exception("a mask failed")
            self.error, allowed = Internal("The answer could not be held to its form; the server's log says why."), None
        return logits if allowed is None else mx.where(mx.array(allowed), logits, mx.array(-mx.inf, logits.dtype))

    def _take(self, tokens: mx.array) -> None:
        """The token that came since the last call; before the first one there is only the prompt."""
        if self._answer is None:
            self._answer = []
            return
        token = int(np.array(tokens[-1] if self._drawn is None else self._drawn).item())
        self._answer.append(token)
        if self._follower:
            self._follower.accept(token)
        if self._budget:
            self._budget.accept(token)

    def _allowed(self, num_logits: int) -> NDArray[np.bool_] | None:
        """(num_logits,); None where everything may come."""
        if self._budget and (forced := self._budget.forced()) is not None:
            only = np.zeros(num_logits, np.bool_)
            only[forced] = True
            return only
        held = self._follower.allowed() if self._follower else None
        banned = {i for ban in self._bans for i in ban.token_ids(self._answer or ())}
        if self._follower:
            self.error = self._follower.error
            banned |= set(self._stop_ids) if self._follower.is_reasoning else set()
        if held is None and not banned:
            return None
        allowed = np.ones(num_logits, np.bool_)
        if held is not None:
            allowed[:] = False
            allowed[: len(held)] = held[:num_logits]
        free = allowed.copy()
        free[sorted(banned)] = False
        return free if free.any() else allowed
