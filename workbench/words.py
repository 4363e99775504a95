"""Numbers, sizes, times and counted things as text, in the same format in every tab and in the reader's language."""

from __future__ import annotations

from collections.abc import Sequence

from engine.types import Kind
from workbench.language import catalogued, number, t, tn

NAMES: dict[Kind, str] = {"image": catalogued("picture"), "video": catalogued("clip"), "audio": catalogued("sound")}
MANY: dict[Kind, str] = {"image": catalogued("pictures"), "video": catalogued("clips"), "audio": catalogued("sounds")}
FROM_CACHE = catalogued("{count} from cache")
"""Of a note; leads to the strip of its request in the Cache tab (chat/display.py)."""

_COUNTED = {
    "block": (catalogued("{count} block"), catalogued("{count} blocks")),
    "clip": (catalogued("{count} clip"), catalogued("{count} clips")),
    "encoder run": (catalogued("{count} encoder run"), catalogued("{count} encoder runs")),
    "file": (catalogued("{count} file"), catalogued("{count} files")),
    "frame": (catalogued("{count} frame"), catalogued("{count} frames")),
    "note": (catalogued("{count} note"), catalogued("{count} notes")),
    "picture": (catalogued("{count} picture"), catalogued("{count} pictures")),
    "prompt": (catalogued("{count} prompt"), catalogued("{count} prompts")),
    "question": (catalogued("{count} question"), catalogued("{count} questions")),
    "request": (catalogued("{count} request"), catalogued("{count} requests")),
    "running request": (catalogued("{count} running request"), catalogued("{count} running requests")),
    "snapshot": (catalogued("{count} snapshot"), catalogued("{count} snapshots")),
    "sound": (catalogued("{count} sound"), catalogued("{count} sounds")),
    "token": (catalogued("{count} token"), catalogued("{count} tokens")),
}


def size(num_bytes: float) -> str:
    """Bytes -> "412 MB", "1.9 GB": powers of 1024, at most three digits."""
    for unit in ("B", "KB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}"
        num_bytes /= 1024
    return f"{number(num_bytes, '.1f' if num_bytes < 10 else ',.0f')} GB"


def count(value: float) -> str:
    """1_234_567 -> "1.23 M"."""
    for unit in ("", " K", " M"):
        if value < 1000:
            return f"{number(value, '.3g')}{unit}"
        value /= 1000
    return f"{number(value, '.3g')} B"


def seconds(time_s: float) -> str:
    """Seconds -> "0.58 s", "42 s"; from a minute on "2:32", "1:02:05"."""
    if round(time_s) < 60:
        text = f"{time_s:.2f}".rstrip("0").rstrip(".")
        return f"{number(float(text), '.12g')} s"
    minutes, rest = divmod(round(time_s), 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def milliseconds(ms: float) -> str:
    """One decimal below 10 ms, where most steps of a small picture are."""
    if ms < 1000:
        return f"{number(ms, '.1f' if ms < 10 else '.0f')} ms"
    return f"{number(ms / 1000, '.2f')} s" if ms < 60_000 else seconds(ms / 1000)


def percent(share: float) -> str:
    """0.27 -> "27 %"."""
    return f"{number(100 * share, '.0f')} %"


def plural(count: int, noun: str) -> str:
    """A counted thing, e.g. "1 frame", "12 frames". noun: in English, of those that the catalogue has."""
    return tn(*_COUNTED[noun], count)


def listed(items: Sequence[str]) -> str:
    """ "pictures, clips and documents"."""
    if len(items) < 2:
        return "".join(items)
    return t("{first} and {last}", first=", ".join(items[:-1]), last=items[-1])


def ago(seconds: float) -> str:
    """Seconds -> "just now", "12 s ago", "5 min ago", "3 h ago"."""
    if seconds < 1:
        return t("just now")
    if seconds < 120:
        return t("{count} s ago", count=round(seconds))
    return (
        t("{count} min ago", count=round(seconds / 60))
        if seconds < 7200
        else t("{count} h ago", count=round(seconds / 3600))
    )
