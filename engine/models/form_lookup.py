"""What an answer that is held to a form may say next: what the form leaves no choice in. Engine thread only.

    … 12, "custo │ mer_identification_number │ ": 7
                 └── no other key may come ──┘

Whether each of these tokens comes, the row says itself (engine.models.speculation).
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.grammar.mask import AnswerMask
from engine.models.proposer import Begun, ProposalSource

_MOST_WAITS, _REST = 4, 8
"""After so many waits in a row behind which nothing was forced, so many tokens come without one."""


class FormLookup:
    """Of one row: what its form forces, else what another source proposes, as far as the form allows that. See
    engine.models.proposer.ProposalSource."""

    def __init__(self, mask: AnswerMask, otherwise: ProposalSource) -> None:
        self._mask = mask
        self._otherwise = otherwise
        self._num_waits = 0
        self._rest = 0

    def append(self, token: int) -> None:
        """The answer has gone on with this token."""
        self._otherwise.append(token)
        self._rest = max(0, self._rest - 1)

    def proposal(self, num_tokens: int, begun: Begun) -> list[int]:
        """At most so many tokens that may come next. Where few may come, the one that the model has begun is waited
        for: it says what is forced behind it. What else is proposed counts where it begins with that: it may be
        longer."""
        forced = self._forced(begun(), num_tokens) if self._mask.is_tight and not self._rest else []
        if len(forced) == num_tokens:
            return forced
        found = self._otherwise.proposal(num_tokens, begun)
        return self._allowed(found) if found[: len(forced)] == forced else forced

    def close(self) -> None:
        """The row has ended."""
        self._otherwise.close()

    def _forced(self, drawn: int, num_tokens: int) -> list[int]:
        """The token that was drawn and what must come behind it. In a number, say, nothing must."""
        out: list[int] = []
        with self._mask.ahead():
            more: Sequence[int] = (drawn,)
            while more and len(out) < num_tokens and self._mask.accept(more[0]):
                out.append(more[0])
                more = more[1:] or self._mask.forced()
        self._num_waits = self._num_waits + 1 if len(out) < 2 else 0
        if self._num_waits == _MOST_WAITS:
            self._num_waits, self._rest = 0, _REST
        return out

    def _allowed(self, tokens: list[int]) -> list[int]:
        """The first of them, as far as the form allows them in this order."""
        num = 0
        with self._mask.ahead():
            while num < len(tokens) and self._mask.accept(tokens[num]):
                num += 1
        return tokens[:num]
