"""What a server of this project tells in `usage` beside the tokens, read back: receipts, cache, coordinates. Pure.

Whatever is not in the form that this project writes (engine.api.answering.usage) is left out, never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar, get_args

from engine.remote.numbers import count, finite, is_count
from engine.types import (
    CacheTrace,
    CoordinatesGiven,
    Crop,
    Description,
    FeatureUse,
    Json,
    Kind,
    MediaReceipt,
    Part,
    Region,
    Usage,
)

T = TypeVar("T")


def told_usage(usage: Json) -> Usage | None:
    """The tokens; None where they are not told."""
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if not is_count(prompt) or not is_count(completion):
        return None
    details, own = _details(usage, "prompt_tokens_details"), _details(usage, "completion_tokens_details")
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=_count(details, "cached_tokens"),
        reasoning_tokens=_count(own, "reasoning_tokens"),
        accepted_prediction_tokens=_count(own, "accepted_prediction_tokens"),
        rejected_prediction_tokens=_count(own, "rejected_prediction_tokens"),
    )


def told_media(usage: Json, sent: Sequence[Part]) -> tuple[MediaReceipt, ...]:
    """Receipts; () where none are told. sent: the media of the request; where each has one receipt, that is about the
    part as it is called here."""
    media = usage.get("media")
    if not isinstance(media, list):
        return ()
    found = _read(lambda: tuple(_receipt(one) for one in media)) or ()
    if len(found) == len(sent):
        return tuple(replace(one, param=part.param) for one, part in zip(found, sent, strict=True))
    return found


def told_descriptions(usage: Json, sent: Sequence[Part]) -> tuple[Description, ...]:
    """What another model there said about the media; () where none did."""
    told = usage.get("descriptions")
    if not isinstance(told, list):
        return ()
    numbers = {"prompt_tokens": count, "completion_tokens": count, "cached_tokens": count, "seconds": finite}
    kinds: dict[str, Any] = {**numbers, "kept": bool, "edited": bool}

    def read() -> tuple[Description, ...]:
        names = [field.name for field in fields(Description)]
        return tuple(
            Description(**{name: kinds.get(name, str)(one[name]) for name in names if name in one}) for one in told
        )

    found = _read(read) or ()
    if len(found) == len(sent):
        return tuple(replace(one, param=part.param) for one, part in zip(found, sent, strict=True))
    return found


def told_trace(usage: Json) -> CacheTrace | None:
    """What the cache did there; None where it is not told."""
    trace = usage.get("cache")
    if not isinstance(trace, dict):
        return None
    kinds: dict[str, Any] = {
        "reason": str,
        "before": str,
        "here": str,
        "other": str,
        "evicted_s": finite,
        "media_first": bool,
    }

    def read() -> CacheTrace:
        known = {field.name for field in fields(CacheTrace)} & set(trace)
        return CacheTrace(**{name: kinds.get(name, count)(trace[name]) for name in known})

    return _read(read)


def told_coordinates(usage: Json) -> CoordinatesGiven | None:
    given = usage.get("coordinates")
    if not isinstance(given, dict) or given.get("given_in") not in ("model", "original"):
        return None
    return CoordinatesGiven(given["given_in"], str(given.get("why") or ""))


def _read(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None


def _details(usage: Json, name: str) -> Json:
    found = usage.get(name)
    return found if isinstance(found, dict) else {}


def _count(details: Json, name: str) -> int:
    value = details.get(name)
    return value if is_count(value) else 0


def _receipt(told: Json) -> MediaReceipt:
    kind: Any = told["kind"]
    if kind not in get_args(Kind):
        raise ValueError(kind)
    features, crop = told.get("features"), told.get("crop")
    (decoded_x, decoded_y), (seen_x, seen_y) = told["decoded"], told["seen"]
    return MediaReceipt(
        kind=kind,
        num_bytes=count(told["bytes"]),
        decoded_px=(count(decoded_x), count(decoded_y)),
        seen_px=(count(seen_x), count(seen_y)),
        tokens=count(told["tokens"]),
        sha256=str(told["sha256"]),
        frames=tuple((count(frame["index"]), finite(frame["time"])) for frame in told.get("frames") or ()),
        duration_s=finite(told.get("duration") or 0),
        fetch_ms=finite(told.get("fetch_ms") or 0),
        decode_ms=finite(told.get("decode_ms") or 0),
        resize_ms=finite(told.get("resize_ms") or 0),
        encode_ms=finite(told.get("encode_ms") or 0),
        features=FeatureUse(count(features["hits"]), count(features["misses"])) if features else None,
        notes=tuple(str(note) for note in told.get("notes") or ()),
        param=str(told.get("param") or ""),
        regions=tuple(_region(region) for region in told.get("boxes") or ()),
        crop=_crop(crop) if crop else None,
    )


def _crop(told: Json) -> Crop:
    (x, y, *_), (width, height) = told["part"], told["of"]
    return Crop(count(x), count(y), (count(width), count(height)))


def _region(told: Json) -> Region:
    kind: Any = told["kind"]
    pixels = tuple(finite(number) for number in told["pixels"])
    if (kind, len(pixels)) not in (("box", 4), ("point", 2)):
        raise ValueError(kind)
    time_s = told.get("time")
    return Region(
        kind=kind,
        px=pixels,
        written=tuple(finite(number) for number in told.get("written") or ()),
        label=str(told.get("label") or ""),
        choice=count(told.get("choice") or 0),
        time_s=None if time_s is None else finite(time_s),
        is_cut=bool(told.get("cut")),
    )
