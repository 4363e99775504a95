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
from workbench.language import catalogued, t
from workbench.words import NAMES, milliseconds, plural

REPLAY = "replay"
"""Request.source of a cache verification: nobody sent it."""

SOURCES = {
    "chat": catalogued("Chat"),
    "api": "API",
    "bench": catalogued("Benchmark"),
    "video": catalogued("Video"),
    "decide": catalogued("Decide"),
    "compare": catalogued("Compare"),
    "batch": catalogued("Batch"),
}
HOW_WORDS = {"reused": catalogued("reused"), "disk": catalogued("reused from disk"), "computed": catalogued("computed")}
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
    words = t("{reused} of {count} tokens reused", reused=usage.cached_tokens, count=usage.prompt_tokens)
    if timing.completion_tokens:
        words += " · " + t("first token {time}", time=milliseconds(timing.ttft_ms))
    return {
        "key": record.id if full else f"{record.finished_s:.3f}",
        "source": t(SOURCES.get(record.source, record.source)) if full else t("Another visitor"),
        "at": record.finished_s,
        "tokens": usage.prompt_tokens,
        "words": words if usage.prompt_tokens else t("its prompt was not read"),
        "ended": _ended(record),
        "segments": _segments(record, full),
        "why": _why(record, full),
        "checkable": full and usage.cached_tokens > 0 and not record.done.decisions,
    }


def _ended(record: Record) -> str:
    if record.error is not None:
        return t("failed")
    return t("stopped") if record.done.finish_reason == "cancelled" else ""


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
    what = t(NAMES[medium.kind]) if medium else t("text")
    return {
        "tokens": end - start,
        "how": how,
        "medium": medium.sha256 if medium else None,
        "words": "",
        "title": f"{what}: {plural(end - start, 'token')} {t(HOW_WORDS[how])}",
    }


def _opening(here: str) -> str:
    """The beginning of a computed run of text; "" for text of the chat format, a medium or its timestamp."""
    words = plain(here)
    return f"{words}…" if len(words) > 2 and not words.startswith((MEDIUM, "<")) else ""


def _why(record: Record, full: bool) -> str:
    if not full:
        return t("Somebody else's prompt: only its size is shown.")
    if record.done.trace is None:
        return t("It ended before its prompt was read.")
    return explain(record.done.trace)


def explain(trace: CacheTrace) -> str:
    """Why the first computed token was not reused, for a person to read."""
    if trace.reason in _WHOLE:
        return t(_WHOLE[trace.reason])
    start = _start(trace)
    if trace.reason == "first_use" and not trace.reused_tokens:
        return t("First time this was seen: nothing that is stored begins like this prompt.")
    if trace.reason == "first_use":
        return t("{start} What comes next, {here}, was not stored yet.", start=start, here=_quoted(trace.here))
    if trace.reason == "evicted":
        return t(
            "{start} What comes next was stored, but evicted {time} earlier to make room.",
            start=start,
            time=_ago(trace.evicted_s),
        )
    if trace.reason == "diverged":
        stored = _quoted(trace.other) if trace.other else t("something else")
        return t(
            "{start} Then this prompt goes on with {here}, where the stored ones have {stored}.",
            start=start,
            here=_quoted(trace.here),
            stored=stored,
        )
    return f"{start} {t(_AFTER[trace.reason]) if trace.reason in _AFTER else ''}".strip()


_WHOLE = {
    "complete": catalogued(
        "Everything that can be reused was; the last token is always computed, for the answer starts from it."
    ),
    "not_cacheable": catalogued(
        "Nothing was reused: what this prompt holds could not be recognised again, so it is not stored."
    ),
    "off": catalogued("Nothing was reused: the cache is switched off on this server."),
    "cold": catalogued("Nothing was reused: the request asked to be computed in full."),
}
_AFTER = {
    "inside_media": catalogued(
        "The picture or clip that comes next is stored in part only, and such a thing is read as a whole."
    ),
    "between_snapshots": catalogued(
        "Models of this family are stored at a few points of a prompt only (after its last picture, at the end of "
        "a turn), and this prompt leaves the stored ones between two such points."
    ),
}


def _start(trace: CacheTrace) -> str:
    if not trace.reused_tokens:
        return t("Nothing was reused.")
    before = plain(trace.before)
    if not before:
        return t("Reused the first {count} tokens, with which every chat opens.", count=trace.reused_tokens)
    return t("Reused up to ‘…{before}’.", before=before)


def _quoted(text: str) -> str:
    """A run of a prompt in quotes, or the name of what it stands for: a medium, the end of a turn."""
    words = plain(text)
    if text == OTHER_MEDIA or (words or text).startswith(MEDIUM) or (not words and _MEDIUM_START.search(text)):
        return t("another picture or clip")
    return t("‘{words}’", words=words) if words else t("the end of a turn")


def plain(text: str) -> str:
    """Prompt text without the chat format, on one line."""
    return " ".join(_FORMAT.sub(" ", text).split())


def _ago(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def verdict(replay: Replay) -> Json:
    """The outcome of a cache verification: green if the answers with and without the cache have the same tokens."""
    outcome = replay.verdict
    at = replay.first_difference or 0
    sides = [
        {"name": t("With the cache"), "text": replay.warm_text},
        {"name": t("Without it"), "text": replay.cold_text},
    ]
    words = {
        "equal": t(
            "The same answer, token for token: {count} compared, with {reused} of {all} prompt tokens reused.",
            count=len(replay.cold_tokens),
            reused=replay.reused_tokens,
            all=replay.prompt_tokens,
        ),
        "near_tie": t(
            "The answers part at token {number}, where the model finds two equally likely: a matter of rounding, "
            "not of the cache.",
            number=at + 1,
        ),
        "different": t("The answers differ from token {number} on.", number=at + 1),
        "nothing_reused": t("What this prompt had reused is no longer stored, so there was nothing to compare."),
    }[outcome]
    if replay.reused_tokens:
        warm, cold = milliseconds(replay.warm_ttft_ms), milliseconds(replay.cold_ttft_ms)
        words += " " + t("First token {warm} with the cache, {cold} without.", warm=warm, cold=cold)
    differs = outcome in ("near_tie", "different")
    return {"lamp": LAMPS[outcome], "words": words, "sides": sides if differs else []}
