"""What comes of asking a request again, warm and cold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Replay:
    """A request asked again twice, greedily: warm, with what the cache holds for it, and cold, computed in full.

    warm_tokens, cold_tokens: token ids of both answers; *_text and *_ttft_ms (time to first token) belong to them.
    reused_tokens: prompt tokens that the warm run was served from the cache.
    margins: (warm, cold) for each token, by how much its log-probability was above the second best one's; rounding: at
    or below this, right computations may disagree about the best (a prompt computed in other chunks is summed in
    another order).
    """

    request_id: str
    warm_tokens: tuple[int, ...]
    cold_tokens: tuple[int, ...]
    warm_text: str
    cold_text: str
    warm_ttft_ms: float
    cold_ttft_ms: float
    prompt_tokens: int
    reused_tokens: int
    margins: tuple[tuple[float, float], ...] = ()
    rounding: float = 0.0

    @property
    def equal(self) -> bool:
        return self.warm_tokens == self.cold_tokens

    @property
    def first_difference(self) -> int | None:
        """Index of the first token that differs, or that only one answer has; None when they are equal."""
        if self.equal:
            return None
        pairs = zip(self.warm_tokens, self.cold_tokens, strict=False)
        shorter = min(len(self.warm_tokens), len(self.cold_tokens))
        return next((i for i, (warm, cold) in enumerate(pairs) if warm != cold), shorter)

    @property
    def verdict(self) -> Literal["equal", "near_tie", "different", "nothing_reused"]:
        """near_tie: they part at a token where both runs found two as likely, within rounding. nothing_reused: what
        was reused has been evicted since, so both runs were cold."""
        if not self.reused_tokens:
            return "nothing_reused"
        at = self.first_difference
        if at is None:
            return "equal"
        is_tie = at < len(self.margins) and max(self.margins[at]) <= self.rounding
        return "near_tie" if is_tie else "different"
