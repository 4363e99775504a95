"""Ended requests -> the prompt strips of the Cache tab. Pure: no Gradio, no engine, no clock.

prompt     user  [ picture ]  What is in this image?   What color is it?
strip      ├──────────── reused ─────────────────┤├───── computed ─────┤      one cut more at each medium's ends
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from engine.spans import MEDIUM
from engine.types import CacheTrace, MediaReceipt, Record

Json = dict[str, Any]

SOURCES = {"chat": "Chat", "api": "API", "bench": "Benchmark"}
KINDS = {"image": "picture", "video": "clip", "audio": "sound"}
MAX_STRIPS = 20
OTHER_MEDIUM = "<other media>"
"""What the engine writes as CacheTrace.other for a medium."""

# <|im_start|>user, <start_of_turn>model, <|vision_start|>, [INST]: the format's words, not the user's.
_FORMAT = re.compile(r"<\|?[A-Za-z][\w ]*\|?>(?:(?:user|assistant|system|model)(?=[\s<]|$))?|\[/?INST\]|</?s>")
_MEDIUM_START = re.compile(r"<\|?\w*(?:vision|image|img|video)\w*\|?>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks at the tab. An operator may read what anybody sent; a visitor what his own page sent."""

    operator: bool
    session: str | None = None

    def may_read(self, record: Record) -> bool:
        return self.operator or (self.session is not None and record.session == self.session)


def strips(records: Sequence[Record], viewer: Viewer) -> list[Json]:
    """The latest requests as lanes, in the order given (newest first)."""
    return [strip(record, viewer) for record in records[:MAX_STRIPS]]


def strip(record: Record, viewer: Viewer) -> Json:
    """One lane. What a stranger sent is told by its sizes alone."""
    full = viewer.may_read(record)
    usage, timing = record.done.usage, record.done.timing
    words = f"{usage.cached_tokens:,} of {usage.prompt_tokens:,} tokens reused"
    if timing.completion_tokens:
        words += f" · first token {_time(timing.ttft_ms)}"
    return {
        "key": record.id if full else f"{record.finished_s:.3f}",
        "source": SOURCES.get(record.source, record.source) if full else "Another visitor",
        "at": record.finished_s,
        "tokens": usage.prompt_tokens,
        "words": words if usage.prompt_tokens else "its prompt was not read",
        "ended": _ended(record),
        "segments": _segments(record, full),
        "why": _why(record, viewer, full),
    }


def _ended(record: Record) -> str:
    if record.error is not None:
        return "failed"
    return "stopped" if record.done.finish_reason == "cancelled" else ""


def _segments(record: Record, full: bool) -> list[Json]:
    """Runs of tokens, all reused or all computed, each of at most one medium."""
    reused, total = record.done.usage.cached_tokens, record.done.usage.prompt_tokens
    media = list(zip(record.spans, record.done.media, strict=False)) if full else []
    cuts = {0, reused, total, *(edge for span, _ in media for edge in span)}
    edges = sorted(edge for edge in cuts if 0 <= edge <= total)
    return [_segment(start, end, reused, media) for start, end in pairwise(edges)]


def _segment(start: int, end: int, reused: int, media: list[tuple[tuple[int, int], MediaReceipt]]) -> Json:
    how = "reused" if end <= reused else "computed"
    medium = next((receipt for span, receipt in media if span[0] <= start and end <= span[1]), None)
    what = KINDS.get(medium.kind, medium.kind) if medium else "text"
    return {
        "tokens": end - start,
        "how": how,
        "medium": medium.sha256 if medium else None,
        "title": f"{what}: {end - start:,} tokens {how}",
    }


def _why(record: Record, viewer: Viewer, full: bool) -> str:
    if not full:
        return "Somebody else's prompt: only its size is shown."
    if record.done.trace is None:
        return "It ended before its prompt was read."
    return explain(record.done.trace, show_other=viewer.operator)


def explain(trace: CacheTrace, show_other: bool = True) -> str:
    """Why the first computed token was not reused, in words for a person. show_other: quote others' prompts too."""
    if trace.reason in _WHOLE:
        return _WHOLE[trace.reason]
    start = _start(trace)
    if trace.reason == "first_use" and not trace.reused_tokens:
        return "First time this was seen: nothing that is stored begins like this prompt."
    if trace.reason == "first_use":
        return f"{start} What comes next, {_quoted(trace.here)}, was not stored yet."
    if trace.reason == "evicted":
        return f"{start} What comes next was stored, but evicted {_ago(trace.evicted_s)} earlier to make room."
    if trace.reason == "diverged":
        theirs = _quoted(trace.other) if show_other and trace.other else "something else"
        return f"{start} Then this prompt goes on with {_quoted(trace.here)}, where the stored ones have {theirs}."
    return f"{start} {_AFTER.get(trace.reason, '')}".strip()


_WHOLE = {
    "complete": "Everything that can be reused was; the last token is always computed, for the answer starts from it.",
    "not_cacheable": "Nothing was reused: what this prompt holds could not be recognised again, so it is not stored.",
    "off": "Nothing was reused: the cache is switched off on this server.",
}
_AFTER = {
    "inside_media": "The picture or clip that comes next is stored in part only, and such a thing is read as a whole.",
    "between_snapshots": "Models of this family are stored at a few points of a prompt only (after its last picture, "
    "at the end of a turn), and this prompt leaves the stored ones between two such points.",
}


def _start(trace: CacheTrace) -> str:
    if not trace.reused_tokens:
        return "Nothing was reused."
    before = plain(trace.before)
    if not before:
        return f"Reused the first {trace.reused_tokens:,} tokens, with which every chat opens."
    return f"Reused up to ‘…{before}’."


def _quoted(text: str) -> str:
    """A run of a prompt in quotes; what stands for a medium as what it is."""
    words = plain(text)
    if text == OTHER_MEDIUM or (words or text).startswith(MEDIUM) or (not words and _MEDIUM_START.search(text)):
        return "another picture or clip"
    return f"‘{words}’" if words else "the end of a turn"


def plain(text: str) -> str:
    """Prompt text without the chat format's own words, on one line."""
    return " ".join(_FORMAT.sub(" ", text).split())


def _time(ms: float) -> str:
    return f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.2f} s"


def _ago(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
