"""The line under the composer: what the message being written would cost.

The page sends an event after a pause in the typing (chat/cost.js); the engine builds the prompt (Engine.preflight). A
newer preflight cancels the one before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from engine.errors import EngineError, MemoryExceeded
from engine.runtime.estimates import fit
from engine.types import Json, MediaReceipt, ModelCard, Preflight, Request
from workbench.chat import turns
from workbench.chat.actions import Asker
from workbench.chat.convert import Entries, fitted_entries, to_request, user_entries
from workbench.chat.receipts import by_file, counts
from workbench.components import QUIET
from workbench.language import catalogued, t
from workbench.shared import Shared
from workbench.words import NAMES, milliseconds, plural

if TYPE_CHECKING:
    from engine.core import Engine
    from workbench.chat.tab import ChatTab

CHANGED = "() => { window.workbenchCost?.changed(); return []; }"
COMPOSED = "(value) => { window.workbenchComposer?.changed(value); window.workbenchCost?.changed(); return []; }"
ELSEWHERE = catalogued("what it costs is known once {host} has answered")
DESCRIBED = catalogued("{model} describes the media first; what that costs is known then")
TOO_LONG = catalogued("It does not fit even with smaller media: shorten the text, or start a new chat.")


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
        inputs = {chat.session, chat.place, chat.composer, *chat.settings.components}
        self.line.input(self.estimate, inputs, self.line, trigger_mode="multiple", **QUIET)
        self.line.submit(self.fit, inputs, self.line, **QUIET)
        chat.composer.change(None, chat.composer, None, js=COMPOSED, **QUIET)
        for field in chat.settings.components:
            field.change(None, None, None, js=CHANGED, **QUIET)

    async def estimate(self, values: Mapping[Any, Any], page: gr.Request, event: gr.EventData) -> Any:
        """The message changed: estimate its cost. Inputs: session, place, composer, settings. Outputs: line."""
        turn, session = event.turn, values[self._chat.session]
        if session.estimate is not None:
            session.estimate.cancel()
        try:
            draft = self._draft(values)
            if not draft or self._engine.snapshot().state != "ready":
                return {"turn": turn}
            asker = self._chat.asker(values, page)
            history = await self._chat.actions.history(asker)
            request = self._request(values, asker, (*self._chat.entries(asker, history), *draft))
            card = self._engine.snapshot().card_of(request.model)
            if words := _known_later(request, card):
                return {"turn": turn, "words": words, "state": "fits"}
            task = session.estimate = asyncio.create_task(self._engine.preflight(request))
            preflight = await task
        except MemoryExceeded as error:
            return {"turn": turn, **refused(error)}
        except EngineError as error:
            return {"turn": turn, "words": error.message, "state": "over"}
        except asyncio.CancelledError:
            return gr.skip()  # a newer preflight has begun
        return {"turn": turn, **line(request, preflight, by_file(draft, preflight.media))}

    async def fit(self, values: Mapping[Any, Any], page: gr.Request, event: gr.EventData) -> Json:
        """Make the media smaller until an answer fits. Inputs: session, place, composer, settings. Outputs: line."""
        turn, session = event.turn, values[self._chat.session]
        try:
            draft = self._draft(values)
            asker = self._chat.asker(values, page)
            history = await self._chat.actions.history(asker)
            entries = (*self._chat.entries(asker, history), *draft)
            asked = self._request(values, asker, entries)
            request = await self._engine.fit(asked)
            if request is None:
                return {"turn": turn, "words": t(TOO_LONG), "state": "over"}
            entries = fitted_entries(entries, request)
            preflight = await self._engine.preflight(request)
        except EngineError as error:
            return {"turn": turn, "words": error.message, "state": "over"}
        await self._chat.actions.keep_fitted(asker, turns.fitted(history, asked, request))
        files = entries[len(entries) - len(draft) :]
        session.fitted = {entry.path: entry.part for entry in files if entry.path and entry.part}
        content = line(request, preflight, by_file(draft, preflight.media))
        return {"turn": turn, **content, "words": t("made smaller: {words}", words=content["words"])}

    def _draft(self, values: Mapping[Any, Any]) -> Entries:
        value = values[self._chat.composer] or {"text": "", "files": []}
        paths = [self._shared.uploaded(path) for path in value["files"]]
        stills = bool(values[self._chat.settings.stills])
        return user_entries(value["text"], paths, values[self._chat.session].fitted, stills=stills)

    def _request(self, values: Mapping[Any, Any], asker: Asker, entries: Entries) -> Request:
        settings = self._chat.settings.read(values)
        return to_request(entries, settings, asker.session, asker.tenant)


def _known_later(request: Request, card: ModelCard | None) -> str:
    """Why nothing can be told of the cost beforehand; "" where it can."""
    if card is not None and card.server:
        return t(ELSEWHERE, host=card.server)
    if request.media_parts and card is not None and card.described_by:
        return t(DESCRIBED, model=card.described_by)
    return ""


def line(request: Request, preflight: Preflight, files: Sequence[Sequence[MediaReceipt]]) -> Json:
    """The text: tokens of the message's media, context left, time to first token. Pure.

    files: for each file of the message, its receipts; the composer shows the tokens of each beside its name.
    state "over": no room for an answer; "tight": less room than answers usually take. In both states media can be made
    smaller. words: always shown; more: shown in a wide window only.
    """
    words = []
    if new := [receipt for file in files for receipt in file]:
        subject = t(NAMES[new[0].kind]) if len(new) == 1 else counts(new)
        frames = (
            " " + t("in {frames}", frames=plural(len(new[0].frames), "frame"))
            if len(new) == 1 and new[0].frames
            else ""
        )
        words.append(f"{subject} {plural(sum(receipt.tokens for receipt in new), 'token')}{frames}")
    state = "fits"
    if preflight.left < (request.max_tokens or 1):
        state = "over"
        words.append(_over(request, preflight))
    else:
        state = "fits" if preflight.left >= fit.room(request) else "tight"
        words.append(
            t("{left} left", left=preflight.left)
            if words
            else f"{plural(len(preflight.tokens), 'token')} · {t('{left} left', left=preflight.left)}"
        )
    expected = None if state == "over" else preflight.ttft_ms  # a refused request has no first token
    more = t("first token in about {time}", time=milliseconds(expected)) if expected is not None else ""
    return {
        "words": " · ".join(words),
        "more": more,
        "state": state,
        "files": [sum(receipt.tokens for receipt in file) for file in files],
        "can_fit": state != "fits" and bool(preflight.media),
    }


def refused(error: MemoryExceeded) -> Json:
    """What is said of a request that memory has no room for. Its media, where it has any, can be made smaller."""
    can_fit = error.cost is not None and bool(error.cost.media)
    return {"words": error.message, "state": "over", "can_fit": can_fit}


def _over(request: Request, preflight: Preflight) -> str:
    num_tokens = len(preflight.tokens)
    if preflight.left < 1:
        return t(
            "does not fit: {count} tokens in a context of {context}",
            count=num_tokens,
            context=preflight.context_tokens,
        )
    return t("{left} left, but {count} are asked for", left=preflight.left, count=request.max_tokens)
