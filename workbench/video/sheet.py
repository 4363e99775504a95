"""What the Video tab asks and what it draws: settings -> FrameSampling, frames -> contact sheet. Pure.

The frames themselves, their times and their sizes come from the engine's own sampler and processor (Engine.preflight):
nothing here chooses a frame but `folded`, which leaves out those that show nothing new.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from engine.errors import BadRequest
from engine.types import FrameSampling, Json, MediaReceipt, Preflight
from workbench.chat.settings import FIELDS, Field
from workbench.words import milliseconds, plural, seconds

Thumb = np.ndarray[Any, np.dtype[np.int16]]

ASKED = {
    "fps": FIELDS["fps"],
    "max_frames": FIELDS["max_frames"],
    "start_s": Field("From"),
    "end_s": Field("To", above=True),
    "max_pixels": Field("Pixel budget", int, low=1),
}
PAIR = 2
"""Frames go in by twos (engine.media.frames), so they are left out by twos."""

ALIKE = 12
"""Grey levels of 255 by which no part of a frame may differ from the one before, to show nothing new."""

_THUMB_PX = 32
_SLACK = 1.01
"""Room in a budget of pixels for rounding: frames of the same size must fit it again."""


def sampling(asked: Mapping[str, Any]) -> FrameSampling:
    """The page's fields (text by name; indices: a list, or none). Raises BadRequest with words for a person."""
    chosen: dict[str, Any] = {}
    for name, field in ASKED.items():
        try:
            chosen[name] = field.parse(str(asked.get(name) or ""))
        except ValueError as error:
            raise BadRequest(str(error), param=name) from None
    indices = asked.get("indices")
    return FrameSampling(**chosen, indices=tuple(map(int, indices)) if indices else None)


def kept_size(indices: Sequence[int], seen_px: Sequence[int]) -> FrameSampling:
    """These frames and no others, in the size they have: with fewer of them a shared budget would make them larger."""
    count = len(indices) + len(indices) % PAIR
    pixels = int(count * seen_px[0] * seen_px[1] * _SLACK) if all(seen_px) else None
    return FrameSampling(indices=tuple(indices), max_pixels=pixels)


def thumb(png: bytes) -> Thumb:
    """(32, 32) grey levels: what is left of a frame when noise is averaged away."""
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("L").resize((_THUMB_PX, _THUMB_PX), Image.Resampling.BOX)
    return np.asarray(image, np.int16)


def repeats(thumbs: Sequence[Thumb]) -> list[bool]:
    """For each frame whether it shows nothing new since the last one that did."""
    out: list[bool] = []
    shown: Thumb | None = None
    for one in thumbs:
        same = shown is not None and int(np.abs(one - shown).max()) <= ALIKE
        out.append(same)
        if not same:
            shown = one
    return out


def folded(indices: Sequence[int], same: Sequence[bool]) -> tuple[int, ...]:
    """The frames that show something new, and of the others the last ones that an even number needs."""
    kept = {index for index, is_same in zip(indices, same, strict=True) if not is_same}
    spare = [index for index in dict.fromkeys(indices) if index not in kept]
    while spare and (len(kept) < PAIR or len(kept) % PAIR):
        kept.add(spare.pop())
    return tuple(sorted(kept))


def sheet(found: Preflight, same: Sequence[bool], urls: Sequence[str], hidden: int = 0) -> Json:
    """What the page draws. hidden: frames that were folded away."""
    receipt = found.media[0]
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
        "prompt_tokens": len(found.tokens),
        "left": found.left,
        "numbers": numbers(found),
        "gaps": gaps(receipt, hidden, sum(same)),
    }


def numbers(found: Preflight) -> list[Json]:
    """The headline: what goes in, how large, what it costs."""
    receipt = found.media[0]
    width, height = receipt.seen_px if all(receipt.seen_px) else receipt.decoded_px
    first = ("–", "known once something was asked")
    if found.ttft_ms is not None:
        first = (f"about {milliseconds(found.ttft_ms)}", "at the speed measured here")
    cached = f", {found.cached_tokens:,} cached" if found.cached_tokens else ""
    return [
        {"name": "Frames", "number": f"{len(receipt.frames):,}", "words": f"of {seconds(receipt.duration_s)}"},
        {
            "name": "Each seen as",
            "number": f"{width} × {height}",
            "words": f"of {receipt.decoded_px[0]} × {receipt.decoded_px[1]} pixels",
        },
        {
            "name": "Tokens",
            "number": f"{receipt.tokens:,}",
            "words": f"{receipt.frame_tokens:g} for each frame",
        },
        {
            "name": "Prompt",
            "number": f"{len(found.tokens):,}",
            "words": f"tokens{cached}; {found.left:,} left" if found.left >= 0 else f"{-found.left:,} too many",
        },
        {"name": "First token", "number": first[0], "words": first[1]},
    ]


def gaps(receipt: MediaReceipt, hidden: int, num_same: int) -> str:
    """What the model does not see of the stretch, in words."""
    times = [time_s for _, time_s in receipt.frames]
    longest = max((b - a for a, b in pairwise(times)), default=0.0)
    words = [f"Between two frames up to {seconds(round(longest, 2))} go unseen."] if longest else []
    if hidden:
        words.append(f"{plural(hidden, 'frame')} that showed nothing new {'is' if hidden == 1 else 'are'} left out.")
    elif num_same:
        words.append(f"{plural(num_same, 'frame')} {'shows' if num_same == 1 else 'show'} nothing new.")
    return " ".join(words)


def still(frames: Sequence[tuple[int, float]], same: Sequence[bool]) -> list[tuple[float, float]]:
    """Stretches in which nothing new is shown, in seconds: from the last new frame to the last one like it."""
    out: list[tuple[float, float]] = []
    for (before, now), is_same in zip(pairwise(frames), same[1:], strict=True):
        if not is_same:
            continue
        start = out.pop()[0] if out and out[-1][1] == before[1] else before[1]
        out.append((start, now[1]))
    return out


def left_out(indices: Sequence[int]) -> list[tuple[int, ...]]:
    """Which frames stay when each pair in turn is left out; nothing for a single pair."""
    unique = list(dict.fromkeys(indices))
    pairs = [unique[start : start + PAIR] for start in range(0, len(unique), PAIR)]
    if len(pairs) < 2:
        return []
    return [tuple(index for index in unique if index not in pair) for pair in pairs]
