"""What a row proposes to read in one pass, as long as that pays. Pure, and no model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

_FIRST = 4
"""Tokens that a row proposes at first."""

_LEAST_REST, _MOST_REST = 8, 512
_MEMORY = 0.7
"""Weight of the passes before in what was won lately."""

_MOST_MISSES = 4
"""So often in a row the first proposed token may be wrong. No pass is made of it, but the step waits for the token."""

_RIGHT, _WRONG = 4.0, 1.0
"""So many tokens count as right, and so many as wrong, before the first."""

Begun = Callable[[], int]
"""Waits for the token that the model has begun, behind those that were handed out, and tells it."""


class ProposalSource(Protocol):
    """Where the proposals of one row come from. It is asked for one row at a time."""

    def append(self, token: int) -> None:
        """The row has gone on with this token."""

    def proposal(self, num_tokens: int, begun: Begun) -> list[int]:
        """At most so many tokens: the one that the model has begun, as it is expected or as it is, and what may come
        behind it. [] where it proposes nothing."""

    def close(self) -> None:
        """The row has ended: what is held for it is let go."""


class Proposer:
    """What one row proposes, while that pays.

    num_proposed: tokens so far. It begins with few at a time, takes twice as many after a pass in which all were right,
    and about as many as were right after another. Where what was won in the last passes is less than they cost, it
    rests for some tokens, each time for twice as long. Where not even the first token was right several times, it looks
    again only after the shortest rest, so that a copy that begins is soon seen.
    """

    def __init__(self, source: ProposalSource, most: int) -> None:
        self.num_proposed = 0
        self._source = source
        self._most = most
        self._width = min(_FIRST, most)
        self._won = 0.0
        self._rest, self._next_rest = 0, _LEAST_REST
        self._misses = 0
        self._right, self._wrong = _RIGHT, _WRONG
        self._was_right = False
        self._is_guess = True  # the first token of the last proposal: nobody had waited for the model to tell it

    def append(self, token: int) -> None:
        """The row has gone on with this token."""
        self._source.append(token)
        self._rest = max(0, self._rest - 1)

    def proposal(self, num_left: int, begun: Begun) -> list[int]:
        """The token that the model has begun, as it is expected, and at least one to read behind it; else []. num_left:
        tokens that the row may still have."""
        if self._rest or num_left < 2:
            return []
        self._is_guess = True

        def waited() -> int:
            self._is_guess = False
            return begun()

        found = self._source.proposal(min(num_left, 1 + self._width), waited)
        return found if len(found) > 1 else []

    def took(self, num_tokens: int, num_right: int, further: float) -> None:
        """A pass over so many proposed tokens is over. further: what each of them cost, see PassCosts."""
        self.num_proposed += num_tokens
        self._misses = 0
        self._was_right = False
        self._count(num_right, num_right < num_tokens)
        self._width = min(self._most, 2 * self._width if num_right == num_tokens else max(2, num_right + 1))
        self._weigh(num_right - further * num_tokens)

    def missed(self) -> None:
        """The model has begun another token than the first that was proposed, so there was no pass."""
        self._misses += 1
        if self._was_right:
            self._count(0, 1)
        self._was_right = False
        if self._misses >= _MOST_MISSES:
            self._rest = _LEAST_REST

    def close(self) -> None:
        """The row has ended."""
        self._source.close()

    def was_right(self, cost: float) -> None:
        """The model has begun the first token that was proposed, and there was no pass. cost: what it took to propose
        what was not read, in tokens."""
        self._misses = 0
        if self._is_guess:
            self._was_right = True
            self._count(1, 0)
        if cost:
            self._weigh(-cost)

    @property
    def chance(self) -> float:
        """Of each proposed token, that it is right if those before it are."""
        return self._right / (self._right + self._wrong)

    def _count(self, num_right: int, num_wrong: int) -> None:
        self._right = _MEMORY * self._right + num_right
        self._wrong = _MEMORY * self._wrong + num_wrong

    def _weigh(self, won: float) -> None:
        """What was won lately, with this, in tokens: below zero it rests."""
        self._won = _MEMORY * self._won + (1 - _MEMORY) * won
        if self._won >= 0:
            self._next_rest = _LEAST_REST
            return
        self._rest, self._next_rest = self._next_rest, min(_MOST_REST, 2 * self._next_rest)
        self._won = 0.0
