"""The Compare tab: one message in two to four columns, each with settings of its own, answered in one batch.

One HTML component draws itself (compare/compare.js) and sends one question at a time. "start" makes a comparison, which
begins when the page reads its route (compare/routes.py). Answers are drawn as the chat draws them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from engine.api.requests import visible_record_of
from engine.bounded import BoundedCache
from engine.errors import BadRequest, EngineError, ModelNotFound
from engine.request_log.record import LoggedRequest
from engine.types import Json, Request
from workbench.chat import turns
from workbench.chat.convert import MEDIA_SUFFIXES, Entries, media_kind, user_entries
from workbench.compare import again, prompts
from workbench.compare.columns import MAX_COLUMNS, MIN_COLUMNS, Column, check_number, read_column, request_of, texts_of
from workbench.compare.comparison import Side, SideBySide
from workbench.components import asking
from workbench.conversations.json_forms import part_json, sound_text
from workbench.conversations.library import ConversationLibrary
from workbench.conversations.owned import OwnedConversations
from workbench.conversations.types import Turn
from workbench.language import catalogued, t
from workbench.miniatures import data_urls
from workbench.shared import Shared

if TYPE_CHECKING:
    from engine.core import Engine

NAME = catalogued("Compare")
MAX_PICTURES = 4
"""Of a request that is asked again, that are shown."""

MAX_KEPT = 256
"""Comparisons of all pages whose answers can still be kept."""


class Comparisons:
    """The last comparisons of all pages, by a secret name."""

    def __init__(self) -> None:
        self._kept: BoundedCache[str, SideBySide] = BoundedCache(MAX_KEPT, float("inf"), lambda one: 0)

    def add(self, comparison: SideBySide) -> str:
        name = secrets.token_urlsafe(24)
        self._kept.put(name, comparison)
        return name

    def find(self, name: str) -> SideBySide:
        """Raises ModelNotFound."""
        found = self._kept.get(name)
        if found is None:
            raise ModelNotFound(t("That comparison is not here any more. Run it again."), code="comparison_not_found")
        return found


def build(engine: Engine, shared: Shared, library: ConversationLibrary, comparisons: Comparisons) -> CompareTab:
    """Lay out the tab inside the Tab context of the caller."""
    return CompareTab(engine, shared, library, comparisons)


class CompareTab:
    """The component of the tab and its callbacks. library: where an answer goes that somebody goes on from."""

    def __init__(self, engine: Engine, shared: Shared, library: ConversationLibrary, comparisons: Comparisons) -> None:
        self._engine = engine
        self._shared = shared
        self._library = library
        self._comparisons = comparisons
        setup = {"low": MIN_COLUMNS, "high": MAX_COLUMNS, "suffixes": list(MEDIA_SUFFIXES)}
        answers = {
            "start": self._start,
            "again": self._again,
            "stop": self._stop,
            "seen": self._seen,
            "keep": self._keep,
            "prompts": self._prompts,
            "export": self._export,
        }
        with gr.Column(elem_id="compare"):
            self.view = asking("Compare", setup, answers)

    async def _start(self, fields: Json, page: gr.Request) -> Json:
        """again: the id of a request of the log that is asked in place of a message."""
        columns = fields.get("columns") or ()
        check_number(columns)
        if fields.get("again"):
            record = self._record(str(fields["again"]), fields, page)
            return {"name": self._comparisons.add(await self._begun_again(record, columns, page))}
        text = sound_text(str(fields.get("text") or ""))
        paths = [self._shared.uploaded(str(path)) for path in fields.get("paths") or ()]
        entries = user_entries(text, paths)
        if not entries:
            raise BadRequest(t("There is nothing to ask yet: write a message, or add a picture."))
        sides = [self._side(entries, partial(request_of, entries), column, page) for column in columns]
        return {"name": self._comparisons.add(SideBySide(text, paths, sides))}

    async def _begun_again(self, record: LoggedRequest, columns: Sequence[Json], page: gr.Request) -> SideBySide:
        asked = await self._asked_again(record)
        media = again.media_of(asked)
        sides = [self._side(media, partial(again.request_again, asked), column, page) for column in columns]
        return SideBySide("", (), sides, can_be_kept=False)

    def _record(self, id: str, fields: Json, page: gr.Request) -> LoggedRequest:
        """A request of the log. fields: visitor, what the browser's tab calls itself. Raises ModelNotFound."""
        return visible_record_of(self._engine, id, self._shared.caller(page, str(fields.get("visitor") or "")))

    async def _asked_again(self, record: LoggedRequest) -> Request:
        return await self._engine.aside(lambda: again.asked_again(self._engine.requests, record))

    async def _again(self, fields: Json, page: gr.Request) -> Json:
        """What a request of the log is, and the fields of a column that asks the same."""
        record = self._record(str(fields.get("id")), fields, page)
        asked = await self._asked_again(record)
        about = {**again.about(asked), "pictures": await self._pictures(record)}
        return {"column": again.fields_of(asked), "about": about}

    async def _pictures(self, record: LoggedRequest) -> list[str]:
        """Of its first media, as data: URLs; those that are forgotten are left out."""
        receipts = record.done.media if record.done else ()
        found = (self._engine.thumbnail(one.sha256) for one in receipts[:MAX_PICTURES])
        return await data_urls([picture for picture in found if picture is not None])

    def _side(
        self, entries: Entries, make: Callable[[Column, str, str], Request], fields: Mapping[str, Any], page: gr.Request
    ) -> Side:
        """A column; one whose settings are wrong has failed already, and the others go on. make: see request_of."""
        answer = Turn(secrets.token_hex(16) + "a", "assistant", state="writing", settings=texts_of(fields))
        try:
            column = read_column(fields)
        except EngineError as error:
            return Side(replace(answer, state="failed", error=error.message))
        request = make(column, page.session_hash or "", self._shared.caller(page).tenant())
        request = replace(request, id=turns.request_id(answer.id))
        return Side(answer, request, draw=turns.LiveAnswer(entries))

    async def _stop(self, fields: Json, page: gr.Request) -> Json:
        """All columns, or the one that is named."""
        if fields.get("column") is None:
            self._comparisons.find(str(fields.get("name"))).stop()
        else:
            self._chosen(fields)[1].stop()
        return {}

    def _chosen(self, fields: Json) -> tuple[SideBySide, Side]:
        comparison = self._comparisons.find(str(fields.get("name")))
        place = int(fields["column"])
        return comparison, comparison.sides[min(max(place, 0), len(comparison.sides) - 1)]

    async def _seen(self, fields: Json, page: gr.Request) -> Json:
        """The pictures that the model saw in one column."""
        _, side = self._chosen(fields)
        if side.request is None:
            return {"media": []}
        preflight = await self._engine.preflight(side.request, pictures=True)
        return {"media": [await data_urls(frames) for frames in preflight.pictures]}

    async def _keep(self, fields: Json, page: gr.Request) -> Json:
        """Make a conversation of one column, to go on with in the chat."""
        comparison, side = self._chosen(fields)
        if side.request is None or not side.has_ended or not side.turn.text or not comparison.can_be_kept:
            raise BadRequest(t("This column has no answer to go on from."))
        mine = self._library.owned(page.username or "", str(fields.get("visitor") or ""))
        conversation = await self._library.in_thread(_kept, mine, comparison, side)
        await self._library.tell(mine, conversation)
        return {"conversation": conversation}

    async def _prompts(self, fields: Json, page: gr.Request) -> Json:
        text = str(fields.get("text") or "")
        return {"prompts": (prompts.read_csv if fields.get("is_csv") else prompts.read_list)(text)}

    async def _export(self, fields: Json, page: gr.Request) -> Json:
        return {"csv": prompts.write_csv(fields.get("rows") or ())}


def _kept(mine: OwnedConversations, comparison: SideBySide, side: Side) -> str:
    """The id of the conversation that goes on from a column; made where there is none yet. Blocks."""
    if there := mine.conversation_of(side.turn.id):
        return mine.get(there).id
    assert side.request is not None, "a column without a request has no answer"
    attachments = tuple(
        replace(mine.store.media.add(path, media_kind(path)), part=part_json(part) if part.max_pixels else None)
        for path, part in zip(comparison.paths, side.request.media_parts, strict=True)
    )
    question = turns.question(side.turn.id[:-1] + "q", None, comparison.text, attachments)
    made = mine.create(settings=side.answer.settings)
    mine.add(made.id, [question, replace(side.turn, parent=question.id)])
    return made.id
