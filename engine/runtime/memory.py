"""How the memory beside the weights is shared between stored KV and running rows. Pure Python.

device memory × utilization
├─ weights
├─ stored: prefix cache and vision features, at most what was asked for and at most half of the rest
└─ rows:   KV of running requests; the batch pads every row to the longest, so rows × longest is what counts
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GROWTH_TOKENS = 256
"""Room kept for the answer of the longest row: MLX's KV grows in steps of as many tokens."""


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """Bytes for stored KV and for rows. row_tokens: the rows' bytes in tokens, None when a token's size is unknown."""

    stored_bytes: int
    row_bytes: int
    row_tokens: int | None


def share(device_bytes: int, utilization: float, model_bytes: int, stored_bytes: int, token_bytes: int) -> MemoryBudget:
    """utilization: share of the device's memory that may be used, 0 to 1. token_bytes: KV of one token of one row."""
    rest = max(0, int(device_bytes * utilization) - model_bytes)
    stored = min(stored_bytes, rest // 2)
    rows = rest - stored
    return MemoryBudget(stored, rows, rows // token_bytes if token_bytes else None)


def padded_tokens(lengths: Sequence[int]) -> int:
    """KV tokens that a batch of rows of these lengths takes, with room to answer."""
    return len(lengths) * (max(lengths) + GROWTH_TOKENS) if lengths else 0
