"""What an answer that is held to a form may say next: what the form leaves no choice in. No MLX.

    … 12, "custo │ mer_identification_number │ ": 7
                 └── no other key may come ──┘

Whether each of these tokens comes, the row says itself (engine.models.speculation).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from engine.grammar.mask import AnswerMask


class Lookup(Protocol):
    """Finds what a row may say next, as engine.models.lookup.PromptLookup."""

    def append(self, token: int) -> None: ...
    def proposal(self, num_tokens: int) -> list[int]: ...


class FormLookup:
    """Of one row: what its form forces, else what another lookup finds, as far as the form allows that."""

    def __init__(self, mask: AnswerMask, otherwise: Lookup) -> None:
        self._mask = mask
        self._otherwise = otherwise

    def append(self, token: int) -> None:
        """The answer has gone on with this token."""
        self._otherwise.append(token)

    def proposal(self, num_tokens: int) -> list[int]:
        """At most so many tokens that may come next. Where few may come, the one that the model has begun is waited
        for: it says what is forced behind it. What was found counts where it begins with that: it may be longer."""
        found = self._otherwise.proposal(num_tokens)
        if self._mask.is_tight and self._mask.drawn is not None:
            forced = self._forced(int(np.array(self._mask.drawn).item()), num_tokens)
            found = found if found[: len(forced)] == forced else forced
        return self._allowed(found)

    def _forced(self, drawn: int, num_tokens: int) -> list[int]:
        """The token that was drawn and what must come behind it."""
        out = [drawn]
        with self._mask.ahead():
            self._mask.accept(drawn)
            while len(out) < num_tokens and (more := self._mask.forced()):
                for token in more[: num_tokens - len(out)]:
                    self._mask.accept(token)
                    out.append(token)
        return out

    def _allowed(self, tokens: list[int]) -> list[int]:
        """The first of them, as far as the form allows them in this order."""
        num = 0
        with self._mask.ahead():
            while num < len(tokens) and self._mask.accept(tokens[num]):
                num += 1
        return tokens[:num]
