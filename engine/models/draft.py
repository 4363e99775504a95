"""A draft model: a small text model of the same vocabulary, which writes how a row may go on. Engine thread only.

    handed out … t │ next │ d1 d2 … dk
    └─ read by the draft ─┘ written by it, each the likeliest one; the last is not read

What it proposes is proposed for certain, as a looked-up token is, so the same rule says what stays (drawing). It reads
text alone: a picture's place in a prompt is left out, and so is a token that it does not know.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from engine.models.adapter import Adapter
from engine.models.pass_costs import PassCosts
from engine.models.proposer import Begun

_FEW_UNREAD = 64
"""Where more tokens of a row are to be read first, the time tells of reading, and not of writing."""


@dataclass(slots=True)
class DraftModel:
    """A draft model in memory. num_ids: token ids from 0 that it and the model it writes for may have. context_tokens:
    the longest row that it reads. chunk_tokens: most that it reads of prompts in one step. may_read: whether it has
    read no chunk in this step yet."""

    adapter: Adapter
    num_ids: int
    context_tokens: int
    chunk_tokens: int
    may_read: bool = True

    def knows(self, token: int) -> bool:
        return 0 <= token < self.num_ids

    def write(self, ids: Sequence[int], num_tokens: int, cache: list[Any]) -> list[int]:
        """Read these ids into a row's KV, and write so many tokens behind them. Evaluated at once."""
        last, written = mx.array([list(ids)]), []
        for _ in range(num_tokens):
            logits = self.adapter(last, cache)[:, -1:, : self.num_ids]
            last = mx.argmax(logits, axis=-1)
            written.append(last)
        found: list[int] = np.array(mx.concatenate(written, axis=1))[0].tolist()
        return found


class RowDraft:
    """What a draft model proposes for one row (engine.models.proposer.ProposalSource). tokens: the row's, ids below
    zero where there are media.

    Its KV has the first _num_read of the row's tokens and, behind all of them, those that it has read of its own
    (_ahead) as long as the row may still say the same.
    """

    def __init__(self, model: DraftModel, tokens: Sequence[int], costs: PassCosts) -> None:
        self._model = model
        self._costs = costs
        self._ids = [token for token in tokens if model.knows(token)]
        self._cache: list[Any] = []
        self._num_read = 0
        self._ahead: list[int] = []

    def append(self, token: int) -> None:
        """The row has gone on with this token. What was read ahead stays while it is that."""
        if not self._model.knows(token):
            return
        self._ids.append(token)
        if self._ahead and self._ahead[0] == token:
            del self._ahead[0]
            self._num_read += 1
        else:
            self._cut_ahead()

    def proposal(self, num_tokens: int, begun: Begun) -> list[int]:
        """The token that has begun, and what the draft writes behind it; [] in a step in which it reads a chunk of what
        it has not read yet, behind a token that it does not know, and for a row that is longer than its context."""
        if len(self._ids) + num_tokens > self._model.context_tokens:
            self.close()
            return []
        self._cache = self._cache or self._model.adapter.make_cache()
        num_unread = len(self._ids) - self._num_read
        if num_unread > self._model.chunk_tokens:
            if self._model.may_read:
                self._read_chunk()
            return []
        token = begun()
        if not self._model.knows(token):
            return []
        began_s = time.perf_counter()
        self._cut_ahead()
        written = self._model.write([*self._ids[self._num_read :], token], num_tokens - 1, self._cache)
        self._num_read, self._ahead = len(self._ids), [token, *written[:-1]]
        if num_unread <= _FEW_UNREAD:
            self._costs.proposed(time.perf_counter() - began_s, len(written))
        else:
            self._costs.did_other_work()
        return [token, *written]

    def close(self) -> None:
        """Let go of its KV."""
        self._cache, self._num_read, self._ahead = [], 0, []

    def _read_chunk(self) -> None:
        end = self._num_read + self._model.chunk_tokens
        self._model.adapter.prefill(self._ids, (self._num_read, end), self._cache, None)
        self._num_read = end
        self._model.may_read = False
        self._costs.did_other_work()

    def _cut_ahead(self) -> None:
        """Take off the KV of what the row has not said."""
        for layer in self._cache if self._ahead else ():
            layer.trim(len(self._ahead))
        self._ahead = []
