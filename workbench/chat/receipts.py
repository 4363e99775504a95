"""The receipts of a request's media in words: a line above an answer's cost, and details that open below it. Pure.

The numbers are those of `usage.media[]` on the API for the same request. The pictures of a receipt are fetched by
chat/receipts.js when it is opened: most never are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, TypeVar

from engine.types import Description, Json, MediaReceipt
from workbench.chat.regions import regions_of
from workbench.language import t
from workbench.words import FROM_CACHE, NAMES, milliseconds, plural, seconds, size

if TYPE_CHECKING:
    from workbench.chat.convert import ChatEntry

ReceiptKind = TypeVar("ReceiptKind", MediaReceipt, Description)

MAX_NOTES = 2
"""On the one line of several media; all are in what opens below it."""


def receipt(media: Sequence[MediaReceipt], num_new: int, *, is_imported: bool = False) -> Json | None:
    """The receipt of a request; None without media. num_new: how many of the last came with the message itself.

    is_imported: it was read of a file.
    """
    if not media:
        return None
    new, earlier = media[len(media) - num_new :], media[: len(media) - num_new]
    items = [_item(one, alone=len(media) == 1) for one in media]
    if not is_imported:
        return {"summary": summary(new, earlier), "items": items}
    for item in items:  # before the last fact, which is the content hash
        item["facts"].insert(-1, t("imported: the file says this, and it cannot be checked here"))
    return {"summary": f"{summary(new, earlier)} · {t('imported')}", "items": items}


def described(descriptions: Sequence[Description], asked: Sequence[ChatEntry]) -> Json:
    """What the vision model said about the media of a request: a line for all, and each with its text and its cost.

    asked: the message itself. edits: of a medium of it whose description can be changed, its entry, counted from the
    first of the answer's: -1 is the one before that. None for pages of documents and for media of earlier messages.
    """
    places: list[int | None] = []
    media = [(place, entry) for place, entry in enumerate(asked) if entry.path is not None and not entry.broken]
    for (place, entry), group in zip(media, by_file(asked, descriptions), strict=True):
        places += [place - len(asked) if entry.kind != "document" else None for _ in group]
    earlier: list[int | None] = [None] * (len(descriptions) - len(places))
    items = [
        {"name": PurePath(one.param).name, "text": one.text, "line": cost_of(one), "edits": place}
        for one, place in zip(descriptions, [*earlier, *places], strict=True)
    ]
    models = ", ".join(dict.fromkeys(one.model for one in descriptions))
    return {
        "summary": f"{t('What the vision model said')} · {counts(descriptions)} · {models}",
        "items": items,
    }


def cost_of(one: Description) -> str:
    """Tokens and time of one description; those of a kept one were spent before."""
    if one.edited:
        return t("edited: nothing was asked")
    words = [t("{prompt} + {answer} tokens", prompt=one.prompt_tokens, answer=one.completion_tokens)]
    if one.cached_tokens:
        words.append(t(FROM_CACHE, count=one.cached_tokens))
    words.append(seconds(one.seconds))
    return " · ".join([*([t("kept: nothing was asked this time")] if one.kept else []), *words])


def _item(one: MediaReceipt, alone: bool) -> Json:
    """One medium: name; a place for each of its frames, with the time; its line, unless it is the summary; facts; the
    boxes and points of the answer."""
    places = [seconds(time_s) for _, time_s in one.frames] or ([] if one.kind == "audio" else [""])
    return {
        "name": "" if alone else PurePath(one.param).name,
        "places": places,
        "line": "" if alone else line(one),
        "facts": facts_of(one),
        "regions": regions_of(one),
    }


def by_file(entries: Sequence[ChatEntry], media: Sequence[ReceiptKind]) -> list[list[ReceiptKind]]:
    """For each medium of these entries, which are the last message, its receipts, or what was said about it. A document
    has one for each page."""
    rest, groups = list(media), []
    for entry in (entry for entry in reversed(entries) if entry.path is not None and not entry.broken):
        group = [rest.pop()] if rest and entry.kind != "document" else []
        while entry.kind == "document" and rest and rest[-1].param == PurePath(entry.path or "").name:
            group.insert(0, rest.pop())
        groups.append(group)
    return groups[::-1]


def num_receipts(entries: Sequence[ChatEntry], media: Sequence[MediaReceipt]) -> int:
    """How many of the last receipts belong to these entries, which are the last message."""
    return sum(map(len, by_file(entries, media)))


def summary(new: Sequence[MediaReceipt], earlier: Sequence[MediaReceipt] = ()) -> str:
    """The media of a message on one line; a single one by its own line. Those of earlier messages are only counted."""
    before = t("{things} of earlier messages", things=counts(earlier)) if earlier else ""
    if not new:
        return f"{before} · {plural(sum(one.tokens for one in earlier), 'token')}"
    if len(new) == 1:
        words = [line(new[0])]
    else:
        notes = list(dict.fromkeys(note for one in new for note in one.notes))
        words = [counts(new), plural(sum(one.tokens for one in new), "token")]
        words += notes if len(notes) <= MAX_NOTES else [plural(len(notes), "note")]
    return " · ".join([*words, *([t("with {things}", things=before)] if before else [])])


def counts(media: Sequence[MediaReceipt | Description]) -> str:
    """ "2 pictures, 1 clip"."""
    names = [NAMES[one.kind] for one in media]  # plural() counts by the English noun
    return ", ".join(plural(names.count(name), name) for name in dict.fromkeys(names))


def line(receipt: MediaReceipt) -> str:
    """Size as sent and as seen by the model, tokens, reuse, time."""
    words = [f"{t(NAMES[receipt.kind])} {sizes(receipt)}"]
    if receipt.frames:
        first, last = receipt.frames[0][1], receipt.frames[-1][1]
        span = t("{first} to {last}", first=seconds(first), last=seconds(last))
        words.append(f"{plural(len(receipt.frames), 'frame')}, {span}")
    words.append(plural(receipt.tokens, "token"))
    if reuse := reuse_of(receipt):
        words.append(reuse)
    words += receipt.notes
    words.append(milliseconds(receipt.fetch_ms + receipt.decode_ms + receipt.resize_ms + receipt.encode_ms))
    return " · ".join(words)


def sizes(receipt: MediaReceipt) -> str:
    if receipt.kind == "audio":
        return seconds(receipt.duration_s)
    decoded = f"{receipt.decoded_px[0]} × {receipt.decoded_px[1]}"
    if crop := receipt.crop:
        whole = f"{crop.of_px[0]} × {crop.of_px[1]}"
        decoded = t("crop of {whole}, {size} at {x}, {y}", whole=whole, size=decoded, x=crop.x, y=crop.y)
    if 0 in receipt.seen_px:
        return decoded
    return t("{before} → {after} seen", before=decoded, after=f"{receipt.seen_px[0]} × {receipt.seen_px[1]}")


def reuse_of(receipt: MediaReceipt) -> str:
    """How much of its vision features was reused; "" for families whose features are not stored."""
    use = receipt.features
    if use is None:
        return ""
    if not use.misses:
        return t("reused")
    if not use.hits:
        return t("encoded")
    return t("{hits} of {count} parts reused", hits=use.hits, count=use.hits + use.misses)


def facts_of(receipt: MediaReceipt) -> list[str]:
    """The facts that are not in the line: file size, time of each step, content hash."""
    steps = (
        (t("read"), receipt.fetch_ms),
        (t("decode"), receipt.decode_ms),
        (t("resize"), receipt.resize_ms),
        (t("encode"), receipt.encode_ms),
    )
    return [
        size(receipt.num_bytes),
        *(f"{name} {milliseconds(ms)}" for name, ms in steps),
        receipt.sha256[:12],
    ]
