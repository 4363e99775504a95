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

_FROM_CACHE = re.compile(r"[\d,]+ from cache")

Render = Callable[[str], Sequence[markdown.Tree]]


def turns(entries: Sequence[ChatEntry], render: Render = markdown.blocks, first: int = 0) -> list[Json]:
    """The turns of these entries. first: the index in the chat of the first of them. Each part says its own as `at`."""
    out: list[Json] = []
    asked: Sequence[ChatEntry] = ()
    for role, group in groupby(enumerate(entries, first), key=lambda pair: pair[1].role):
        pairs = list(group)
        if role == "user":
            asked = [entry for _, entry in pairs]
        parts = [{"at": at, "kind": entry.kind, **_part(entry, asked, render)} for at, entry in pairs]
        out.append({"role": role, "parts": parts})
    return out


def num_turns(entries: Sequence[ChatEntry]) -> int:
    return sum(1 for _ in groupby(entries, key=lambda entry: entry.role))


def _part(entry: ChatEntry, asked: Sequence[ChatEntry], render: Render) -> Json:
    """asked: the message that an answer belongs to."""
    if entry.path is not None:
        return {"name": PurePath(entry.path).name, "path": entry.path, "broken": entry.broken}
    if entry.role == "user":
        return {"text": entry.text}
    if entry.kind == "text":
        return {"text": entry.text, "blocks": list(render(entry.text))}
    if entry.kind == "reasoning":
        return {"text": entry.text, "duration_s": entry.duration_s}
    if entry.kind == "note":
        return {"words": _words(entry), **_about(entry, asked)}
    return {"words": [" ".join(entry.text.split())]}


def _words(entry: ChatEntry) -> list[str]:
    """The words of a note in up to three runs; the second leads to the strip of the request in the Cache tab."""
    cached = _FROM_CACHE.search(entry.text) if entry.request else None
    if cached is None:
        return [entry.text]
    return [entry.text[: cached.start()], cached[0], entry.text[cached.end() :]]


def _about(entry: ChatEntry, asked: Sequence[ChatEntry]) -> Json:
    if entry.request is None:
        return {}
    num_new = receipts.num_receipts(asked, entry.media)
    return {"request": entry.request.id, "receipt": receipts.receipt(entry.media, num_new)}
