"""The Video tab's data: settings -> FrameSampling, frames -> contact sheet. Pure.

The frames, their times and sizes come from the engine's own sampler and processor (Engine.preflight). Here only
`distinct` selects frames: it leaves out those that show nothing new.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from engine.errors import BadRequest
from engine.media.frames import DEFAULT_FPS, DEFAULT_MAX_FRAMES, PAIR
from engine.types import FrameSampling, Json, MediaReceipt, Preflight
from workbench.chat.settings import FIELDS, Field
from workbench.language import catalogued, number, t, tn
from workbench.words import milliseconds, plural, seconds

GreyLevels = np.ndarray[Any, np.dtype[np.int16]]

FIELD_TYPES = {
    "fps": FIELDS["fps"],
    "max_frames": FIELDS["max_frames"],
    "start_s": Field(catalogued("From")),
    "end_s": Field(catalogued("To"), above=True),
    "max_pixels": Field(catalogued("Pixel budget"), int, low=1),
}
ALIKE = 12
"""A frame shows nothing new if no part of it differs by more than this from the last new one, in levels of 255."""

_THUMBNAIL_PX = 32
_UNEVEN = 1.35
"""Steps between frames differ by more than the rounding to whole frames of the clip; and so a rate from another."""

_SLACK = 1.01
"""Room for rounding in a budget of pixels, so that frames of the same size fit it again."""


def sampling(fields: Mapping[str, Any]) -> FrameSampling:
    """The page's fields (text by name; indices: a list, or none) -> FrameSampling. Raises BadRequest."""
    values: dict[str, Any] = {}
    for name, field in FIELD_TYPES.items():
        try:
            values[name] = field.parse(str(fields.get(name) or ""))
        except ValueError as error:
            raise BadRequest(str(error), param=name) from None
    indices = fields.get("indices")
    return FrameSampling(**values, indices=tuple(map(int, indices)) if indices else None)


def same_size(indices: Sequence[int], seen_px: Sequence[int]) -> FrameSampling:
    """Only these frames, in their present size: with fewer frames a shared budget of pixels would enlarge them."""
    count = len(indices) + len(indices) % PAIR
    pixels = int(count * seen_px[0] * seen_px[1] * _SLACK) if all(seen_px) else None
    return FrameSampling(indices=tuple(indices), max_pixels=pixels)


def thumbnail(png: bytes) -> GreyLevels:
    """(32, 32) grey levels of a frame, averaged over noise."""
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("L").resize((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.BOX)
    return np.asarray(image, np.int16)


def repeats(thumbnails: Sequence[GreyLevels]) -> list[bool]:
    """For each frame, whether it shows nothing new since the last frame that did."""
    out: list[bool] = []
    last_new: GreyLevels | None = None
    for frame in thumbnails:
        same = last_new is not None and int(np.abs(frame - last_new).max()) <= ALIKE
        out.append(same)
        if not same:
            last_new = frame
    return out


def distinct(indices: Sequence[int], same: Sequence[bool]) -> tuple[int, ...]:
    """The frames that show something new, and as many of the others, from the end, as PAIR requires."""
    selected = {index for index, is_same in zip(indices, same, strict=True) if not is_same}
    spare = [index for index in dict.fromkeys(indices) if index not in selected]
    while spare and (len(selected) < PAIR or len(selected) % PAIR):
        selected.add(spare.pop())
    return tuple(sorted(selected))


def sheet(
    preflight: Preflight, same: Sequence[bool], urls: Sequence[str], hidden: int = 0, folds: bool = False
) -> Json:
    """The data that the page draws, but for the rate. hidden: number of frames that were skipped; folds: whether that
    was asked for."""
    receipt = preflight.media[0]
    frames = [
        {"index": index, "time": time_s, "url": url, "same": is_same}
        for (index, time_s), url, is_same in zip(receipt.frames, urls, same, strict=True)
    ]
    return {
        "frames": frames,
        "seen": list(receipt.seen_px),
        "tokens": receipt.tokens,
        "frame_tokens": receipt.frame_tokens,
        "duration": receipt.duration_s,
        "prompt_tokens": len(preflight.tokens),
        "left": preflight.left,
        "numbers": numbers(preflight),
        "gaps": gaps(receipt, hidden, sum(same), folds),
    }


def numbers(preflight: Preflight) -> list[Json]:
    """The headline numbers: frames, their size, tokens, prompt, time to first token."""
    receipt = preflight.media[0]
    width, height = receipt.seen_px if all(receipt.seen_px) else receipt.decoded_px
    first = ("–", t("told once estimates have held here"))
    if preflight.ttft_ms is not None:
        first = (t("about {time}", time=milliseconds(preflight.ttft_ms)), t("at the speed measured here"))
    cached = ", " + t("{count} cached", count=preflight.cached_tokens) if preflight.cached_tokens else ""
    return [
        {
            "name": t("Frames"),
            "number": number(len(receipt.frames)),
            "words": t("of {time}", time=seconds(receipt.duration_s)),
        },
        {
            "name": t("Each seen as"),
            "number": f"{width} × {height}",
            "words": t("of {size} pixels", size=f"{receipt.decoded_px[0]} × {receipt.decoded_px[1]}"),
        },
        {
            "name": t("Tokens"),
            "number": number(receipt.tokens),
            "words": t("{count} for each frame", count=number(receipt.frame_tokens, "g")),
        },
        {
            "name": t("Prompt"),
            "number": number(len(preflight.tokens)),
            "words": f"{t('tokens')}{cached}; {t('{left} left', left=preflight.left)}"
            if preflight.left >= 0
            else t("{count} too many", count=-preflight.left),
        },
        {"name": t("First token"), "number": first[0], "words": first[1]},
    ]


def rate(receipt: MediaReceipt, asked: FrameSampling) -> str:
    """In words, how often a frame is taken, and why that is less often than what was asked for. asked: with the
    server's defaults, as it was before frames were skipped."""
    times = [time_s for _, time_s in receipt.frames]
    steps = [b - a for a, b in pairwise(times) if b > a]
    if not steps:
        return t("One frame is taken.")
    step_s = sum(steps) / len(steps)
    each = t(
        "{count}, one every {time}: {rate}",
        count=plural(len(times), "frame"),
        time=seconds(round(step_s, 2)),
        rate=_per_second(1 / step_s),
    )
    if max(steps) > _UNEVEN * min(steps):
        each = t(
            "{count} at uneven times, {time} apart on average",
            count=plural(len(times), "frame"),
            time=seconds(round(step_s, 2)),
        )
    wanted = asked.fps or DEFAULT_FPS
    if asked.indices is not None or 1 / step_s > wanted / _UNEVEN:
        return f"{each}."
    most = asked.max_frames or DEFAULT_MAX_FRAMES
    why = (
        tn("no more than {count} frame may go in", "no more than {count} frames may go in", most)
        if len(times) >= most
        else t("the clip has no more")
    )
    return f"{each}. {t('Asked for: {rate}, but {why}.', rate=_per_second(wanted), why=why)}"


def _per_second(fps: float) -> str:
    return t("{count} a second", count=number(float(f"{fps:.2g}"), "g"))


def gaps(receipt: MediaReceipt, hidden: int, num_same: int, folds: bool = False) -> str:
    """In words, what the model does not see of the clip. folds: frames that repeat were to be skipped."""
    times = [time_s for _, time_s in receipt.frames]
    longest = max((b - a for a, b in pairwise(times)), default=0.0)
    words = [t("The longest gap between two frames is {time}.", time=seconds(round(longest, 2)))] if longest else []
    if hidden:
        words.append(
            tn(
                "{count} frame that showed nothing new was skipped.",
                "{count} frames that showed nothing new were skipped.",
                hidden,
            )
        )
    elif folds:
        words.append(t("No frame repeats the one before it, so none was skipped."))
    elif num_same:
        words.append(tn("{count} frame shows nothing new.", "{count} frames show nothing new.", num_same))
    return " ".join(words)


def still(frames: Sequence[tuple[int, float]], same: Sequence[bool]) -> list[tuple[float, float]]:
    """Stretches that show nothing new, in seconds: from the last new frame to the last one that repeats it."""
    out: list[tuple[float, float]] = []
    for (before, now), is_same in zip(pairwise(frames), same[1:], strict=True):
        if not is_same:
            continue
        start = out.pop()[0] if out and out[-1][1] == before[1] else before[1]
        out.append((start, now[1]))
    return out


def without_each_pair(indices: Sequence[int]) -> list[tuple[int, ...]]:
    """The remaining frames when each pair in turn is left out; [] for a single pair."""
    unique = list(dict.fromkeys(indices))
    pairs = [unique[start : start + PAIR] for start in range(0, len(unique), PAIR)]
    if len(pairs) < 2:
        return []
    return [tuple(index for index in unique if index not in pair) for pair in pairs]
