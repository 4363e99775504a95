"""Ended requests -> the prompt strips of the Cache tab. Pure: no Gradio, no engine, no clock.

prompt     user  [ picture ]  What is in this image?   What color is it?
strip      ├──────────── reused ─────────────────┤├───── computed ─────┤      also cut where a medium begins and ends

Of the requests of others only sizes are shown (engine.access.visibility).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

from engine.access.visibility import Caller
from engine.types import CacheTrace, Json, MediaReceipt, Record, Replay
from engine.types.prompt import MEDIUM, OTHER_MEDIA
from workbench.words import NAMES, milliseconds

REPLAY = "replay"
"""Request.source of a cache verification: nobody sent it."""

SOURCES = {"chat": "Chat", "api": "API", "bench": "Benchmark", "video": "Video", "decide": "Decide", "batch": "Batch"}
HOW_WORDS = {"reused": "reused", "disk": "reused from disk", "computed": "computed"}
LAMPS = {"equal": "green", "near_tie": "even", "different": "red", "nothing_reused": "unknown"}
MAX_STRIPS = 20

# <|im_start|>user, <start_of_turn>model, <|vision_start|>, [INST]: text of the chat format, not of the user.
_FORMAT = re.compile(r"<\|?[A-Za-z][\w ]*\|?>(?:(?:user|assistant|system|model)(?=[\s<]|$))?|\[/?INST\]|</?s>")
_MEDIUM_START = re.compile(r"<\|?\w*(?:vision|image|img|video)\w*\|?>", re.IGNORECASE)


def strips(records: Sequence[Record], caller: Caller, verdicts: Mapping[str, Json] | None = None) -> list[Json]:
    """The latest requests as lanes, in the order given (newest first). verdicts: of cache verifications, by request."""
    sent = [record for record in records if record.source != REPLAY]
    return [strip(record, caller) | {"verdict": (verdicts or {}).get(record.id)} for record in sent[:MAX_STRIPS]]


def strip(record: Record, caller: Caller) -> Json:
    """The lane of one request."""
    full = caller.sees(record.tenant)
    usage, timing = record.done.usage, record.done.timing
    words = f"{usage.cached_tokens:,} of {usage.prompt_tokens:,} tokens reused"
    if timing.completion_tokens:
        words += f" · first token {milliseconds(timing.ttft_ms)}"
    return {
        "key": record.id if full else f"{record.finished_s:.3f}",
        "source": SOURCES.get(record.source, record.source) if full else "Another visitor",
        "at": record.finished_s,
        "tokens": usage.prompt_tokens,
        "words": words if usage.prompt_tokens else "its prompt was not read",
        "ended": _ended(record),
        "segments": _segments(record, full),
        "why": _why(record, full),
        "checkable": full and usage.cached_tokens > 0 and not record.done.decisions,
    }


def _ended(record: Record) -> str:
    if record.error is not None:
        return "failed"
    return "stopped" if record.done.finish_reason == "cancelled" else ""


def _segments(record: Record, full: bool) -> list[Json]:
    """Runs of tokens of one origin (memory, disk, computed) and of text or one medium."""
    usage, trace = record.done.usage, record.done.trace
    reused, total = usage.cached_tokens, usage.prompt_tokens
    from_disk = reused - (trace.disk_tokens if trace else 0)
    media = list(zip(record.spans, record.done.media, strict=False)) if full else []
    cuts = {0, from_disk, reused, total, *(edge for span, _ in media for edge in span)}
    edges = sorted(edge for edge in cuts if 0 <= edge <= total)
    segments = [_segment(run, (from_disk, reused), media) for run in pairwise(edges)]
    first = next((s for s in segments if s["how"] == "computed" and s["medium"] is None), None)
    if full and trace is not None and first is not None:
        first["words"] = _opening(trace.here)
    return segments


def _segment(run: tuple[int, int], ends: tuple[int, int], media: list[tuple[tuple[int, int], MediaReceipt]]) -> Json:
    """ends: where the tokens reused from memory end, and those from disk."""
    start, end = run
    how = "reused" if end <= ends[0] else "disk" if end <= ends[1] else "computed"
    medium = next((receipt for span, receipt in media if span[0] <= start and end <= span[1]), None)
    what = NAMES[medium.kind] if medium else "text"
    return {
        "tokens": end - start,
        "how": how,
        "medium": medium.sha256 if medium else None,
        "words": "",
        "title": f"{what}: {end - start:,} tokens {HOW_WORDS[how]}",
    }


def _opening(here: str) -> str:
    """The beginning of a computed run of text; "" for text of the chat format, a medium or its timestamp."""
    words = plain(here)
    return f"{words}…" if len(words) > 2 and not words.startswith((MEDIUM, "<")) else ""


def _why(record: Record, full: bool) -> str:
    if not full:
        return "Somebody else's prompt: only its size is shown."
    if record.done.trace is None:
        return "It ended before its prompt was read."
    return explain(record.done.trace)


def explain(trace: CacheTrace) -> str:
    """Why the first computed token was not reused, for a person to read."""
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
        stored = _quoted(trace.other) if trace.other else "something else"
        return f"{start} Then this prompt goes on with {_quoted(trace.here)}, where the stored ones have {stored}."
    return f"{start} {_AFTER.get(trace.reason, '')}".strip()


_WHOLE = {
    "complete": "Everything that can be reused was; the last token is always computed, for the answer starts from it.",
    "not_cacheable": "Nothing was reused: what this prompt holds could not be recognised again, so it is not stored.",
    "off": "Nothing was reused: the cache is switched off on this server.",
    "cold": "Nothing was reused: the request asked to be computed in full.",
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
    """A run of a prompt in quotes, or the name of what it stands for: a medium, the end of a turn."""
    words = plain(text)
    if text == OTHER_MEDIA or (words or text).startswith(MEDIUM) or (not words and _MEDIUM_START.search(text)):
        return "another picture or clip"
    return f"‘{words}’" if words else "the end of a turn"


def plain(text: str) -> str:
    """Prompt text without the chat format, on one line."""
    return " ".join(_FORMAT.sub(" ", text).split())


def _ago(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def verdict(replay: Replay) -> Json:
    """The outcome of a cache verification: green if the answers with and without the cache have the same tokens."""
    outcome = replay.verdict
    at = replay.first_difference or 0
    sides = [{"name": "With the cache", "text": replay.warm_text}, {"name": "Without it", "text": replay.cold_text}]
    words = {
        "equal": f"The same answer, token for token: {len(replay.cold_tokens):,} compared, with "
        f"{replay.reused_tokens:,} of {replay.prompt_tokens:,} prompt tokens reused.",
        "near_tie": f"The answers part at token {at + 1:,}, where the model finds two equally likely: a matter of "
        "rounding, not of the cache.",
        "different": f"The answers differ from token {at + 1:,} on.",
        "nothing_reused": "What this prompt had reused is no longer stored, so there was nothing to compare.",
    }[outcome]
    if replay.reused_tokens:
        warm, cold = milliseconds(replay.warm_ttft_ms), milliseconds(replay.cold_ttft_ms)
        words += f" First token {warm} with the cache, {cold} without."
    differs = outcome in ("near_tie", "different")
    return {"lamp": LAMPS[outcome], "words": words, "sides": sides if differs else []}
