"""The rows that decode together. The only file that names mlx-lm's BatchGenerator; engine thread only.

Rows come in with their prompt computed and the logits behind it. Their first token is drawn at once, before the batcher
has them: it hands a token out only when it has begun the next, which on a CPU is one step later. From then on all rows,
text or pictures, are the same to it. Each is sampled with its own sampler and key.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.generate import BatchGenerator, StopSequences

from engine.cache import tensors
from engine.models.adapter import Adapter
from engine.models.mlx_memory import set_wired_limit
from engine.models.proposer import Proposer
from engine.models.sampling import LogitsProcessor, Sampler
from engine.models.speculation import Speculation

_MOST_GAP = 4.0
"""Between two steps, in the second one's time: in more of it something was computed beside handing tokens out."""


@dataclass(frozen=True, slots=True)
class Token:
    """One row's step. finish: None while it goes on, "stop" on a stop id (then `id` is that id), else "length".

    row: its number, None for one that ended with its first token. kv: the KV of a row that ended later, this token's
    included; None while it goes on. Tokens of one pass before the last have it, too: a stop text may end there.
    logprobs: (vocabulary,) log-probabilities that it was chosen from, evaluated.
    is_accepted: it was proposed (engine.models.speculation), and the model says the same.
    """

    row: int | None
    id: int
    finish: str | None
    kv: list[Any] | None = None
    logprobs: Any = None
    is_accepted: bool = False


@dataclass(slots=True)
class NewRow:
    """What a row brings along. prompt: token ids; cache: their KV; logits: (1, vocabulary), of what follows them;
    max_tokens >= 1; stop_ids: the tokens that end it; proposer: None for a row that proposes nothing."""

    prompt: list[int]
    cache: list[Any]
    logits: mx.array
    sampler: Sampler
    max_tokens: int
    stop_ids: frozenset[int]
    processors: list[LogitsProcessor] = field(default_factory=list)
    proposer: Proposer | None = None


class Batch:
    """Continuous batch: rows join and leave between steps. wired_limit_bytes: see EngineConfig. speculation: of this
    model, where it is on."""

    def __init__(
        self,
        adapter: Adapter,
        completion_batch_size: int,
        wired_limit_bytes: int | None = None,
        speculation: Speculation | None = None,
    ) -> None:
        model: Any = adapter
        # Rows bring one token that the model has not read: all that came since the last step read theirs together.
        self._awaited = adapter.awaited
        self._generator = BatchGenerator(
            model,
            completion_batch_size=completion_batch_size,
            prefill_batch_size=completion_batch_size,
            stream=adapter.stream,
        )
        set_wired_limit(wired_limit_bytes)  # the batcher has just raised it
        self._rows: set[int] = set()
        self._speculation = speculation
        self._proposers: dict[int, Proposer] = {}
        self._was_plain, self._num_last, self._ended_s = False, 0, 0.0

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, decode: NewRow) -> Token:
        """Draw a row's first token; unless it is the last, the row joins at the next step."""
        token, logprobs = self._first(decode)
        finish = "stop" if token in decode.stop_ids else "length" if decode.max_tokens == 1 else None
        if finish:
            return Token(None, token, finish, logprobs=logprobs)
        (row,) = self._generator.insert(
            [[token]],
            max_tokens=[decode.max_tokens - 1],
            caches=[decode.cache if self._speculation is None else tensors.ragged(decode.cache)],
            all_tokens=[[*decode.prompt]],  # it adds to them
            samplers=[decode.sampler],
            logits_processors=[decode.processors],
            stop_sequences=[StopSequences([[i] for i in sorted(decode.stop_ids)])],
        )
        self._rows.add(row)
        if decode.proposer is not None:
            decode.proposer.append(token)
            self._proposers[row] = decode.proposer
        return Token(row, token, None, logprobs=logprobs)

    def _first(self, decode: NewRow) -> tuple[int, mx.array]:
        """As the batcher draws: a token, and the log-probabilities (vocabulary,) that it was chosen from."""
        logits = decode.logits
        for process in decode.processors:
            logits = process(mx.array(decode.prompt), logits)
        logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        token, row = decode.sampler(logprobs), logprobs[0]
        mx.eval(token, row)
        return int(np.array(token).item()), row

    def step(self) -> list[Token]:
        """One token for every row that joined before this step, or several for rows that have proposed them; finished
        rows leave by themselves."""
        began_s, num_works = time.perf_counter(), self._num_other_works
        with self._awaited():
            accepted = self._speculate()
            responses = accepted or self._plain()
        self._measure(began_s, len(responses), is_plain=not accepted and num_works == self._num_other_works)
        left = {r.uid: r.prompt_cache for r in responses if r.finish_reason}
        tokens, begun = [], set()
        for r in responses:
            tokens.append(Token(r.uid, int(r.token), r.finish_reason, left.get(r.uid), r.logprobs, r.uid in begun))
            begun.add(r.uid)
            if proposer := self._proposers.get(r.uid):
                proposer.append(int(r.token))
        self._forget({*left})
        return tokens

    @property
    def _num_other_works(self) -> int:
        return self._speculation.costs.num_other_works if self._speculation else 0

    def _measure(self, began_s: float, num_tokens: int, *, is_plain: bool) -> None:
        """What a plain step took, where its pass was not over already, as behind a pass over several tokens and behind
        other work of this thread, and was not one of other rows."""
        ended_s = time.perf_counter()
        seconds, gap_s = ended_s - began_s, began_s - self._ended_s
        follows = is_plain and self._was_plain and num_tokens == self._num_last and gap_s < _MOST_GAP * seconds
        if self._speculation is not None and follows:
            self._speculation.costs.plain(seconds, num_tokens)
        self._was_plain, self._num_last, self._ended_s = is_plain, num_tokens, ended_s

    def _forget(self, rows: set[int]) -> None:
        self._rows -= rows
        for row in rows:
            if proposer := self._proposers.pop(row, None):
                proposer.close()

    def _plain(self) -> list[Any]:
        _, responses = self._generator.next()
        return list(responses)

    def _speculate(self) -> list[Any]:
        """What the rows say in a pass over what they propose; [] where none is worth it, or a row is about to join."""
        running = self._generator._generation_batch
        if self._speculation is None or not self._proposers or self._rows != {*running.uids}:
            return []
        with mx.stream(self._generator.stream):
            return self._speculation.step(running, self._proposers)

    def remove(self, row: int) -> list[Any]:
        """Take a row out; the others do not notice. Returns its KV, [] for a row that has left already."""
        if row not in self._rows:
            return []
        self._forget({row})
        kv, _ = self._generator.remove([row], return_prompt_caches=True)[row]
        return tensors.alone(kv)

    def kv_bytes(self) -> int:
        return int(self._generator.prompt_cache_nbytes)

    def close(self) -> None:
        """Let the batcher set the wired limit back to what it found, which is what was set here."""
        self._forget({*self._rows})
        self._generator.close()
