"""The chat tab: list of conversations, conversation, composer, example cards, and what each of their buttons does.

An action changes the conversation in the library and replies at once, by a plain POST outside Gradio's queue. The
answer is written by the library and drawn from the page's events (conversations/live.js), so that a page that comes
back sees it go on. Sending has a step before these, in the page itself (chat/send.js): the message appears at once
however busy the machine is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from engine.errors import EngineError
from engine.types import Json, Kind, Part
from workbench import theme
from workbench.chat import turns
from workbench.chat.actions import Actions, Asker, Outgoing, View
from workbench.chat.convert import (
    AUDIO_SUFFIXES,
    DOCUMENT_SUFFIXES,
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    Entries,
    media_kind,
)
from workbench.chat.cost import COMPOSED, CostLine
from workbench.chat.display import displayed, displayed_live
from workbench.chat.markdown import Rendering
from workbench.chat.place import PagePlace
from workbench.chat.session import Session
from workbench.chat.settings import SettingsPanel
from workbench.components import QUIET, component, serial, static
from workbench.conversations.library import ConversationLibrary
from workbench.conversations.types import Turn
from workbench.language import t
from workbench.miniatures import data_urls
from workbench.models.listing import takes
from workbench.shared import Shared
from workbench.words import MANY, listed

if TYPE_CHECKING:
    from engine.core import Engine

SUFFIXES: dict[Kind, tuple[str, ...]] = {"image": IMAGE_SUFFIXES, "video": VIDEO_SUFFIXES, "audio": AUDIO_SUFFIXES}
FILE_TYPES = ("image", "video", *IMAGE_SUFFIXES, *VIDEO_SUFFIXES, *DOCUMENT_SUFFIXES)
ORDERED = "(value) => window.workbenchOrder.ordered(value)"
UNSENT = "() => { window.workbenchLive.unsent(); return []; }"
TAKEN_BACK = "(sent, chat) => [sent, { ...chat, turns: window.workbenchOutgoing.known(chat.turns) }]"
NOTE_DRAFT = "(...values) => { window.workbenchLive.draft(...values); return []; }"


def build(engine: Engine, shared: Shared, library: ConversationLibrary) -> ChatTab:
    """Lay out the tab inside the Blocks context of the caller."""
    return ChatTab(engine, shared, library)


class ChatTab:
    """The components of the tab and its callbacks. Holds no state of a user: that is in the library and in the page.

    place: where the page is (chat/place.py); every action has it among its inputs.
    """

    def __init__(self, engine: Engine, shared: Shared, library: ConversationLibrary) -> None:
        self._engine = engine
        self._shared = shared
        self._library = library
        self.actions = Actions(engine, library)
        self.session = gr.State(Session())  # Gradio copies it for each page that opens
        self.settings = SettingsPanel()
        with gr.Row(elem_id="chat-row"):
            self.list = component("list", "workbenchList.start(element)", "conversations")
            with gr.Column(elem_id="stage"):
                self.place = component("place", "workbenchLive.start(props, watch, trigger)", "place")
                self.chat = _conversation(shared)
                self.composer = _composer()
                self.cost = CostLine(engine, shared, self)
                self.outbox = gr.MultimodalTextbox(visible="hidden", elem_id="outbox")  # between page and server
                self.receipts = _receipts()
        self.shown = [self.place, self.chat, self.composer]
        self._wire()

    def _wire(self) -> None:
        self._wire_place()
        inputs, outputs = [self.composer, self.chat], [self.composer, self.chat, self.outbox]
        submitted = self.composer.submit(None, inputs, outputs, js=theme.text("chat/send.js"), **QUIET)
        sent = submitted.then(self.send, self.inputs(self.outbox), self.shown, **QUIET)
        sent.failure(None, None, None, js=UNSENT, **QUIET)
        self.place.undo(None, [self.outbox, self.chat], [self.composer, self.chat], js=TAKEN_BACK, **QUIET)
        self.chat.example_select(self.send_sample, self.inputs(), self.shown, **QUIET)
        self.chat.retry(self.retry, self.inputs(), self.shown, **QUIET)
        self.chat.submit(self.go_on, self.inputs(), self.shown, **QUIET)
        self.chat.edit(self.edit, self.inputs(), self.shown, **QUIET)
        self.chat.delete(self.take_out, self.inputs(), self.shown, **QUIET)
        self.chat.apply(self.ask_about_part, self.inputs(), self.shown, **QUIET)
        self.chat.undo(self.undo, self.inputs(), self.shown, **QUIET)
        self.chat.clear(self.clear, self.inputs(), self.opened, **QUIET)
        self.settings.model.change(self.offer_media, self.settings.model, self.offered, **QUIET)
        self.composer.stop(self.stop, self.inputs(), None, **QUIET)
        self.cost.wire()
        self.receipts.submit(self.fill_receipt, self.inputs(), self.receipts, trigger_mode="multiple", **QUIET)

    def _wire_place(self) -> None:
        place = self.place
        place.input(self.open, self.inputs(), self.opened, trigger_mode="multiple", **QUIET)
        place.submit(self.refresh, self.inputs(), self.shown, trigger_mode="multiple", **QUIET)
        place.expand(self.earlier, self.inputs(), self.shown, **QUIET)
        place.select(self.select, self.inputs(), self.shown, **QUIET)
        place.apply(self.restore_draft, self.inputs(), self.composer, **QUIET)
        drafted: list[Any] = [self.composer, *self.settings.fields.values()]
        for field in drafted:
            field.change(None, drafted, None, js=NOTE_DRAFT, trigger_mode="multiple", **QUIET)
        # The order of its files is no change to Gradio's composer.
        moved = place.release(None, self.composer, self.composer, js=ORDERED, trigger_mode="multiple", **QUIET)
        moved.then(None, self.composer, None, js=COMPOSED, **QUIET)
        moved.then(None, drafted, None, js=NOTE_DRAFT, **QUIET)

    def inputs(self, *more: Any) -> set[Any]:
        """What every action gets: where the page is, its settings, and what it alone needs."""
        return {self.session, self.place, *self.settings.components, *more}

    @property
    def opened(self) -> list[Any]:
        """What changes when another conversation is opened."""
        return [*self.shown, *self.settings.fields.values()]

    def asker(self, values: Mapping[Any, Any], page: gr.Request) -> Asker:
        """Who acts. values: of `inputs`. Raises Forbidden."""
        place = PagePlace.of(values[self.place])
        try:
            settings, problem = self.settings.read(values), ""
        except EngineError as error:
            settings, problem = None, error.message
        return Asker(
            mine=self._library.owned(page.username or "", place.visitor),
            place=place,
            tenant=self._shared.caller(page).tenant(),
            session=page.session_hash or "",
            key=page.headers.get("idempotency-key", ""),
            texts=self._texts(values),
            settings=settings,
            problem=problem,
        )

    def _texts(self, values: Mapping[Any, Any]) -> Json:
        """The settings that a conversation keeps, and the model that answers it, also where that is the default one."""
        return {"model": self._engine.config.model.served_name, **self.settings.texts(values)}

    def entries(self, asker: Asker, path: tuple[Turn, ...]) -> Entries:
        return turns.all_entries(path, asker.mine.store.media.path)

    @property
    def offered(self) -> list[Any]:
        """What follows the model."""
        return [self.composer, *self.settings.numbers.values()]

    async def offer_media(self, model: str = "") -> Any:
        """When the page opens and when another model is chosen: the kinds of files that it takes, the microphone, and
        the values that apply where a field is empty.

        Waits for the default model, but loads none. Inputs: model. Outputs: `offered`.
        """
        try:
            card = self._engine.snapshot().card_of(model) if model else await self._engine.ready()
        except EngineError:
            card = None  # the header says why there is no model
        if card is None:
            return [gr.skip()] * len(self.offered)
        offered = takes(card, self._engine.models())
        kinds = [kind for kind in SUFFIXES if kind in offered]
        things = listed([*(t(MANY[kind]) for kind in kinds), t("documents")])
        composer = gr.MultimodalTextbox(
            file_types=[*kinds, *(suffix for kind in kinds for suffix in SUFFIXES[kind]), *DOCUMENT_SUFFIXES],
            sources=["upload", "microphone"] if card.audio else ["upload"],
            placeholder=t("Ask, or drop {things}", things=things),
        )
        return [composer, *self.settings.own_values(self._engine.config, card)]

    # -- the callbacks; unless it says otherwise: Inputs: `inputs`. Outputs: place, chat, composer.

    async def open(self, values: Mapping[Any, Any], page: gr.Request, event: gr.EventData) -> list[Any]:
        """Show another conversation. Outputs: `opened`. why: "load" leaves the composer as it is."""
        asker = self.asker(values, page)
        view = await self.actions.open(asker, str(event.conversation), with_draft=event.why != "load")
        return self._opened(view)

    async def refresh(self, values: Mapping[Any, Any], page: gr.Request) -> list[Any]:
        """The conversation was changed elsewhere, or its answer has ended."""
        return await self._after(self.actions.view(self.asker(values, page)), values, page)

    async def earlier(self, values: Mapping[Any, Any], page: gr.Request) -> list[Any]:
        """Show more of the conversation's beginning."""
        return await self._after(self.actions.earlier(self.asker(values, page)), values, page)

    async def select(self, values: Mapping[Any, Any], page: gr.Request, event: gr.EventData) -> list[Any]:
        """An arrow at a message: the sibling before or after it."""
        select = self.actions.select(self.asker(values, page), str(event.turn), int(event.step))
        return await self._after(select, values, page)

    async def restore_draft(self, values: Mapping[Any, Any], page: gr.Request) -> Any:
        """Put back what was being written. Outputs: composer."""
        return gr.MultimodalTextbox(value=await self.actions.draft(self.asker(values, page)))

    async def send(self, values: Mapping[Any, Any], page: gr.Request) -> list[Any]:
        """Add the message to the conversation and have it answered. Inputs: outbox too.

        While an answer is being written the page sends an empty message; the text then stays in the composer.
        """
        value, session, stills = values[self.outbox], values[self.session], bool(values[self.settings.stills])
        if value is None or not (value["text"].strip() or value["files"]):
            return [gr.skip()] * len(self.shown)
        asker = self.asker(values, page)
        fitted, session.fitted = session.fitted, {}
        try:
            paths = [self._shared.uploaded(path) for path in value["files"]]
        except EngineError as error:
            again = {"text": value["text"], "files": []}
            return await self._after(_refuse(error), values, page, composer=again)
        send = self.actions.send(asker, Outgoing(value["text"], paths, fitted, stills))
        return await self._after(send, values, page, composer={"text": value["text"], "files": paths})

    async def ask(self, values: Mapping[Any, Any], page: gr.Request, question: str, part: Part) -> list[Any]:
        """Send a question and a medium, in the way that `part` says."""
        path = str(part.path)
        send = self.actions.send(self.asker(values, page), Outgoing(question, [path], {path: part}))
        return await self._after(send, values, page)

    def is_writing(self, values: Mapping[Any, Any]) -> bool:
        """Whether an answer is being written in the conversation that the page shows."""
        return self._library.answers.get(PagePlace.of(values[self.place]).conversation) is not None

    async def send_sample(self, values: Mapping[Any, Any], page: gr.Request, data: gr.EventData) -> list[Any]:
        """Send an example card. The page sends only its number; the files are those of this process."""
        if not 0 <= _index(data) < len(self._shared.cards):
            return [gr.skip()] * len(self.shown)
        sample = self._shared.cards[_index(data)]
        send = self.actions.send(self.asker(values, page), Outgoing(sample.text, sample.paths))
        return await self._after(send, values, page)

    async def retry(self, values: Mapping[Any, Any], page: gr.Request, data: gr.EventData) -> list[Any]:
        """Answer the same message again."""
        return await self._after(self.actions.retry(self.asker(values, page), _index(data)), values, page)

    async def go_on(self, values: Mapping[Any, Any], page: gr.Request, data: gr.EventData) -> list[Any]:
        """Go on with an answer that was not brought to its end."""
        go_on = self.actions.go_on(self.asker(values, page), _index(data), int(data.num_parts))
        return await self._after(go_on, values, page)

    async def edit(self, values: Mapping[Any, Any], page: gr.Request, data: gr.EventData) -> list[Any]:
        """Answer a changed message; its pictures stay. described: the entry is a medium, and the value its description;
        else it is the message's text."""
        act = self.actions.describe if getattr(data, "described", False) else self.actions.edit
        edit = act(self.asker(values, page), _index(data), str(data.value))
        return await self._after(edit, values, page)

    async def take_out(self, values: Mapping[Any, Any], page: gr.Request, data: gr.EventData) -> list[Any]:
        """Take a broken medium out of its message, and have that answered if nothing follows."""
        return await self._after(self.actions.take_out(self.asker(values, page), _index(data)), values, page)

    async def ask_about_part(self, values: Mapping[Any, Any], page: gr.Request, data: gr.EventData) -> list[Any]:
        """Ask about a part of a picture that is in the conversation."""
        ask = self.actions.ask_about_part(self.asker(values, page), _index(data), data.part, str(data.value))
        return await self._after(ask, values, page)

    async def undo(self, values: Mapping[Any, Any], page: gr.Request, data: gr.EventData) -> list[Any]:
        """Move a message back into the composer. A part of a picture is sent as that part from there, too."""
        asker = self.asker(values, page)
        values[self.session].fitted = await self.actions.parts_of(asker, _index(data))
        return await self._after(self.actions.undo(asker, _index(data)), values, page)

    async def clear(self, values: Mapping[Any, Any], page: gr.Request) -> list[Any]:
        """A new conversation; the one before stays in the list. Outputs: `opened`."""
        return self._opened(await self.actions.open(self.asker(values, page), "", with_draft=True))

    async def stop(self, values: Mapping[Any, Any], page: gr.Request) -> None:
        """End the answer; what was written stays. Outputs: none."""
        await self.actions.stop(self.asker(values, page))

    async def fill_receipt(self, values: Mapping[Any, Any], page: gr.Request, event: gr.EventData) -> Json:
        """A receipt was opened: send the pictures that the model saw. Outputs: receipts."""
        reply = {"receipt": str(event.receipt), "turn": event.turn}
        try:
            preflight = await self.actions.pictures(self.asker(values, page), reply["receipt"])
        except EngineError as error:
            return {**reply, "error": error.message}
        return {**reply, "media": [await data_urls(frames) for frames in preflight.pictures]}

    async def _after(
        self, action: Awaitable[View], values: Mapping[Any, Any], page: gr.Request, composer: Json | None = None
    ) -> list[Any]:
        """What an action leaves; where it could not be done, the reason and what is there.

        composer: what it held, and holds again where the action could not be done.
        """
        try:
            view = await action
        except EngineError as error:
            view = await self.actions.open(
                self.asker(values, page), PagePlace.of(values[self.place]).conversation, with_draft=False
            )
            view = replace(view, place={**view.place, "notice": error.message}, composer=composer)
        return self._show(view)

    def notice(self, values: Mapping[Any, Any], words: str) -> list[Any]:
        """Nothing changes, and the page says why. Gradio's own toasts are for events of its queue only."""
        place = {**(values[self.place] or {}), "notice": words, "serial": serial()}
        return [place, *[gr.skip()] * (len(self.shown) - 1)]

    def _show(self, view: View) -> list[Any]:
        changes = {} if view.composer is None else {"value": view.composer}
        composer = _busy(**changes) if view.is_writing else _idle(**changes)
        return [view.place, conversation(view), composer]

    def _opened(self, view: View) -> list[Any]:
        texts = view.settings or {}
        return [*self._show(view), *(texts.get(name, "") for name in self.settings.fields)]


async def _refuse(error: EngineError) -> View:
    raise error


def conversation(view: View) -> Json:
    """The value of the chat: all its turns that are shown, whether there are earlier ones, and what there is of the
    answer that is being written."""
    shown = {name: view.place[name] for name in ("conversation", "has_earlier")}
    live = displayed_live(view.written, Rendering().update)
    return {**shown, "turns": displayed(view.entries, view.place["outline"]), "live": live}


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
        placeholder=static("Ask, or drop pictures, clips and documents"),
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


def _index(data: Any) -> int:
    """The index of an entry in a page's event, which is a number or a list that begins with it."""
    index = data.index
    return int(index[0] if isinstance(index, list | tuple) else index)
