"""The quiet line under the composer: what the message being written would cost, before it is sent.

The page says when something changed and then paused (chat/cost.js); the engine builds the prompt and tells
(Engine.preflight). A newer look ends the one before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import gradio as gr

from engine.errors import EngineError
from engine.runtime import fit
from engine.types import Json, Preflight, Request
from workbench.chat.convert import Entries, fitted_entries, to_request, user_entries
from workbench.shared import Shared
from workbench.words import NAMES, milliseconds, plural

if TYPE_CHECKING:
    from engine.core import Engine
    from workbench.chat.tab import ChatTab

QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
CHANGED = "(...values) => { window.workbenchCost?.changed(); return []; }"
TOO_LONG = "It does not fit even with smaller media: shorten the text, or start a new chat."


class CostLine:
    """The line and its two callbacks. Built inside the column of the chat tab, below the composer."""

    def __init__(self, engine: Engine, shared: Shared, chat: ChatTab) -> None:
        self._engine = engine
        self._shared = shared
        self._chat = chat
        self.line = gr.HTML(
            None,
            html_template='<div class="cost" role="status"></div>',
            js_on_load="workbenchCost.line(element, props, watch, trigger)",
            apply_default_css=False,
            elem_id="cost",
        )

    def wire(self) -> None:
        chat = self._chat
        inputs = {chat.session, chat.composer, *chat.settings.components}
        self.line.input(self.look, inputs, self.line, trigger_mode="multiple", **QUIET)
        self.line.submit(self.fit, inputs, self.line, **QUIET)
        for field in (chat.composer, *chat.settings.components):
            field.change(None, None, None, js=CHANGED, **QUIET)

    async def look(self, values: Mapping[Any, Any], page: gr.Request, event: gr.EventData) -> Any:
        """The message changed. Inputs: session, composer, settings. Outputs: line."""
        turn, session = event.turn, values[self._chat.session]
        if session.look is not None:
            session.look.cancel()
        try:
            draft = self._draft(values)
            if not draft or self._engine.snapshot().state != "ready":
                return {"turn": turn}
            request = self._request(values, page, (*session.entries, *draft))
            look = session.look = asyncio.create_task(self._engine.preflight(request))
            found = await look
        except EngineError as error:
            return {"turn": turn, "words": error.message, "state": "over"}
        except asyncio.CancelledError:
            return gr.skip()  # a newer look came
        return {"turn": turn, **line(request, found, num_receipts(draft, found))}

    async def fit(self, values: Mapping[Any, Any], page: gr.Request, event: gr.EventData) -> Json:
        """Make the media smaller until an answer fits. Inputs: session, composer, settings. Outputs: line."""
        turn, session = event.turn, values[self._chat.session]
        try:
            draft = self._draft(values)
            entries = (*session.entries, *draft)
            request = await self._engine.fit(self._request(values, page, entries))
            if request is None:
                return {"turn": turn, "words": TOO_LONG, "state": "over"}
            entries = fitted_entries(entries, request)
            found = await self._engine.preflight(request)
        except EngineError as error:
            return {"turn": turn, "words": error.message, "state": "over"}
        if session.answer is None:
            session.entries = entries[: len(session.entries)]
        files = entries[len(entries) - len(draft) :]
        session.fitted = {entry.path: entry.part for entry in files if entry.path and entry.part}
        told = line(request, found, num_receipts(draft, found))
        return {"turn": turn, **told, "words": f"made smaller: {told['words']}"}

    def _draft(self, values: Mapping[Any, Any]) -> Entries:
        value = values[self._chat.composer] or {"text": "", "files": []}
        paths = [self._shared.uploaded(path) for path in value["files"]]
        return user_entries(value["text"], paths, values[self._chat.session].fitted)

    def _request(self, values: Mapping[Any, Any], page: gr.Request, entries: Entries) -> Request:
        settings = self._chat.settings.read(values)
        return to_request(entries, settings, page.session_hash, self._shared.caller(page).tenant())


def num_receipts(draft: Entries, found: Preflight) -> int:
    """How many of the last receipts are of the message being written: of a document, one for each page."""
    params = [receipt.param for receipt in found.media]
    for entry in (entry for entry in reversed(draft) if entry.path is not None):
        if entry.kind != "document":
            del params[-1:]
        while entry.kind == "document" and params and params[-1] == PurePath(entry.path or "").name:
            del params[-1]
    return len(found.media) - len(params)


def line(request: Request, found: Preflight, num_media: int) -> Json:
    """The words: what the last num_media media cost, what is left, how long to the first token. Pure.

    state "over": no room for an answer; "tight": less room than an answer usually takes. Both can be fitted, if there
    are media. words, and more: what only a wide window shows.
    """
    words = []
    if new := found.media[len(found.media) - num_media :]:
        names = [NAMES[receipt.kind] for receipt in new]
        kinds = dict.fromkeys(names)
        who = names[0] if len(new) == 1 else ", ".join(plural(names.count(name), name) for name in kinds)
        words.append(f"{who} {sum(receipt.tokens for receipt in new):,} tokens")
    state = "fits"
    if found.left < (request.max_tokens or 1):
        state = "over"
        words.append(_over(request, found))
    else:
        state = "fits" if found.left >= fit.room(request) else "tight"
        words.append(f"{found.left:,} left" if words else f"{len(found.tokens):,} tokens · {found.left:,} left")
    expected = None if state == "over" else found.ttft_ms  # what is refused has no first token
    more = f"first token in about {milliseconds(expected)}" if expected is not None else ""
    return {"words": " · ".join(words), "more": more, "state": state, "can_fit": state != "fits" and bool(found.media)}


def _over(request: Request, found: Preflight) -> str:
    num_tokens = len(found.tokens)
    if found.left < 1:
        return f"does not fit: {num_tokens:,} tokens in a context of {found.context_tokens:,}"
    return f"{found.left:,} left, but {request.max_tokens:,} are asked for"
