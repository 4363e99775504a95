"""How much memory a vision tower takes while it reads, predicted from what it took for two pictures. Pure Python.

    bytes = fixed + per_token × tokens + per_pair × (sum over the pictures of tokens²)

The second term is the activations of its layers. The third is the scores of its attention, where the device writes them
down (MLX's CPU does); elsewhere it is near zero. Weights, and what is kept of a picture, are not in it.

Two pictures tell two terms. Where the larger one takes less for each token than the small one, something is taken once,
whatever there is to read; where it takes more, attention shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.runtime.estimates.work import EncoderWork


@dataclass(frozen=True, slots=True)
class EncoderMemory:
    """per_token, per_pair, fixed: in bytes; 0 where nothing is known. most_tokens: that are read at once, None for all
    that a prompt has; a picture that has more is read whole."""

    per_token: float = 0.0
    per_pair: float = 0.0
    most_tokens: int | None = None
    fixed: float = 0.0

    @classmethod
    def of(cls, measured: Sequence[tuple[EncoderWork, int]], most_tokens: int | None = None) -> EncoderMemory:
        """From what was read and the bytes that it took, the smaller picture first. With fewer than two pictures
        nothing is known: of one, what is fixed cannot be told from what grows."""
        if len(measured) < 2 or not all(work.tokens for work, _ in measured):
            return cls(most_tokens=most_tokens)
        (few, few_bytes), (many, many_bytes) = measured[0], measured[-1]
        least, most = few_bytes / few.tokens, many_bytes / many.tokens
        if many.tokens <= few.tokens:  # one size for all pictures, or its tokens do not tell it
            return cls(min(least, most), most_tokens=most_tokens)
        if most <= least:
            per_token = max(0.0, (many_bytes - few_bytes) / (many.tokens - few.tokens))
            return cls(per_token, 0.0, most_tokens, max(0.0, few_bytes - per_token * few.tokens))
        attended = many.attended / many.tokens
        per_pair = min((most - least) / (attended - few.attended / few.tokens), most / attended)
        return cls(most - per_pair * attended, per_pair, most_tokens)

    def peak_bytes(self, work: EncoderWork) -> int:
        """What reading this takes at once."""
        if not work.tokens:
            return 0
        tokens, attended = work.tokens, work.attended
        if self.most_tokens is not None and tokens > self.most_tokens:
            tokens = min(tokens, max(self.most_tokens, work.largest))
            attended = max(min(attended, work.largest**2), attended * tokens / work.tokens)
        return int(self.fixed + self.per_token * tokens + self.per_pair * attended)
