"""What the engine thread tells the rest: counters, the requests that ended last, rates, and the Snapshot of it all."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

import mlx.core as mx

from engine import device
from engine.cache.prefix import PrefixCache
from engine.runtime.admission import Row
from engine.runtime.scheduler import Scheduler, Sequence
from engine.types import Done, ModelCard, Record, Running, Snapshot, Totals

_PUBLISH_S = 0.1
_RATE_WINDOW_S = 3.0
_MAX_RECORDS = 50


class EngineStats:
    """Written by the engine thread; what it publishes is frozen and read anywhere."""

    def __init__(self, card: ModelCard, publish: Callable[[Snapshot], None]) -> None:
        self._card = card
        self._publish = publish
        self._totals = Totals()
        self._records: deque[Record] = deque(maxlen=_MAX_RECORDS)
        self._recent: deque[tuple[float, int]] = deque()
        self._published_s = 0.0

    def count(self, **more: int) -> None:
        self._totals = replace(self._totals, **{name: getattr(self._totals, name) + n for name, n in more.items()})

    def stepped(self, num_tokens: int) -> None:
        """So many tokens came at once: of a decode step, or a prompt's first."""
        self._recent.append((time.perf_counter(), num_tokens))

    def record(self, sequence: Sequence, done: Done, error: str | None = None) -> None:
        """Add to the list of ended requests. A replay is nobody's request."""
        if sequence.request.source == "replay":
            return
        row: Row | None = sequence.row
        spans = tuple((span.start, span.end) for span in row.prompt.spans) if row else ()
        request = sequence.request
        done = replace(done, token_ids=())
        self._records.appendleft(
            Record(sequence.id, request.source, request.session, time.time(), done, spans, error, request.tenant)
        )

    def _decode_tps(self, now: float) -> float:
        """Tokens per second over the last seconds, all rows together."""
        while self._recent and self._recent[0][0] < now - _RATE_WINDOW_S:
            self._recent.popleft()
        span = now - self._recent[0][0] if self._recent else 0.0
        return sum(n for _, n in self._recent) / span if span > 0.2 else 0.0

    def show(self, scheduler: Scheduler, prefix: PrefixCache, force: bool = False) -> None:
        """Publish a snapshot, at most ten times a second unless forced."""
        now = time.perf_counter()
        if not force and now - self._published_s < _PUBLISH_S:
            return
        self._published_s = now
        self._publish(
            Snapshot(
                state="ready",
                device=device.describe(),
                model=self._card,
                running=tuple(_running(sequence, now) for sequence in scheduler),
                totals=self._totals,
                cache=prefix.stats(),
                recent=tuple(self._records),
                active_bytes=mx.get_active_memory(),
                cache_bytes=mx.get_cache_memory(),
                peak_bytes=mx.get_peak_memory(),
                process_bytes=device.process_bytes(),
                decode_tps=self._decode_tps(now),
            )
        )


def _running(sequence: Sequence, now: float) -> Running:
    return Running(
        id=sequence.id,
        stage=sequence.stage,
        prompt_tokens=sequence.num_prompt,
        prefilled_tokens=sequence.num_prefilled,
        completion_tokens=sequence.num_generated,
        age_ms=(now - sequence.accepted_s) * 1e3,
        source=sequence.request.source,
        session=sequence.request.session,
    )
