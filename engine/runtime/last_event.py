"""The end of a request: its last event, and why its prompt was not reused further. Engine thread only."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence as Tokens

from engine.cache.provenance import decode_ids
from engine.prompt.receipts import receipts
from engine.runtime.sequence import Sequence
from engine.types import CacheTrace, Done, FinishReason, Timing, Usage
from engine.types.prompt import OTHER_MEDIA

_SHOWN_TOKENS = 8


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
    num_reasoning = sum(choice.num_reasoning for choice in sequence.choices)
    usage = Usage(sequence.num_read, sequence.num_generated, sequence.num_cached, num_reasoning)
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
