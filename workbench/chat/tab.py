"""The chat tab: conversation, composer, example cards, and what each of their buttons does.

Every action is two steps. The first changes the session's entries and answers at once, outside the queue; the second,
`answer`, streams. A last step, `rest`, updates chat and composer after any outcome. Sending has a step before these, in
the page itself (chat/send.js), so that the message appears at once however busy the machine is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from engine.errors import EngineError
from engine.types import Json, Kind
from workbench import theme
from workbench.chat.convert import (
    AUDIO_SUFFIXES,
    DOCUMENT_SUFFIXES,
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    ChatEntry,
    Entries,
    before_answer,
    edited,
    media_kind,
    to_request,
    undone,
    user_entries,
    with_broken,
    without,
)
from workbench.chat.cost import CostLine
from workbench.chat.display import displayed, displayed_live
from workbench.chat.markdown import Rendering
from workbench.chat.session import LiveAnswer, Session
from workbench.chat.settings import SettingsPanel
from workbench.components import QUIET, component
from workbench.miniatures import data_urls
from workbench.shared import Shared
from workbench.words import NAMES

if TYPE_CHECKING:
    from engine.core import Engine

SUFFIXES: dict[Kind, tuple[str, ...]] = {"image": IMAGE_SUFFIXES, "video": VIDEO_SUFFIXES, "audio": AUDIO_SUFFIXES}
FILE_TYPES = ("image", "video", *IMAGE_SUFFIXES, *VIDEO_SUFFIXES, *DOCUMENT_SUFFIXES)
STREAMED: dict[str, Any] = {
    "concurrency_limit": None,  # Gradio's default is one at a time for all pages together
    "trigger_mode": "multiple",  # a retry may start before the answer it replaces has wound down
    "show_progress": "hidden",
    "api_visibility": "private",
}


def build(engine: Engine, shared: Shared) -> ChatTab:
    """Lay out the tab inside the Blocks context of the caller."""
    return ChatTab(engine, shared)


class ChatTab:
    """The components of the tab and its callbacks. Holds no state of a user: that is in gr.State."""

    def __init__(self, engine: Engine, shared: Shared) -> None:
        self._engine = engine
        self._shared = shared
        self.session = gr.State(Session())  # Gradio copies it for each page that opens
        self.settings = SettingsPanel(engine.config)
        with gr.Column(elem_id="stage"):
            self.chat = _conversation(shared)
            self.live = component("", "workbenchChat.live(props, watch)", "live")
            self.composer = _composer()
            self.cost = CostLine(engine, shared, self)
            self.outbox = gr.MultimodalTextbox(visible="hidden", elem_id="outbox")  # a message between page and server
            self.receipts = _receipts()
        self._wire()

    def _wire(self) -> None:
        chat_and_composer = [self.chat, self.composer]
        inputs, outputs = [self.composer, self.chat], [self.composer, self.chat, self.outbox]
        submitted = self.composer.submit(None, inputs, outputs, js=theme.script("chat/send.js"), **QUIET)
        self.then_answer(
            submitted.then(self.send, [self.session, self.outbox, self.settings.stills], chat_and_composer, **QUIET)
        )
        self.then_answer(self.chat.example_select(self.send_sample, self.session, chat_and_composer, **QUIET))
        self.then_answer(self.chat.retry(self.retry, self.session, chat_and_composer, **QUIET))
        self.then_answer(self.chat.edit(self.edit, self.session, chat_and_composer, **QUIET))
        self.then_answer(self.chat.delete(self.take_out, self.session, chat_and_composer, **QUIET))
        self.chat.undo(self.undo, self.session, chat_and_composer, **QUIET)
        self.chat.clear(self.clear, self.session, chat_and_composer, **QUIET)
        self.composer.stop(self.stop, self.session, None, **QUIET)
        self.cost.wire()
        self.receipts.submit(self.fill_receipt, self.session, self.receipts, trigger_mode="multiple", **QUIET)

    def then_answer(self, action: Any) -> None:
        """Answer after an event that adds a message to the chat."""
        inputs = {self.session, *self.settings.components}
        streamed = action.then(self.answer, inputs, self.live, **STREAMED)
        streamed.then(self.rest, self.session, [self.chat, self.composer], **QUIET)

    async def offer_media(self) -> Any:
        """When the page opens and the model is loaded: the kinds of files that the model takes, and the microphone.

        Inputs: none. Outputs: composer.
        """
        try:
            card = await self._engine.ready()
        except EngineError:
            return gr.skip()  # the header says why there is no model
        kinds = [kind for kind, takes in zip(SUFFIXES, (card.vision, card.video, card.audio), strict=True) if takes]
        names = [*(f"{NAMES[kind]}s" for kind in kinds), "documents"]
        words = f"{', '.join(names[:-1])} and {names[-1]}" if kinds else names[0]
        return gr.MultimodalTextbox(
            file_types=[*kinds, *(suffix for kind in kinds for suffix in SUFFIXES[kind]), *DOCUMENT_SUFFIXES],
            sources=["upload", "microphone"] if card.audio else ["upload"],
            placeholder=f"Ask, or drop {words}",
        )

    async def send(self, session: Session, value: Mapping[str, Any] | None, stills: bool = False) -> tuple[Any, Any]:
        """Add the message to the chat. Inputs: session, outbox, the switch for stills. Outputs: chat, composer.

        While an answer is being written the page sends an empty message; the text then stays in the composer.
        """
        if session.answer is not None or value is None:
            return gr.skip(), gr.skip()
        try:
            paths = [self._shared.uploaded(path) for path in value["files"]]
        except EngineError as error:
            gr.Warning(error.message)
            return conversation(session.entries), _idle()
        entries = user_entries(value["text"], paths, session.fitted, stills=stills)
        session.fitted = {}
        return add_message(session, entries)

    async def send_sample(self, session: Session, data: gr.EventData) -> tuple[Any, Any]:
        """Send an example card. Inputs: session. Outputs: chat, composer.

        The page sends only the card's number; its files are those of this process.
        """
        if session.answer is not None or not 0 <= _index(data) < len(self._shared.cards):
            return gr.skip(), gr.skip()
        sample = self._shared.cards[_index(data)]
        return add_message(session, user_entries(sample.text, sample.paths))

    async def retry(self, session: Session, data: gr.EventData) -> tuple[Any, Any]:
        """Answer the same message again. Inputs: session. Outputs: chat, composer."""
        if not session.entries:
            return _forgotten()
        return _rewound(session, before_answer(session.entries, _index(data)))

    async def edit(self, session: Session, data: gr.EventData) -> tuple[Any, Any]:
        """Answer a changed message; its pictures stay. Inputs: session. Outputs: chat, composer."""
        if not session.entries:
            return _forgotten()
        return _rewound(session, edited(session.entries, _index(data), str(data.value)))

    async def take_out(self, session: Session, data: gr.EventData) -> tuple[Any, Any]:
        """Take a broken medium out of its message, and answer that if nothing follows. Inputs: session. Outputs: chat,
        composer."""
        if session.answer is not None:
            return gr.skip(), gr.skip()
        session.entries = without(session.entries, _index(data))
        return conversation(session.entries), _busy() if _is_open(session.entries) else _idle()

    async def undo(self, session: Session, data: gr.EventData) -> tuple[Any, Any]:
        """Move the last message back into the composer. Inputs: session. Outputs: chat, composer."""
        if not session.entries:
            return _forgotten()
        entries, text, paths = undone(session.entries, _index(data))
        session.clear()
        session.entries = entries
        return conversation(entries), _idle(value={"text": text, "files": paths})

    async def clear(self, session: Session) -> tuple[Any, Any]:
        """A new chat. Inputs: session. Outputs: chat, composer."""
        session.clear()
        return conversation(()), _idle()

    async def stop(self, session: Session) -> None:
        """End the answer; what was written stays. Inputs: session. Outputs: none."""
        session.stop()

    async def fill_receipt(self, session: Session, event: gr.EventData) -> dict[str, Any]:
        """A receipt was opened: send the pictures that the model saw. Inputs: session. Outputs: receipts."""
        reply = {"receipt": str(event.receipt), "turn": event.turn}
        request = session.request(reply["receipt"])
        if request is None:
            return {**reply, "error": "This chat is no longer in the server's memory."}
        try:
            preflight = await self._engine.preflight(request, pictures=True)
        except EngineError as error:
            return {**reply, "error": error.message}
        return {**reply, "media": [await data_urls(frames) for frames in preflight.pictures]}

    async def answer(self, values: Mapping[Any, Any], page: gr.Request) -> AsyncIterator[Any]:
        """Stream the answer to the last message. Inputs: session, settings. Outputs: live.

        A page that was closed ends this at the next sample, and with it the engine's work.
        """
        session: Session = values[self.session]
        question = session.entries
        if session.answer is not None or not _is_open(question):
            return
        try:
            request = to_request(
                question, self.settings.read(values), page.session_hash, self._shared.caller(page).tenant()
            )
        except EngineError as error:
            session.entries = (*question, ChatEntry("assistant", "error", error.message))
            return
        answer = session.answer = LiveAnswer(self._engine, request)
        text = Rendering()
        try:
            async for entries in answer.samples():
                if session.answer is not answer:
                    return  # the chat was cleared, undone or retried meanwhile
                session.entries = question + entries
                yield {"answer": answer.request.id, **displayed_live(question, entries, text.update)}
        finally:
            answer.stop()
            if session.answer is answer:
                session.answer = None
                entries = tuple(entry for entry in session.entries if entry.kind != "busy")
                session.entries = with_broken(entries, answer.error) if answer.error else entries

    async def rest(self, session: Session) -> tuple[Any, Any]:
        """Chat and composer after an answer. Inputs: session. Outputs: chat, composer.

        The chat is sent too: the last sample of an answer may reach the page after the click that cleared it.
        """
        if session.answer is not None:
            return gr.skip(), _busy()
        return conversation(session.entries), _idle()


def conversation(entries: Entries) -> Json:
    """The value of the chat: all its turns."""
    return {"turns": displayed(entries)}


def _is_open(entries: Entries) -> bool:
    """Whether the last word is the user's."""
    return bool(entries) and entries[-1].role == "user"


def _conversation(shared: Shared) -> gr.HTML:
    cards = [
        {"text": sample.text, "files": [{"path": path, "kind": media_kind(path)} for path in sample.paths]}
        for sample in shared.cards
    ]
    return component("conversation", "workbenchChat.view(element, props, watch, trigger)", "chat", cards=cards)


def _receipts() -> gr.HTML:
    """Invisible: requests the pictures of an opened receipt and fills them in (chat/receipts.js)."""
    return gr.HTML(
        None,
        html_template="<i></i>",
        js_on_load="workbenchReceipts.seen(props, watch, trigger)",
        apply_default_css=False,
        elem_id="seen",
    )


def _composer() -> gr.MultimodalTextbox:
    return gr.MultimodalTextbox(
        elem_id="composer",
        show_label=False,
        container=False,
        placeholder="Ask, or drop pictures, clips and documents",
        file_count="multiple",
        file_types=[*FILE_TYPES],
        sources=["upload"],
        autofocus=True,
        lines=1,
        max_lines=8,
        max_plain_text_length=10_000_000,  # a long paste stays text instead of becoming a file that nobody reads
    )


def _idle(**changes: Any) -> gr.MultimodalTextbox:
    return gr.MultimodalTextbox(submit_btn=True, stop_btn=False, **changes)


def _busy(**changes: Any) -> gr.MultimodalTextbox:
    return gr.MultimodalTextbox(submit_btn=False, stop_btn=True, **changes)


def add_message(session: Session, entries: tuple[Any, ...]) -> tuple[Any, Any]:
    """Add a message to the chat. Returns chat and composer as they are until it is answered."""
    if not entries:
        return gr.skip(), gr.skip()
    session.entries += entries
    return conversation(session.entries), _busy()


def _rewound(session: Session, entries: tuple[Any, ...]) -> tuple[Any, Any]:
    session.clear()
    session.entries = entries
    return conversation(entries), _busy()


def _forgotten() -> tuple[Any, Any]:
    gr.Warning("This chat is no longer in the server's memory. Start a new one.")
    return conversation(()), _idle()


def _index(data: Any) -> int:
    """The index of an entry in a page's event, which is a number or a list that begins with it."""
    index = data.index
    return int(index[0] if isinstance(index, list | tuple) else index)
