"""How fast this engine really is, from its own work, and the time to first token that follows. Pure; engine thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

_KEEP = 0.9
"""Weight of what was measured before, at each new measurement: the last dozen of them count."""

MIN_TOKENS = 8
"""What fewer tokens take is overhead, or a first call's kernels, not a rate."""


@dataclass
class Rate:
    """Milliseconds per token, as a fading mean in which long stretches weigh more."""

    _ms: float = 0.0
    _tokens: float = 0.0

    def add(self, tokens: int, ms: float) -> None:
        if tokens < MIN_TOKENS:
            return
        self._ms = self._ms * _KEEP + ms
        self._tokens = self._tokens * _KEEP + tokens

    @contextmanager
    def measured(self, tokens: int) -> Iterator[None]:
        """The work inside computes this many tokens."""
        started = perf_counter()
        yield
        self.add(tokens, (perf_counter() - started) * 1e3)

    @property
    def ms_per_token(self) -> float | None:
        return self._ms / self._tokens if self._tokens else None


@dataclass
class Rates:
    """prefill: by prompt tokens computed. encode: by tokens of the media that went through the vision tower."""

    prefill: Rate = field(default_factory=Rate)
    encode: Rate = field(default_factory=Rate)

    def ttft_ms(self, prompt_ms: float, tokens: int, media_tokens: int) -> float | None:
        """prompt_ms for template and processor, then so many tokens to compute, so many of them encoded first.

        None while a rate that is needed has not been measured.
        """
        prefill, encode = self.prefill.ms_per_token, self.encode.ms_per_token
        if prefill is None or (media_tokens and encode is None):
            return None
        return prompt_ms + tokens * prefill + media_tokens * (encode or 0.0)
