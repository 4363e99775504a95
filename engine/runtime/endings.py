"""The end of a request: it gives back what it held, is counted, and its reader gets the last event.

Engine thread only.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from collections.abc import Sequence as Tokens
from dataclasses import dataclass

from engine.cache.prefix import PrefixCache
from engine.cache.provenance import decode_ids
from engine.errors import EngineError, Internal, caused
from engine.prompt.receipts import receipts
from engine.runtime.estimates.expectation import Expectations
from engine.runtime.rows import Rows
from engine.runtime.scheduler import Scheduler
from engine.runtime.sequence import Sequence
from engine.runtime.stats import EngineStats
from engine.types import CacheTrace, Done, FinishReason, Timing, Usage
from engine.types.prompt import OTHER_MEDIA

log = logging.getLogger(__name__)

FAILED_ANSWER = "The server failed on this answer; its log has the cause."
_SHOWN_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Endings:
    """Ends the requests of one model, each of them once, whatever else fails at its end.

    decode: token ids -> text.
    """

    scheduler: Scheduler
    rows: Rows
    prefix: PrefixCache
    expectations: Expectations
    stats: EngineStats
    decode: Callable[[Tokens[int]], str]
    cache_enabled: bool

    def finish(self, sequence: Sequence) -> None:
        """Every choice has ended by itself."""
        try:
            done = self._finished(sequence)
        except Exception as error:
            log.exception("%s could not be ended in order", sequence.id)
            self.stats.count(failed=1)
            sequence.stage = "finished"
            sequence.post(caused(Internal(FAILED_ANSWER), error))
        else:
            sequence.post(done)

    def _finished(self, sequence: Sequence) -> Done:
        """Let go of it, count it and say so. Returns its last event."""
        self.forget(sequence)
        reasons = [choice.finish_reason for choice in sequence.choices]
        reason: FinishReason = reasons[0] or "stop"
        done = make_done(sequence, reason, self._trace(sequence))
        self.stats.count(
            finished=1,
            cut_off=int("length" in reasons),
            prompt_tokens=sequence.num_read,
            completion_tokens=sequence.num_generated,
            proposed_tokens=done.usage.accepted_prediction_tokens + done.usage.rejected_prediction_tokens,
            accepted_tokens=done.usage.accepted_prediction_tokens,
        )
        self.stats.record(sequence, done)
        self.expectations.ended(sequence)
        # Before the reader learns that it is over: what it looks up next must have counted it.
        self.stats.show(force=True)
        log.info(
            "%s %s prompt=%d reused=%d computed=%d completion=%d media=%d ttft_ms=%.0f total_ms=%.0f",
            sequence.id, reason, sequence.num_prompt, sequence.num_cached, sequence.num_prompt - sequence.num_cached,
            sequence.num_generated, len(done.media),
            done.timing.ttft_ms, done.timing.total_ms,
        )  # fmt: skip
        return done

    def fail(self, sequence: Sequence, error: EngineError) -> None:
        """End a sequence with an error. The reader gets it whatever else fails here; nothing for one that has ended."""
        if sequence.stage == "finished":
            return
        try:
            self.forget(sequence)
            self.stats.count(failed=1)
            done = make_done(sequence, "cancelled", self._trace(sequence))
            self.stats.record(sequence, done, error.code)
            log.info("%s failed: %s", sequence.id, error.code)
            self.stats.show(force=True)
        except Exception:
            log.exception("%s could not be put away in order", sequence.id)
        finally:
            sequence.stage = "finished"
            sequence.post(error)

    def cancel(self, sequence: Sequence) -> None:
        """Its reader is gone: what fails here must cost nobody else their answer. Nothing for one that has ended."""
        if sequence.stage == "finished":
            return
        self.stats.count(cancelled=1)
        try:
            self.forget(sequence)
            done = make_done(sequence, "cancelled", self._trace(sequence))
            self.stats.record(sequence, done)
            sequence.post(done)
        except Exception:
            log.exception("%s could not be cancelled in order", sequence.id)
        self.stats.show(force=True)

    def forget(self, sequence: Sequence) -> None:
        """Take a sequence out of the queues and the batch, and give back what it holds of the prefix cache. Once for
        each: it has ended from then on."""
        self.scheduler.remove(sequence)
        try:
            for choice in sequence.choices:
                self.rows.leave(choice)
        finally:
            if sequence.restore is not None:
                sequence.restore.close()
            if sequence.lease is not None:
                self.prefix.end(sequence.lease)

    def _trace(self, sequence: Sequence) -> CacheTrace | None:
        return make_trace(sequence, self.cache_enabled, self.decode)


def make_done(sequence: Sequence, reason: FinishReason, trace: CacheTrace | None) -> Done:
    """The last event of a sequence, at whatever stage it ends."""
    now = time.perf_counter()
    started = sequence.started_s or now
    first = sequence.first_token_s or now
    timing = Timing(
        media_ms=(sequence.submitted_s - sequence.accepted_s) * 1e3,
        queue_ms=(started - sequence.submitted_s) * 1e3,
        prefill_ms=(first - started) * 1e3,
        ttft_ms=(first - sequence.accepted_s) * 1e3,
        decode_ms=(now - first) * 1e3,
        total_ms=(now - sequence.accepted_s) * 1e3,
        completion_tokens=sequence.num_generated,
        prompt_tokens=sequence.num_read,
    )
    num_proposed = sum(choice.proposer.num_proposed for choice in sequence.choices if choice.proposer)
    num_accepted = sum(choice.num_accepted for choice in sequence.choices)
    usage = Usage(
        prompt_tokens=sequence.num_read,
        completion_tokens=sequence.num_generated,
        cached_tokens=sequence.num_cached,
        reasoning_tokens=sum(choice.num_reasoning for choice in sequence.choices),
        accepted_prediction_tokens=num_accepted,
        rejected_prediction_tokens=num_proposed - num_accepted,
    )
    media = receipts(sequence.prompt, sequence.num_cached, sequence.encoding)
    scoring = sequence.scoring
    decisions = scoring.decisions() if scoring and scoring.is_done else ()
    prompt_ids = tuple(sequence.prompt.ids) if sequence.request.prompt_ids else ()
    return Done(reason, usage, timing, media, trace, decisions, prompt_ids=prompt_ids)


def make_trace(sequence: Sequence, cache_enabled: bool, decode: Callable[[Tokens[int]], str]) -> CacheTrace | None:
    """Why the first computed token of the prompt was not reused, with the text on both sides. None before admission.

    decode: token ids -> text.
    """
    if not sequence.is_open:
        return None
    prompt, lease = sequence.prompt, sequence.lease
    if lease is None:
        reason = "off" if not cache_enabled else "not_cacheable" if sequence.request.reuse else "cold"
        return CacheTrace(0, len(prompt.ids), reason, media_first=sequence.media_first)
    at, other, ids = lease.match.num_tokens, lease.match.miss.other, prompt.cache_ids
    return CacheTrace(
        reused_tokens=at,
        computed_tokens=len(prompt.ids) - at,
        reason=lease.match.miss.reason,
        before=decode_ids(ids[max(0, at - _SHOWN_TOKENS) : at], decode),
        here=decode_ids(ids[at : at + _SHOWN_TOKENS], decode),
        other="" if other is None else OTHER_MEDIA if other < 0 else decode([other]),
        evicted_s=lease.match.miss.evicted_s,
        media_first=sequence.media_first,
        disk_tokens=lease.disk_tokens,
    )
