"""The time to first token that a request will have, by this engine's own records. Engine thread only; no MLX call.

ended requests ──> curves: prefill by chunk, vision tower by tokens, all the rest ──> expectation for the next one
              └──> track record: expectations made without knowing what came ──> told at all?
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from engine.prompt.receipts import uses
from engine.runtime.estimates.curve import Curve
from engine.runtime.estimates.track_record import TrackRecord
from engine.runtime.estimates.work import EncoderWork, Others, Work, chunk_terms, encoder_work

if TYPE_CHECKING:
    from engine.runtime.scheduler import Scheduler
    from engine.runtime.sequence import Sequence

_TOWER_GAP_MS = 50.0
"""While a vision tower runs, rows that decode get a step after so long (engine.runtime.worker)."""

_LEAST_MS = 0.01


@dataclass(eq=False)
class Observed:
    """What is noted of one request while it is on its way to its first token. number: how many had come before it.

    chunks: ([start, end), ms) of the prompt that were computed. was_alone: nobody else was there until its first token.
    """

    others: Others
    number: int
    work: Work | None = None
    chunks: list[tuple[int, int, float]] = field(default_factory=list)
    was_alone: bool = False


class Curves:
    """What this engine's work takes."""

    def __init__(self) -> None:
        self.prefill = Curve(3)
        self.encoder = Curve(4)
        self.rest = Curve(4)

    def prompt_ms(self, chunks: list[tuple[int, int]]) -> float | None:
        """To compute these chunks of a prompt."""
        parts = [self.prefill.ms(chunk_terms(start, end)) for start, end in chunks]
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None

    def ttft_ms(self, work: Work, others: Others, chunk_tokens: int) -> float | None:
        """None where something of it was never seen. chunk_tokens: computed at once."""
        chunks = work.chunks(chunk_tokens)
        own, rest = self.prompt_ms(chunks), self.rest.ms(work.rest_terms)
        encoder = self.encoder.ms(work.encoder.terms) if work.encoder.tokens else 0.0
        if own is None or rest is None or encoder is None:
            return None
        beside = [self.prompt_ms(_cut(start, end, chunk_tokens)) for start, end in others.prompts]
        theirs = sum(min(ms or 0.0, own) for ms in beside)  # they take turns with it, chunk by chunk
        steps = 0.5 + len(chunks) - 1 + encoder / max(_TOWER_GAP_MS, others.step_ms)
        return max(_LEAST_MS, rest + encoder + own + theirs + steps * others.step_ms)


class Expectations:
    """Follows every request, and says how long the next one will take."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._curves = Curves()
        self._record = TrackRecord()
        self._num_begun = 0
        self.step_s = 0.0
        """Of the last decode step."""

    def others(self) -> Others:
        """What runs now."""
        scheduler = self._scheduler
        is_known = not scheduler.waiting and all(s.is_open and s.scoring is None for s in scheduler.prefilling)
        is_full = scheduler.num_rows >= scheduler.completion_batch_size
        return Others(
            prompts=tuple((s.num_prefilled, s.num_prompt) for s in scheduler.prefilling if s.is_open),
            step_ms=self.step_s * 1e3 if scheduler.decoding else 0.0,
            is_known=is_known and not (is_full and scheduler.decoding),
        )

    def ttft_ms(self, work: Work, others: Others) -> float | None:
        """What may be told to somebody who is about to send this; None where such expectations have not held."""
        raw = self._raw_ms(work, others)
        kind = _kind(work, others)
        if raw is None or not self._record.trusts(kind, raw):
            return None
        return self._record.corrected(kind, raw)

    # -- what is noted of a request

    def begin(self, sequence: Sequence) -> None:
        """It is about to be queued."""
        sequence.observed = Observed(self.others(), self._num_begun)
        self._num_begun += 1

    @contextmanager
    def chunk(self, sequence: Sequence, end: int) -> Iterator[None]:
        """Inside, its prompt is computed up to this token."""
        start, began_s = sequence.num_prefilled, time.perf_counter()
        yield
        if sequence.observed is not None and end > start:
            sequence.observed.chunks.append((start, end, (time.perf_counter() - began_s) * 1e3))

    def first_token(self, sequence: Sequence) -> None:
        """It has its first token."""
        observed = sequence.observed
        if observed is not None:
            observed.was_alone = not observed.others.are_there and self._num_begun == observed.number + 1

    def ended(self, sequence: Sequence) -> None:
        """Judge what was expected of it, then learn from it."""
        observed = sequence.observed
        if observed is None or observed.work is None or not sequence.first_token_s or sequence.scoring is not None:
            return
        came_ms, work = _came_ms(sequence), observed.work
        is_plain = sequence.max_tokens > 0 and not (sequence.lease and sequence.lease.disk_tokens)
        raw = self._raw_ms(work, observed.others) if is_plain else None
        if raw is not None and (observed.was_alone or observed.others.are_there):
            self._record.add(_kind(work, observed.others), raw, came_ms)
        self._learn(sequence, observed, came_ms if is_plain else None)

    def _learn(self, sequence: Sequence, observed: Observed, came_ms: float | None) -> None:
        curves, encoding = self._curves, sequence.encoding
        for start, end, ms in observed.chunks:
            curves.prefill.add(chunk_terms(start, end), ms)
        if not observed.was_alone or came_ms is None or observed.work is None:
            return
        encoder = _encoded(sequence, observed.work)
        encoder_ms = encoding.ms if encoding is not None and encoder.tokens else 0.0
        if encoder_ms:
            curves.encoder.add(encoder.terms, encoder_ms)
        rest_ms = came_ms - encoder_ms - sum(ms for _, _, ms in observed.chunks)
        curves.rest.add(observed.work.rest_terms, rest_ms)

    def _raw_ms(self, work: Work, others: Others) -> float | None:
        if not others.is_known:
            return None
        scheduler = self._scheduler
        most = scheduler.chunk_tokens if others.are_there else scheduler.idle_chunk_tokens
        return self._curves.ttft_ms(work, others, most)


def _encoded(sequence: Sequence, work: Work) -> EncoderWork:
    """What the vision tower did. It may differ from what was expected: keys are of pixels, and those cost time."""
    encoding = sequence.encoding
    if encoding is None or encoding.uses is None:
        return work.encoder
    used = [(placed, use.features) for placed, use in uses(sequence.prompt, sequence.num_cached, encoding)]
    return encoder_work([(p, f.misses / (f.hits + f.misses)) for p, f in used if f is not None and f.hits + f.misses])


def _kind(work: Work, others: Others) -> str:
    """Expectations of one kind are off for the same reasons."""
    return f"{'beside others' if others.are_there else 'alone'}, {'encoder' if work.encoder.tokens else 'no encoder'}"


def _came_ms(sequence: Sequence) -> float:
    """Its time to first token as somebody has it whose media were at hand: who asks what a message costs has sent them.

    Reading what was at hand is a part of it; fetching and decoding what was not is left out.
    """
    read_ms = (sequence.loaded_s - sequence.accepted_s) * 1e3
    decode_ms = sum(placed.media.fetch_ms + placed.media.decode_ms for placed in sequence.prompt.media)
    total_ms = (sequence.first_token_s - sequence.accepted_s) * 1e3
    return max(_LEAST_MS, total_ms - read_ms if decode_ms and read_ms > decode_ms / 2 else total_ms)


def _cut(start: int, end: int, most_tokens: int) -> list[tuple[int, int]]:
    return list(pairwise([*range(start, end, max(1, most_tokens)), end])) if end > start else []
