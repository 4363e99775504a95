"""What the engine thread tells the rest: counters, the requests that ended last, rates, and the Snapshot of it all.

Imports MLX; engine thread only.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import mlx.core as mx

from engine import device
from engine.cache.prefix import PrefixCache
from engine.models import mlx_memory
from engine.runtime.model_sums import all_batches, all_caches, ended
from engine.runtime.scheduler import Scheduler
from engine.runtime.sequence import Sequence
from engine.types import CacheStats, Done, ModelCard, ModelState, RankMemory, Record, Running, Snapshot, Totals

log = logging.getLogger(__name__)

_PUBLISH_S = 0.1
_RATE_WINDOW_S = 3.0
_MAX_RECORDS = 50


@dataclass(frozen=True, slots=True)
class _Model:
    card: ModelCard
    scheduler: Scheduler
    prefix: PrefixCache


class EngineStats:
    """Written by the engine thread; what it publishes is frozen and read anywhere.

    states: of all models that may be loaded. wired_bytes: the wired limit that is set; None where there is none.
    is_starting: those that are loaded at the start are not there yet. ranks: memory of the other processes of a model.
    """

    def __init__(
        self,
        publish: Callable[[Snapshot], None],
        states: Callable[[], tuple[ModelState, ...]] = lambda: (),
        wired_bytes: int | None = None,
        ranks: Callable[[], tuple[RankMemory, ...]] = lambda: (),
    ) -> None:
        self.is_starting = True
        self._wired_bytes = wired_bytes
        self._ranks = ranks
        self._publish = publish
        self._states = states
        self._models: list[_Model] = []
        self._ended = CacheStats()
        self._totals = Totals()
        self._records: deque[Record] = deque(maxlen=_MAX_RECORDS)
        self._recent: deque[tuple[float, int]] = deque()
        self._published_s = 0.0
        self._process_bytes = self._peak_bytes = 0

    def keep_peak(self) -> None:
        """Before MLX is made to count its peak anew."""
        self._peak_bytes = max(self._peak_bytes, mx.get_peak_memory())

    def add(self, card: ModelCard, scheduler: Scheduler, prefix: PrefixCache) -> None:
        """A model that is served from now on."""
        self._models.append(_Model(card, scheduler, prefix))

    def remove(self, card: ModelCard) -> None:
        """A model that has left memory. What its cache counted stays counted."""
        for model in [model for model in self._models if model.card is card]:
            self._models.remove(model)
            self._ended = ended(self._ended, model.prefix.stats())

    def count(self, **more: int) -> None:
        self._totals = replace(self._totals, **{name: getattr(self._totals, name) + n for name, n in more.items()})

    def stepped(self, num_tokens: int) -> None:
        """So many tokens came at once: of a decode step, or a prompt's first."""
        self._recent.append((time.perf_counter(), num_tokens))

    def record(self, sequence: Sequence, done: Done, error: str | None = None) -> None:
        """Add to the list of ended requests. A replay is nobody's request."""
        if sequence.request.source == "replay":
            return
        request = sequence.request
        spans = tuple((span.start, span.end) for span in sequence.prompt.spans)
        self._records.appendleft(
            Record(request.id, request.source, request.session, time.time(), done, spans, error, request.tenant)
        )

    def _decode_tps(self, now: float) -> float:
        """Tokens per second over the last seconds, all rows together."""
        while self._recent and self._recent[0][0] < now - _RATE_WINDOW_S:
            self._recent.popleft()
        span = now - self._recent[0][0] if self._recent else 0.0
        return sum(n for _, n in self._recent) / span if span > 0.2 else 0.0

    def show(self, force: bool = False) -> None:
        """Publish a snapshot, at most ten times a second unless forced. What cannot be read of the machine just now
        keeps no request from being served: the log says so, and the last snapshot stands."""
        now = time.perf_counter()
        if not force and now - self._published_s < _PUBLISH_S:
            return
        self._published_s = now
        try:
            self._publish(self._snapshot(now))
        except Exception:
            log.exception("no snapshot could be made")

    def _snapshot(self, now: float) -> Snapshot:
        self._process_bytes = device.process_bytes() or self._process_bytes  # the last known
        states = self._states()
        places = {state.name: place for place, state in enumerate(states)}
        models = sorted(self._models, key=lambda model: places.get(model.card.id, 0))
        caches = tuple(model.prefix.stats() for model in models)
        return Snapshot(
            state="loading" if self.is_starting else "ready",
            device=device.describe(),
            models=tuple(model.card for model in models),
            states=states,
            running=tuple(_running(s, model.card.id, now) for model in models for s in model.scheduler),
            batch=all_batches([model.scheduler.state() for model in models]),
            totals=self._totals,
            cache=all_caches(caches, self._ended),
            caches=caches,
            recent=tuple(self._records),
            active_bytes=mx.get_active_memory(),
            cache_bytes=mx.get_cache_memory(),
            peak_bytes=max(self._peak_bytes, mx.get_peak_memory()),
            device_bytes=mlx_memory.device_bytes(),
            wired_limit_bytes=self._wired_bytes,
            process_bytes=self._process_bytes,
            decode_tps=self._decode_tps(now),
            ranks=self._ranks(),
        )


def _running(sequence: Sequence, model: str, now: float) -> Running:
    return Running(
        id=sequence.id,
        stage=sequence.stage,
        prompt_tokens=sequence.num_prompt,
        prefilled_tokens=sequence.num_prefilled,
        completion_tokens=sequence.num_generated,
        age_ms=(now - sequence.accepted_s) * 1e3,
        source=sequence.request.source,
        session=sequence.request.session,
        model=model,
    )
