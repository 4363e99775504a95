"""Entries of a chat -> the turns that the page draws (chat/conversation.js). Pure.

A turn is what one side says until the other does; its parts are the entries. Text of the model is drawn from trees
(markdown.py); everything else goes into the page as it stands, never as Markdown or HTML.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import PurePath

from engine.types import Json
from workbench.chat import markdown, receipts
from workbench.chat.convert import ChatEntry
from workbench.language import t
from workbench.words import FROM_CACHE

Render = Callable[[str], Sequence[markdown.Tree]]


def displayed(entries: Sequence[ChatEntry], outline: Sequence[Json] = ()) -> list[Json]:
    """The turns of a chat. Each part has its index among the entries as `at`.

    outline: for each entry, the kept turn that it is of (turns.outline); those with siblings get arrows.
    """
    out: list[Json] = []
    asked: Sequence[ChatEntry] = ()
    first = 0
    for role, group in groupby(entries, key=lambda entry: entry.role):
        parts = tuple(group)
        branches = [line for line in outline[first : first + len(parts)] if "of" in line]
        drawn = _parts(parts, first, asked, markdown.blocks)
        if role == "assistant" and out:
            _mark_frames(out[-1]["parts"], asked, parts)
        out.append({"role": role, "parts": drawn, "branches": branches})
        asked, first = parts, first + len(parts)
    return out


def _mark_frames(drawn: list[Json], asked: Sequence[ChatEntry], answer: Sequence[ChatEntry]) -> None:
    """Tell the clips of a message which frames of them its answer was given for, by their times in seconds.

    drawn: the parts of the message, made of `asked`.
    """
    media = next((entry.media for entry in answer if entry.media), ())
    sent = [part for part, entry in zip(drawn, asked, strict=True) if entry.path is not None and not entry.broken]
    for part, group in zip(sent, receipts.by_file(asked, media), strict=True):
        if part["kind"] == "video" and group:
            part["frames"] = [time_s for _, time_s in group[0].frames]
            part["duration_s"] = group[0].duration_s


def displayed_live(entries: Sequence[ChatEntry], render: Render, asked: Sequence[ChatEntry] = ()) -> list[Json]:
    """The parts of an answer that is being written, as `displayed` has them. asked: the message, where its end is drawn
    with its receipts."""
    return _parts(entries, 0, asked, render)


def _parts(entries: Sequence[ChatEntry], first: int, asked: Sequence[ChatEntry], render: Render) -> list[Json]:
    return [{"at": at, "kind": one.kind, **_part(one, asked, render)} for at, one in enumerate(entries, first)]


def _part(entry: ChatEntry, asked: Sequence[ChatEntry], render: Render) -> Json:
    """asked: the message that an answer belongs to."""
    if entry.path is not None:
        shown = {"name": PurePath(entry.path).name, "path": entry.path, "broken": entry.broken}
        return shown | ({"crop": list(entry.part.crop_px)} if entry.part and entry.part.crop_px else {})
    if entry.role == "user":
        return {"text": entry.text}
    if entry.kind == "text":
        return {"text": entry.text, "blocks": list(render(entry.text))}
    if entry.kind == "reasoning":
        return {"text": entry.text, "duration_s": entry.duration_s}
    if entry.kind == "note":
        return {
            "words": _words(entry),
            "num_parts": entry.num_parts,
            "has_tokens": entry.has_tokens,
            **_about(entry, asked),
        }
    return {"words": [" ".join(entry.text.split())], "num_parts": entry.num_parts, "has_tokens": entry.has_tokens}


def _words(entry: ChatEntry) -> list[str]:
    """The words of a note in up to three runs; the second leads to the strip of the request in the Cache tab."""
    pattern = re.escape(t(FROM_CACHE, count="#")).replace(re.escape("#"), r"[\d,.]+")
    cached = re.search(pattern, entry.text) if entry.request else None
    if cached is None:
        return [entry.text]
    return [entry.text[: cached.start()], cached[0], entry.text[cached.end() :]]


def _about(entry: ChatEntry, asked: Sequence[ChatEntry]) -> Json:
    if entry.request is None:
        return {}
    num_new = receipts.num_receipts(asked, entry.media)
    receipt = receipts.receipt(entry.media, num_new, is_imported=entry.is_imported)
    about: Json = {"request": entry.request.id, "receipt": receipt}
    if entry.descriptions:
        about["described"] = receipts.described(entry.descriptions, asked)
    return about
