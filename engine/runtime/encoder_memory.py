"""How much memory a vision tower takes while it reads, predicted from what it took for two pictures. Pure Python.

    bytes = per_token × tokens + per_pair × (sum over the pictures of tokens²)

The first term is the activations of its layers. The second is the scores of its attention, where the device writes them
down (MLX's CPU does); elsewhere it is near zero. Weights, and what is kept of a picture, are not in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.runtime.work import EncoderWork


@dataclass(frozen=True, slots=True)
class EncoderMemory:
    """per_token, per_pair: in bytes; 0 where nothing is known. most_tokens: that are read at once, None for all that a
    prompt has."""

    per_token: float = 0.0
    per_pair: float = 0.0
    most_tokens: int | None = None

    @classmethod
    def of(cls, measured: Sequence[tuple[EncoderWork, int]], most_tokens: int | None = None) -> EncoderMemory:
        """From what was read and the bytes that it took, at most two of them, the smaller one first."""
        known = [(work.attended / work.tokens, num_bytes / work.tokens) for work, num_bytes in measured if work.tokens]
        if not known:
            return cls(most_tokens=most_tokens)
        (few, least), (many, most) = known[0], known[-1]
        per_pair = max(0.0, (most - least) / (many - few)) if many > few else 0.0
        return cls(max(0.0, most - per_pair * many), per_pair, most_tokens)

    def peak_bytes(self, work: EncoderWork) -> int:
        """What reading this takes at once."""
        at_once = work.tokens
        if self.most_tokens is not None:
            at_once = min(at_once, max(self.most_tokens, work.largest))
        share = at_once / work.tokens if work.tokens else 0.0
        return int(share * (self.per_token * work.tokens + self.per_pair * work.attended))
