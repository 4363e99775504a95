"""What an answer cost that was written in several requests, each of which went on where the one before had ended. Pure.

Turn.ended_parts ──> one line and one receipt for each medium: sums over all requests
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.types import Description, Done, FeatureUse, MediaReceipt, Timing, Usage
from workbench.chat.convert import note, out, stopped_note
from workbench.conversations.types import Turn
from workbench.language import t


def cost_note(turn: Turn) -> str:
    """The quiet line under an answer. Where a request of it was stopped, only the tokens are known."""
    parts = turn.ended_parts
    num_tokens = sum(part.num_tokens for part in parts)
    if turn.done is None:
        # A server that is asked by HTTP tells its tokens at the end, which this answer did not reach.
        return t("stopped") if turn.text and not num_tokens else stopped_note(num_tokens, len(parts))
    known = [part.done for part in parts if part.done]
    if len(known) == len(parts):
        return note(summed(known), len(parts))
    words = [out(num_tokens, len(parts))]
    if turn.done.finish_reason == "length":
        words.append(t("length limit reached"))
    return " · ".join(words)


def receipts_of(turn: Turn) -> tuple[MediaReceipt, ...]:
    """A receipt for each medium that the answer was asked with; () where none is known."""
    known = [part.done for part in turn.ended_parts if part.done]
    return summed(known).media if turn.done else ()


def descriptions_of(turn: Turn) -> tuple[Description, ...]:
    """What another model said about each medium, as the first request heard it; () where none is known."""
    known = [part.done for part in turn.ended_parts if part.done]
    return known[0].descriptions if turn.done else ()


def summed(parts: Sequence[Done]) -> Done:
    """The last end, with usage and times of all. The first token is the first request's."""
    if len(parts) == 1:
        return parts[0]
    timings = [part.timing for part in parts]
    usages = [part.usage for part in parts]
    timing = Timing(
        media_ms=sum(timing.media_ms for timing in timings),
        queue_ms=sum(timing.queue_ms for timing in timings),
        prefill_ms=sum(timing.prefill_ms for timing in timings),
        ttft_ms=timings[0].ttft_ms,
        decode_ms=sum(timing.decode_ms for timing in timings),
        total_ms=sum(timing.total_ms for timing in timings),
        # A request's first token takes no decode step: as many steps as there were, and one.
        completion_tokens=1 + sum(max(0, timing.completion_tokens - 1) for timing in timings),
        prompt_tokens=sum(timing.prompt_tokens for timing in timings),
    )
    usage = Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        cached_tokens=sum(usage.cached_tokens for usage in usages),
        reasoning_tokens=sum(usage.reasoning_tokens for usage in usages),
        accepted_prediction_tokens=sum(usage.accepted_prediction_tokens for usage in usages),
        rejected_prediction_tokens=sum(usage.rejected_prediction_tokens for usage in usages),
    )
    return replace(parts[-1], usage=usage, timing=timing, media=_added([part.media for part in parts]))


def _added(lists: Sequence[tuple[MediaReceipt, ...]]) -> tuple[MediaReceipt, ...]:
    """The same media in each request, with the work of all. The last request's where they are not the same."""
    if len({tuple(receipt.sha256 for receipt in receipts) for receipts in lists}) > 1:
        return lists[-1]
    return tuple(_sum(receipts) for receipts in zip(*lists, strict=True))


def _sum(receipts: tuple[MediaReceipt, ...]) -> MediaReceipt:
    uses = [receipt.features for receipt in receipts if receipt.features]
    features = FeatureUse(sum(use.hits for use in uses), sum(use.misses for use in uses)) if uses else None
    return replace(
        receipts[0],
        fetch_ms=sum(receipt.fetch_ms for receipt in receipts),
        decode_ms=sum(receipt.decode_ms for receipt in receipts),
        resize_ms=sum(receipt.resize_ms for receipt in receipts),
        encode_ms=sum(receipt.encode_ms for receipt in receipts),
        features=features,
    )
