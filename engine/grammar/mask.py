"""What may not come next in one answer, as a logits processor. Engine thread only.

Only rows with one pay for it. Its mask is made while the step's forward pass runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError, Internal
from engine.grammar.budget import ThinkBudget
from engine.grammar.calls import CallFollower
from engine.grammar.follow import Follower

log = logging.getLogger(__name__)

_TIGHT = 1 / 8
"""Of all tokens. Inside a string nearly all may come, and a few where the form says what its parts are."""


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


class Watched:
    """A sampler, log-probabilities (1, vocabulary) -> token (1,), and the mask that reads what it draws. sampler: it
    by itself."""

    def __init__(self, sampler: Callable[[mx.array], mx.array], mask: AnswerMask) -> None:
        self.sampler = sampler
        self._mask = mask

    def __call__(self, logprobs: mx.array) -> mx.array:
        self._mask.drawn = self.sampler(logprobs)
        return self._mask.drawn


class AnswerMask:
    """A logits processor (tokens (n,), logits (1, vocabulary)) -> logits, -inf where a token may not come.

    Where a grammar leaves nothing but what is banned, the grammar counts more: the answer must be able to go on. error:
    why it cannot go on as it must; then nothing is forbidden any more, and whoever hands its tokens out ends it. It
    never raises, since all rows of a batch would end with it.

    drawn: the token that came last, (1,), which may not be computed yet; it is taken at the next call. is_tight: there
    were few tokens that might come.
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
        self._parts = [part for part in (follower, budget) if part is not None]
        self._answer: list[int] = []
        self._is_begun = False
        self.drawn: mx.array | None = None
        self.is_tight = False
        self.error: EngineError | None = None

    def watch(self, sampler: Callable[[mx.array], mx.array]) -> Watched:
        """The same sampler. What it draws is read here as soon as it is there; the tokens that a call brings are
        computed on their own, behind the pass of the row before."""
        return Watched(sampler, self)

    @property
    def state(self) -> tuple[int, bool, EngineError | None, list[Any]]:
        """Where it is once it was called; set back to where it was, it goes on from there. Not what was drawn."""
        return len(self._answer), self.is_tight, self.error, [part.state for part in self._parts]

    @state.setter
    def state(self, state: tuple[int, bool, EngineError | None, list[Any]]) -> None:
        num_taken, self.is_tight, self.error, states = state
        del self._answer[num_taken:]
        for part, found in zip(self._parts, states, strict=True):
            part.state = found

    @contextmanager
    def ahead(self) -> Iterator[None]:
        """Inside, tokens may be accepted that need not come; behind it the answer is where it was."""
        state = self.state
        try:
            yield
        finally:
            self.state = state

    def accept(self, token: int) -> bool:
        """Take a token that comes. Returns whether the form allows it."""
        self._answer.append(token)
        for part in self._parts:
            part.accept(token)
        return self._follower is None or self._follower.error is None

    def forced(self) -> Sequence[int]:
        """The tokens that come next, one after the other, as far as there is no choice."""
        if self._budget and (token := self._budget.forced()) is not None:
            return (token,)
        return self._follower.forced() if self._follower else ()

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        """tokens: before the first call the prompt, then with what has come since behind it."""
        came = (tokens[-1] if self.drawn is None else self.drawn) if self._is_begun else None
        self._is_begun = True
        return self._masked(came, logits)

    def behind(self, token: int, logits: mx.array) -> mx.array:
        """As a call behind one token more, which need not be the one that was drawn."""
        return self._masked(token, logits)

    def _masked(self, came: mx.array | int | None, logits: mx.array) -> mx.array:
        mx.async_eval(logits)
        try:
            if came is not None:
                self.accept(int(np.array(came).item()))
            allowed = None if self.error else self._allowed(logits.shape[-1])
        except Exception:
            log.exception("a mask failed")
            self.error, allowed = Internal("The answer could not be held to its form; the server's log says why."), None
        self.is_tight = allowed is not None and int(np.count_nonzero(allowed)) < _TIGHT * len(allowed)
        return logits if allowed is None else mx.where(mx.array(allowed), logits, mx.array(-mx.inf, logits.dtype))

    def _allowed(self, num_logits: int) -> NDArray[np.bool_] | None:
        """(num_logits,); None where everything may come."""
        if self._budget and (forced := self._budget.forced()) is not None:
            only = np.zeros(num_logits, np.bool_)
            only[forced] = True
            return only
        held = self._follower.allowed() if self._follower else None
        banned = {i for ban in self._bans for i in ban.token_ids(self._answer)}
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
