"""Numbers as text, in the same format in every tab. Pure."""

from __future__ import annotations

from engine.types import Kind

NAMES: dict[Kind, str] = {"image": "picture", "video": "clip", "audio": "sound"}


def size(num_bytes: float) -> str:
    """Bytes -> "412 MB", "1.9 GB": powers of 1024, at most three digits."""
    for unit in ("B", "KB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.1f} GB" if num_bytes < 10 else f"{num_bytes:.0f} GB"


def count(number: float) -> str:
    """1_234_567 -> "1.2 M"."""
    for unit in ("", " K", " M"):
        if number < 1000:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g} B"


def seconds(time_s: float) -> str:
    """Seconds -> "0.58 s", "42 s"; from a minute on "2:32", "1:02:05"."""
    if round(time_s) < 60:
        return f"{time_s:.2f}".rstrip("0").rstrip(".") + " s"
    minutes, rest = divmod(round(time_s), 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def milliseconds(ms: float) -> str:
    """One decimal below 10 ms, where most steps of a small picture are."""
    if ms < 1000:
        return f"{ms:.1f} ms" if ms < 10 else f"{ms:.0f} ms"
    return f"{ms / 1000:.2f} s" if ms < 60_000 else seconds(ms / 1000)


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def ago(seconds: float) -> str:
    """Seconds -> "just now", "12 s ago", "5 min ago", "3 h ago"."""
    if seconds < 1:
        return "just now"
    for unit, length in (("s", 1.0), ("min", 60.0)):
        if seconds < 120 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds / 3600:.0f} h ago"
