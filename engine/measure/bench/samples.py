"""One timed answer, and the stopwatch that times it: by the reader's clock, the same for every target. Pure."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from engine.measure.bench.questions import Question
from engine.types import MediaReceipt

Logprobs = tuple[tuple[int, float], ...]
AT_ONCE_S = 0.0002
"""A median gap below this is no decoding."""


@dataclass(frozen=True, slots=True)
class SeenMedia:
    """What a target reports of a medium: tokens, (width, height) in pixels, frames (0 for a picture)."""

    kind: str
    tokens: int
    px: tuple[int, int]
    frames: int = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer. Seconds of the reader's clock.

    started_s: on time.perf_counter. ttft_s: from question to first text. itl_s: between two pieces of text.
    cached_tokens, seen: None where the target does not report them. num_media: how many were sent. feature_hits: vision
    encoder runs avoided. cpu_s: processor time of this process up to the first text; None where another process
    answered. right: whether the answer holds the expected word. others: requests of others that ran meanwhile.
    logprobs: (token id, log-probability) of the likeliest first tokens, where asked for. process_bytes: resident memory
    of the server that answered, at the end of the answer; None where it is not known, and for this process. expected_s:
    ttft_s as it was estimated before; None where it was not. accepted_tokens: of the answer, those that speculation
    proposed.
    """

    target: str
    started_s: float
    ttft_s: float
    e2e_s: float
    itl_s: tuple[float, ...]
    prompt_tokens: int
    completion_tokens: int
    text_sha256: str
    cached_tokens: int | None = None
    seen: tuple[SeenMedia, ...] | None = None
    reason: str = ""
    cpu_s: float | None = None
    right: bool | None = None
    claim: str = ""
    num_media: int = 0
    feature_hits: int = 0
    others: int = 0
    logprobs: Logprobs = ()
    process_bytes: int | None = None
    expected_s: float | None = None
    accepted_tokens: int = 0

    @property
    def tpot_s(self) -> float | None:
        """Mean time per output token after the first. Returns None where there is no second."""
        if self.completion_tokens < 2 or self.e2e_s <= self.ttft_s:
            return None
        return (self.e2e_s - self.ttft_s) / (self.completion_tokens - 1)

    @property
    def came_at_once(self) -> bool:
        """Whether its pieces arrived together, faster than any model decodes: the server sent them late."""
        return not self.accepted_tokens and len(self.itl_s) >= 3 and median(self.itl_s) < AT_ONCE_S

    @property
    def generation_tps(self) -> float | None:
        return None if self.tpot_s is None else 1 / self.tpot_s

    @property
    def prompt_tps(self) -> float | None:
        """Computed prompt tokens per second up to the first text. Returns None where none were computed."""
        computed = self.prompt_tokens - (self.cached_tokens or 0)
        return computed / self.ttft_s if self.ttft_s > 0 and computed > 0 else None

    def gap_s(self, start_s: float, end_s: float) -> float:
        """The longest time without text that overlaps [start_s, end_s] of time.perf_counter; 0 if none does."""
        longest, before = 0.0, self.started_s + self.ttft_s
        for gap in self.itl_s:
            if before + gap >= start_s and before <= end_s:
                longest = max(longest, gap)
            before += gap
        return longest


@dataclass(slots=True)
class Stopwatch:
    """Starts when it is made. `note` is called with every piece of text; it reads a clock and appends to two lists.

    on_first: called at the first piece.
    """

    on_first: Callable[[], object] | None = None
    started_s: float = field(default_factory=time.perf_counter)
    cpu_started_s: float = field(default_factory=time.process_time)
    cpu_s: float = 0.0
    times_s: list[float] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.times_s.append(time.perf_counter())
        if not self.pieces:
            self.cpu_s = time.process_time() - self.cpu_started_s
            if self.on_first:
                self.on_first()
        self.pieces.append(text)

    def sample(self, target: str, question: Question, prompt_tokens: int, completion_tokens: int) -> Sample:
        """The sample; the answer ends now."""
        ended_s = time.perf_counter()
        times_s = self.times_s or [ended_s]
        text = "".join(self.pieces)
        return Sample(
            target=target,
            started_s=self.started_s,
            ttft_s=times_s[0] - self.started_s,
            e2e_s=ended_s - self.started_s,
            itl_s=tuple(b - a for a, b in pairwise(times_s)),
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            text_sha256=hashlib.sha256(text.encode()).hexdigest(),
            right=question.is_right(text),
            claim=question.claim,
            num_media=question.num_media,
        )


def seen_of(receipts: Sequence[MediaReceipt]) -> tuple[SeenMedia, ...]:
    return tuple(SeenMedia(r.kind, r.tokens, r.seen_px, len(r.frames)) for r in receipts)
