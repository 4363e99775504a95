"""How the memory beside the weights is shared between stored KV and running rows. Pure Python.

device memory × utilization
├─ weights
├─ stored: prefix cache and vision features, at most what was asked for and at most half of the rest
└─ rows:   KV of running requests; the batch pads every row to the longest, so rows × longest is what counts
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.types import ModelWeights, added_bytes

KV_SHARE = 8
GROWTH_TOKENS = 256
"""Room kept for the answer of the longest row: MLX's KV grows in steps of as many tokens."""


@dataclass(frozen=True, slots=True)
class ModelMemory:
    """What one model takes: num_bytes of weights, and token_bytes for the KV of one token of one row (0: not known).
    max_bytes: the most that weights and KV together may take. base, adapter_bytes: see engine.types.ModelWeights.
    windows: how many tokens a layer with a sliding window keeps, and its part of token_bytes."""

    num_bytes: int
    token_bytes: int
    max_bytes: int | None = None
    base: str = ""
    adapter_bytes: int = 0
    windows: tuple[tuple[int, int], ...] = ()

    def kv_bytes(self, tokens: int) -> int:
        """KV of a row of so many tokens. In token_bytes alone, windows count as if they kept everything."""
        forgotten = sum(num_bytes * max(0, tokens - kept) for kept, num_bytes in self.windows)
        return tokens * self.token_bytes - forgotten

    def part(self, even_bytes: int) -> int:
        """What is left for its KV, where an even part of the rest is so much."""
        return even_bytes if self.max_bytes is None else min(even_bytes, max(0, self.max_bytes - self.num_bytes))


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """One model's share. stored_bytes: for stored KV and features. row_tokens: KV tokens of its running rows, None when
    a token's size is not known. model: whose it is."""

    stored_bytes: int
    row_tokens: int | None
    model: ModelMemory


def share(
    device_bytes: int, utilization: float, models: Sequence[ModelMemory], stored_bytes: int
) -> tuple[MemoryBudget, ...]:
    """A share for each model: they divide what the weights of all leave evenly, as far as each may have it.

    utilization: share of the device's memory that may be used, 0 to 1. stored_bytes: what was asked for, all together.
    """
    rest = max(0, int(device_bytes * utilization) - sum(added_bytes(models)))
    return tuple(_budget(m, m.part(rest // len(models)), stored_bytes // len(models)) for m in models)


def _budget(model: ModelMemory, part_bytes: int, stored_bytes: int) -> MemoryBudget:
    stored = min(stored_bytes, part_bytes // 2)
    row_tokens = (part_bytes - stored) // model.token_bytes if model.token_bytes else None
    return MemoryBudget(stored, row_tokens, model)


def room(models: Sequence[ModelWeights]) -> int:
    """What models need to be useful: their weights, and for each KV of an eighth of what it weighs."""
    return sum(added_bytes(models)) + sum(model.num_bytes // KV_SHARE for model in models)


def padded_tokens(lengths: Sequence[int]) -> int:
    """KV tokens that a batch of rows of these lengths takes, with room to answer."""
    return len(lengths) * padded_row(lengths) if lengths else 0


def padded_row(lengths: Sequence[int]) -> int:
    """KV tokens of each of these rows in a batch."""
    return max(lengths) + GROWTH_TOKENS
