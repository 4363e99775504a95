"""The rows of the batch, and whose they are. Engine thread only.

After a failed step a batch is never used again: nobody knows what state it is in. A new one takes its place, and the
sequences whose rows are lost end with an error.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from engine.models.batch import Batch, NewRow, Token
from engine.runtime.sequence import Choice, Sequence

log = logging.getLogger(__name__)


class Rows:
    """new_batch makes an empty batch; lost is called for every sequence whose rows went with a broken one."""

    def __init__(self, new_batch: Callable[[], Batch], lost: Callable[[Sequence], None]) -> None:
        self._new_batch = new_batch
        self._lost = lost
        self._batch = new_batch()
        self._choices: dict[int, Choice] = {}

    def __len__(self) -> int:
        return len(self._batch)

    def add(self, choice: Choice, new: NewRow) -> Token:
        """A choice's first token; unless it is its last, the choice is a row from now on."""
        token = self._batch.add(new)
        choice.row = token.row
        if token.row is not None:
            self._choices[token.row] = choice
        return token

    def step(self) -> list[tuple[Choice, Token]]:
        """One token for every row, each with its choice; none where the step failed."""
        try:
            tokens = self._batch.step()
        except Exception:
            log.exception("a decode step failed; its rows are dropped")
            self._lose()
            return []
        return [(self._choices[t.row], t) for t in tokens if t.row is not None and t.row in self._choices]

    def leave(self, choice: Choice, kv: list[Any] | None = None) -> list[Any]:
        """Take a choice's row out, unless the row has left by itself with this KV. Returns its KV, [] for none."""
        if choice.row is None:
            return kv or []
        row, choice.row = choice.row, None
        self._choices.pop(row, None)
        if kv is not None:
            return kv
        try:
            return self._batch.remove(row)
        except Exception:
            log.exception("a row could not be taken out of the batch; its other rows are dropped")
            self._lose()
            return []

    def drop(self) -> list[Sequence]:
        """Put an empty batch in the place of this one, which is not touched again. Returns whose rows are gone."""
        sequences = list(dict.fromkeys(choice.sequence for choice in self._choices.values()))
        for choice in self._choices.values():
            choice.row = None
        self._choices.clear()
        broken, self._batch = self._batch, self._new_batch()
        try:
            broken.close()
        except Exception:
            log.exception("the failed batch could not be closed")
        return sequences

    def close(self) -> None:
        self._batch.close()

    def _lose(self) -> None:
        for sequence in self.drop():
            self._lost(sequence)
