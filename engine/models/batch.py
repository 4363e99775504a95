"""The rows that decode together. The only file that names mlx-lm's BatchGenerator; engine thread only.

Rows come in with their prompt already computed except its last token, which the batcher feeds as the first step: all
rows, text or pictures, are then the same to it. It samples each row with the row's own sampler and key.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from mlx_lm.generate import BatchGenerator, StopSequences

from engine.models.adapter import Adapter
from engine.sampling import LogitsProcessor, Sampler


@dataclass(frozen=True, slots=True)
class Token:
    """One row's step. finish: None while it goes on, "stop" on a stop id (then `token` is that id), else "length".

    kv: the finished row's KV, this token's included; None while it goes on.
    logprobs: (vocabulary,) log-probabilities that it was chosen from.
    """

    row: int
    token: int
    finish: str | None
    kv: list[Any] | None = None
    logprobs: Any = None


@dataclass(slots=True)
class Decode:
    """What a row brings along. prompt: token ids; cache: KV of all of them but the last; max_tokens >= 1."""

    prompt: list[int]
    cache: list[Any]
    sampler: Sampler
    max_tokens: int
    processors: list[LogitsProcessor] = field(default_factory=list)


class Batch:
    """Continuous batch: rows join and leave between steps."""

    def __init__(self, adapter: Adapter, stop_ids: Collection[int], completion_batch_size: int) -> None:
        self._stop = StopSequences([[int(i)] for i in sorted(stop_ids)])
        model: Any = adapter
        # Rows arrive one token short of their prompt: all that came since the last step take their first step together.
        self._generator = BatchGenerator(
            model, completion_batch_size=completion_batch_size, prefill_batch_size=completion_batch_size
        )
        self._rows: set[int] = set()
        self._silent: set[int] = set()

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, decode: Decode) -> int:
        """Let a row join at the next step; returns the row's number."""
        (row,) = self._generator.insert(
            [decode.prompt[-1:]],
            max_tokens=[decode.max_tokens],
            caches=[decode.cache],
            all_tokens=[decode.prompt[:-1]],
            samplers=[decode.sampler],
            logits_processors=[decode.processors],
            stop_sequences=[self._stop],
        )
        self._rows.add(row)
        self._silent.add(row)
        return row

    @property
    def is_speaking(self) -> bool:
        """Whether a row has had a token."""
        return len(self._rows) > len(self._silent)

    def step(self) -> list[Token]:
        """One token for every row that joined before this step; finished rows leave by themselves."""
        _, responses = self._generator.next()
        tokens = [Token(r.uid, int(r.token), r.finish_reason, r.prompt_cache, r.logprobs) for r in responses]
        self._rows -= {t.row for t in tokens if t.finish}
        self._silent -= {t.row for t in tokens}
        return tokens

    def remove(self, row: int) -> list[Any]:
        """Take a row out; the others do not notice. Returns its KV, [] for a row that has left already."""
        if row not in self._rows:
            return []
        self._rows.discard(row)
        self._silent.discard(row)
        kv, _ = self._generator.remove([row], return_prompt_caches=True)[row]
        return list(kv)

    def kv_bytes(self) -> int:
        return int(self._generator.prompt_cache_nbytes)

    def close(self) -> None:
        """Give MLX's wired-memory limit back."""
        self._generator.close()
