"""Prompt lookup: what an answer may say next, found in what it and its prompt have said before. Pure, and no model.

An answer that copies (a quotation, a table, code with one name changed) repeats runs of tokens. Where the last tokens
stood before, what followed them there is proposed for here. Whether it is right, the model says (speculation).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

NO_TOKEN = -1
"""Any id below zero is nothing that can be proposed: a picture's place in a prompt, or the end of a text."""

MOST_SEARCHED = 131_072
"""The newest tokens of a row, prompt and answer, in which the last ones are looked up."""

MOST_PLACES = 8192
"""Of a token that stands in more places of them, the last ones are looked at."""


class PromptLookup:
    """The tokens of one row, prompt and answer, in which its last ones are looked up.

    min_ngram, max_ngram: how many tokens must have come before in the same order, and how many are looked at; of
    several places the one with most of them wins, and of these the last.
    """

    def __init__(self, tokens: Sequence[int], min_ngram: int, max_ngram: int) -> None:
        self._min = min_ngram
        self._max = max_ngram
        self._num = len(tokens)
        self._ids = np.full(max(64, 2 * self._num), NO_TOKEN, np.int64)
        self._ids[: self._num] = tokens

    def append(self, token: int) -> None:
        """The answer has gone on with this token."""
        if self._num == len(self._ids):
            self._ids = np.concatenate([self._ids, np.full(self._num, NO_TOKEN, np.int64)])
        self._ids[self._num] = token
        self._num += 1

    def proposal(self, num_tokens: int, begun: Callable[[], int] | None = None) -> list[int]:
        """At most so many tokens that may come next; [] where the last ones are new. It is found while the model
        computes: the token that has begun is not waited for.

        What is found near the end goes on into itself, so a line that repeats is proposed as often as there is room.
        """
        out: list[int] = []
        if (start := self._after_match()) is None:
            return out
        for at in range(start, start + num_tokens):
            token = int(self._ids[at]) if at < self._num else out[at - self._num]
            if token < 0:
                break
            out.append(token)
        return out

    def close(self) -> None:
        """It holds nothing but these tokens."""

    def _after_match(self) -> int | None:
        """The place behind the best earlier occurrence of the last tokens."""
        first, num = max(0, self._num - MOST_SEARCHED), min(self._num, MOST_SEARCHED)
        ids = self._ids[first : self._num]
        if not num or ids[-1] < 0:
            return None
        ends, length = np.flatnonzero(ids[:-1] == ids[-1])[-MOST_PLACES:], 1
        while ends.size and length < min(self._max, num) and ids[-1 - length] >= 0:
            found = ends[ends >= length]
            found = found[ids[found - length] == ids[-1 - length]]
            if not found.size:
                break
            ends, length = found, length + 1
        return first + int(ends[-1]) + 1 if ends.size and length >= self._min else None
