"""What an answer used, as JSON: tokens, a receipt for each medium, and what the cache did. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from engine.types import CacheTrace, Description, Done, Json, MediaReceipt, Preflight, TokenText


def usage_json(done: Done, operator: bool = True) -> Json:
    """OpenAI's usage, with what is this server's own."""
    usage = done.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "accepted_prediction_tokens": usage.accepted_prediction_tokens,
            "rejected_prediction_tokens": usage.rejected_prediction_tokens,
        },
        **own_usage(done, operator),
    }


def own_usage(done: Done, operator: bool) -> Json:
    """What only this server says in usage, in every protocol: a receipt for each medium, in the order sent, or what
    another model said about it, and what the cache did; of an answer that another server gave, which one that was.
    operator: see trace_json."""
    by = done.served_by
    return {
        "media": [receipt_json(receipt) for receipt in done.media],
        "descriptions": [description_json(one) for one in done.descriptions],
        "cache": trace_json(done.trace, operator) if done.trace else None,
        "coordinates": asdict(done.coordinates) if done.coordinates else None,
        **({"served_by": {"server": by.host, "model": by.model, "usage_known": by.tells_usage}} if by else {}),
    }


def description_json(one: Description) -> Json:
    """What another model said about one medium. Its tokens and seconds are not in the rest of the usage."""
    return {**asdict(one), "seconds": round(one.seconds, 3)}


def trace_json(trace: CacheTrace, operator: bool = True) -> Json:
    """How much of the prompt was reused, and why not more.

    `other` is text from another prompt. Visitors do not get it: they could read somebody's prompt word by word.
    """
    fields = asdict(trace)
    return fields if operator else {**fields, "other": ""}


def preflight_json(preflight: Preflight, token_text: Callable[[int], TokenText] | None = None) -> Json:
    """vLLM's answer to /tokenize; left, cached_tokens, ttft_ms and media are this server's own.

    token_text: what a token id stands for, where the client wants to read them.
    """
    texts = [token_text(id).text for id in preflight.tokens] if token_text else None
    return {
        "count": len(preflight.tokens),
        "max_model_len": preflight.context_tokens,
        "tokens": list(preflight.tokens),
        "token_strs": texts,
        "left": preflight.left,
        "cached_tokens": preflight.cached_tokens,
        "ttft_ms": None if preflight.ttft_ms is None else round(preflight.ttft_ms, 3),
        "media": [receipt_json(receipt) for receipt in preflight.media],
    }


def receipt_json(receipt: MediaReceipt) -> Json:
    """What happened to one medium. Sizes are [width, height] in pixels, times and duration in seconds."""
    return {
        "kind": receipt.kind,
        "param": receipt.param,
        "bytes": receipt.num_bytes,
        "decoded": list(receipt.decoded_px),
        "seen": list(receipt.seen_px),
        "tokens": receipt.tokens,
        "sha256": receipt.sha256,
        "frames": [{"index": index, "time": time_s} for index, time_s in receipt.frames],
        "duration": round(receipt.duration_s, 3),
        "fetch_ms": round(receipt.fetch_ms, 3),
        "decode_ms": round(receipt.decode_ms, 3),
        "resize_ms": round(receipt.resize_ms, 3),
        "encode_ms": round(receipt.encode_ms, 3),
        "features": asdict(receipt.features) if receipt.features else None,
        "notes": list(receipt.notes),
        "crop": crop_json(receipt),
        "boxes": [region.as_json() for region in receipt.regions],
    }


def crop_json(receipt: MediaReceipt) -> Json | None:
    """Which part of a picture went in, [x, y, width, height], of how large a whole; None for a whole picture."""
    if receipt.crop is None:
        return None
    return {"part": [receipt.crop.x, receipt.crop.y, *receipt.decoded_px], "of": list(receipt.crop.of_px)}
