"""What each action on the chat does to its conversation. Event loop only; no components of Gradio.

Every action answers with a View: what the page shows afterwards. The answer itself is written by the library's own task
and reaches the page through its events (workbench.conversations.feed), so no action waits for one.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from engine.errors import BadRequest, Conflict, ModelNotFound
from engine.types import Json, Part, Preflight, Request
from workbench.chat import turns
from workbench.chat.convert import ChatSettings, Entries, user_entries
from workbench.chat.place import SHOWN_TURNS, PagePlace, told
from workbench.chat.settings import from_texts
from workbench.conversations.json_forms import part_json, sound_text
from workbench.conversations.library import ConversationLibrary
from workbench.conversations.owned import OwnedConversations
from workbench.conversations.types import Attachment, Draft, Turn
from workbench.language import t

if TYPE_CHECKING:
    from engine.core import Engine

LAST = "last"
"""Asks for the conversation that was shown last."""

_KEY = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Asker:
    """Who acts, where, and with which settings. key: of this action; the page sends it again with the same action where
    the reply was lost. settings: None where a field is wrong, and then `problem` says so.
    """

    mine: OwnedConversations
    place: PagePlace
    tenant: str = ""
    session: str = ""
    key: str = ""
    texts: Json | None = None
    settings: ChatSettings | None = None
    problem: str = ""

    def new_turn(self, kind: str) -> str:
        """The id of a turn that this action makes: the same for the same key."""
        return (self.key if _KEY.fullmatch(self.key) else secrets.token_hex(16)) + kind


@dataclass(frozen=True)
class Outgoing:
    """A message to be sent. paths: of its files. fitted: by path, how a file is sent that was made smaller to fit.
    stills: of pictures that move, only the first frame.
    """

    text: str
    paths: Sequence[str] = ()
    fitted: Mapping[str, Part] = field(default_factory=dict)
    stills: bool = False


@dataclass(frozen=True)
class View:
    """What the page shows after an action. written: what there is of the answer that is being written. composer: what
    the composer holds then; None: what it held."""

    place: Json
    entries: Entries
    is_writing: bool = False
    written: Entries = ()
    composer: Json | None = None
    settings: Json | None = None


class Actions:
    """engine: for requests' costs and pictures. library: all conversations."""

    def __init__(self, engine: Engine, library: ConversationLibrary) -> None:
        self._engine = engine
        self._library = library

    # -- looking

    async def open(self, asker: Asker, conversation: str, *, with_draft: bool) -> View:
        """Show a conversation; a new one where it is not there. with_draft: and what was being written in it."""
        mine, place = asker.mine, asker.place
        wanted = await self._library.in_thread(mine.last_open) if conversation == LAST else conversation
        try:
            listed = await self._library.in_thread(mine.get, wanted) if wanted else None
        except ModelNotFound:
            listed = None
        id_ = listed.id if listed else ""
        await self._library.in_thread(mine.set_last_open, id_)
        view = await self.view(replace(asker, place=place.at(id_)))
        draft = await self._library.in_thread(mine.draft, id_)
        composer = await self._library.in_thread(self._composer, draft)
        place_json = {**view.place, "has_draft": draft != Draft()}
        missing = bool(wanted) and listed is None and conversation != LAST
        if missing:
            place_json["notice"] = t("That conversation is not here any more.")
        return replace(
            view,
            place=place_json,
            composer=composer if with_draft else None,
            settings=listed.settings if listed else _model_only(asker.texts),
        )

    async def draft(self, asker: Asker) -> Json:
        """What the composer of this conversation held."""
        draft = await self._library.in_thread(asker.mine.draft, asker.place.conversation)
        return await self._library.in_thread(self._composer, draft)

    async def view(self, asker: Asker, composer: Json | None = None) -> View:
        """The conversation as it is now."""
        mine, place = asker.mine, asker.place
        self._library.show(place.page, mine.owner, place.conversation)
        if not place.conversation:
            return View(told(place, None, (), has_earlier=False, is_writing=False), (), composer=composer)
        run = self._library.answers.get(place.conversation)
        answer = run.turn if run else None

        def look() -> View:
            listed = mine.get(place.conversation)
            path = mine.path(listed.id, place.num_turns + 1) if listed.head else ()
            # As the file has it, not as the run: its end is told with a later revision than this.
            is_writing = answer is not None and bool(path) and path[-1].state == "writing"
            shown = [turn for turn in path[-place.num_turns :] if not (is_writing and turn.state == "writing")]
            outline = turns.outline(shown, mine.store.media.path)
            has_earlier = len(path) > place.num_turns
            where = told(place, listed, outline, has_earlier=has_earlier, is_writing=is_writing)
            written = turns.entries(answer, mine.store.media.path) if answer and is_writing else ()
            return View(where, turns.all_entries(shown, mine.store.media.path), is_writing, written, composer)

        return await self._library.in_thread(look)

    async def earlier(self, asker: Asker) -> View:
        """Show more of the conversation's beginning."""
        more = replace(asker.place, num_turns=asker.place.num_turns + SHOWN_TURNS)
        return await self.view(replace(asker, place=more))

    async def history(self, asker: Asker) -> tuple[Turn, ...]:
        """All turns of the conversation that is shown."""
        if not asker.place.conversation:
            return ()
        path = await self._library.in_thread(asker.mine.path, asker.place.conversation)
        return tuple(turn for turn in path if turn.state != "writing")

    # -- asking

    async def send(self, asker: Asker, message: Outgoing) -> View:
        """Add a message to the conversation, or begin one with it.

        While an answer is being written, the message goes back into the composer.
        """
        question_id = asker.new_turn("q")
        repeated = await self._library.in_thread(asker.mine.conversation_of, question_id)
        if repeated:
            return await self.view(replace(asker, place=asker.place.at(repeated)))
        if self._library.answers.get(asker.place.conversation) is not None:
            return await self.view(asker, composer={"text": message.text, "files": list(message.paths)})
        attachments = await self._library.in_thread(self._attach, asker.mine, message)
        asker = await self._in_a_conversation(asker)
        listed = await self._library.in_thread(asker.mine.get, asker.place.conversation)
        question = turns.question(question_id, listed.head, sound_text(message.text), attachments)
        return await self._ask(asker, [question])

    async def ask_about_part(self, asker: Asker, index: int, part: object, text: str) -> View:
        """Ask about a part of a picture of the conversation, which goes in at its full size beside the whole one.

        part: [x, y, width, height] in pixels of the picture upright. Raises BadRequest for what is no such part, and
        Conflict while an answer is being written.
        """
        crop_px = _crop_px(part)
        question_id, place = asker.new_turn("q"), asker.place.number_in_turn(index)
        asked = await self._library.in_thread(asker.mine.turn, asker.place.conversation, asker.place.turn(index))
        if asked.role != "user" or place >= len(asked.attachments) or asked.attachments[place].kind != "image":
            raise BadRequest(t("There is no picture of which a part could be shown."), param="index")
        if not text.strip():
            raise BadRequest(t("Write what you want to know about it."), param="value")
        if self._library.answers.get(asker.place.conversation) is not None:
            raise Conflict(t("An answer is being written: wait for its end, or stop it."), code="answer_in_progress")
        whole = asked.attachments[place]
        sent = part_json(Part("image", crop_px=crop_px, detail="high"))
        listed = await self._library.in_thread(asker.mine.get, asker.place.conversation)
        attachments = [replace(whole, part=sent, broken="")]
        return await self._ask(asker, [turns.question(question_id, listed.head, sound_text(text), attachments)])

    async def parts_of(self, asker: Asker, index: int) -> dict[str, Part]:
        """The parts of pictures in a message, by the paths of their files."""
        question = await self._question(asker, index)
        shown = turns.entries(question, asker.mine.store.media.path)
        return {str(one.path): one.part for one in shown if one.part is not None and one.part.crop_px}

    async def retry(self, asker: Asker, index: int) -> View:
        """Answer the same message again; the answer there was stays beside it."""
        question = await self._question(asker, index)
        return await self._ask(asker, [], question)

    async def go_on(self, asker: Asker, index: int, num_parts: int) -> View:
        """Go on with an answer that was not brought to its end, in the same message. num_parts: of how many requests it
        was made when this was asked for, so that the same click twice goes on once.

        Where something follows on the answer already, that stays as it is, and the longer answer stands beside it.
        Raises BadRequest for wrong settings.
        """
        mine, conversation = asker.mine, asker.place.conversation
        answer = await self._library.in_thread(mine.turn, conversation, asker.place.turn(index))
        is_new = answer.can_continue and len(answer.ended_parts) == num_parts
        if not is_new or self._library.answers.get(conversation) is not None:
            return await self.view(asker)
        if asker.settings is None:
            raise BadRequest(asker.problem, param="settings")
        is_copied = await self._library.in_thread(mine.has_followers, conversation, answer.id)
        id_ = asker.new_turn("c") if is_copied else answer.id
        if is_copied and await self._library.in_thread(mine.conversation_of, id_) != "":
            return await self.view(asker)
        tokens = await self._library.in_thread(mine.tokens, conversation, answer.id)
        longer = turns.written_on(answer, id_, asker.texts or {}, tokens)
        before = await self._library.in_thread(self._before, asker, answer)
        path_of = mine.store.media.path
        request = await self._library.in_thread(turns.request_to_go_on, longer, before, path_of, asker.settings)
        request = replace(request, session=asker.session, tenant=asker.tenant)
        if is_copied:
            await self._library.ask(mine, conversation, [longer], request)
        else:
            await self._library.go_on(mine, conversation, longer, request)
        return await self.view(asker)

    async def edit(self, asker: Asker, index: int, text: str) -> View:
        """Answer a changed message; its media stay, and what it was stays beside it."""
        old = await self._question(asker, index)
        return await self._ask(asker, [replace(old, id=asker.new_turn("q"), text=sound_text(text))])

    async def describe(self, asker: Asker, index: int, text: str) -> View:
        """Answer a message again, with these words in place of what the vision model said about one of its media.

        index: of the medium's entry. Nothing happens for another entry, or without words.
        """
        old = await self._question(asker, index)
        place = asker.place.number_in_turn(index)
        if not 0 <= place < len(old.attachments) or not text.strip():
            return await self.view(asker)
        changed = old.attachments[place]
        changed = replace(changed, part={**(changed.part or {}), "description": sound_text(text.strip())})
        attachments = (*old.attachments[:place], changed, *old.attachments[place + 1 :])
        return await self._ask(asker, [replace(old, id=asker.new_turn("q"), attachments=attachments)])

    async def take_out(self, asker: Asker, index: int) -> View:
        """Take a broken medium out of its message, and have that answered if nothing but a failed answer follows."""
        mine, conversation = asker.mine, asker.place.conversation
        question = await self._library.in_thread(mine.turn, conversation, asker.place.turn(index))
        place = asker.place.number_in_turn(index)
        is_medium = question.role == "user" and place < len(question.attachments)
        if not is_medium or self._library.answers.get(conversation) is not None:
            return await self.view(asker)
        kept = (*question.attachments[:place], *question.attachments[place + 1 :])
        await self._library.in_thread(mine.replace_attachments, conversation, question.id, kept)
        last = (await self._library.in_thread(mine.path, conversation))[-1]
        if last.state == "failed" and last.parent == question.id:
            await self._library.in_thread(mine.take_back, conversation, last.id)
            if question.text or kept:
                return await self._ask(asker, [], replace(question, attachments=kept))
            await self._library.in_thread(mine.take_back, conversation, question.id)
        await self._library.tell(mine, conversation)
        return await self.view(asker)

    async def undo(self, asker: Asker, index: int) -> View:
        """Move a message back into the composer; it and what follows it stay as a branch."""
        question = await self._question(asker, index)
        conversation = asker.place.conversation
        await self._library.answers.stop(conversation)
        await self._library.in_thread(asker.mine.set_head, conversation, question.parent)
        await self._library.tell(asker.mine, conversation)
        held = Draft(question.text, question.attachments)
        return await self.view(asker, composer=await self._library.in_thread(self._composer, held))

    async def select(self, asker: Asker, turn: str, step: int) -> View:
        """Show the sibling before (-1) or after (1) a turn."""
        conversation = asker.place.conversation
        siblings = await self._library.in_thread(asker.mine.siblings, conversation, turn)
        place = siblings.index(turn) + (1 if step > 0 else -1)
        if 0 <= place < len(siblings):
            await self._library.answers.stop(conversation)
            await self._library.in_thread(asker.mine.select, conversation, siblings[place])
            await self._library.tell(asker.mine, conversation)
        return await self.view(asker)

    async def stop(self, asker: Asker) -> None:
        """End the answer; what was written stays."""
        await self._library.in_thread(asker.mine.get, asker.place.conversation)
        await self._library.answers.stop(asker.place.conversation)

    async def pictures(self, asker: Asker, key: str) -> Preflight:
        """What the model saw of the media of the request with this id. Raises EngineError."""
        conversation = asker.place.conversation
        answer = await self._library.in_thread(asker.mine.turn, conversation, turns.turn_of_request(key))
        request = await self._library.in_thread(self._request, asker, answer)
        return await self._engine.preflight(request, pictures=True)

    async def keep_fitted(self, asker: Asker, changed: Sequence[Turn]) -> None:
        """Media of earlier turns are sent smaller from now on."""
        for turn in changed:
            await self._library.in_thread(
                asker.mine.replace_attachments, asker.place.conversation, turn.id, turn.attachments
            )

    async def _ask(self, asker: Asker, new: list[Turn], question: Turn | None = None) -> View:
        """Add turns and have the last question answered."""
        asked = new[-1] if new else question
        assert asked is not None
        conversation = asker.place.conversation
        answer = turns.to_answer(asked, asker.new_turn("a"), asker.texts or {})
        if await self._library.in_thread(asker.mine.conversation_of, answer.id):
            return await self.view(asker)  # the page asks again, for the reply was lost on its way
        if asker.settings is None:
            failed = replace(answer, state="failed", error=asker.problem)
            await self._library.in_thread(asker.mine.add, conversation, [*new, failed])
            await self._library.tell(asker.mine, conversation)
            return await self.view(asker)
        before = await self._library.in_thread(self._path_to, asker, asked)
        path_of = asker.mine.store.media.path
        request = await self._library.in_thread(turns.request_for, answer, before, path_of, asker.settings)
        request = replace(request, session=asker.session, tenant=asker.tenant)
        await self._library.ask(asker.mine, conversation, [*new, answer], request)
        return await self.view(asker)

    def _request(self, asker: Asker, answer: Turn) -> Request:
        """What asked for an answer, with the settings of then."""
        before = self._before(asker, answer)
        request = turns.request_for(answer, before, asker.mine.store.media.path, from_texts(answer.settings))
        return replace(request, session=asker.session, tenant=asker.tenant)

    def _before(self, asker: Asker, turn: Turn) -> tuple[Turn, ...]:
        """The turns before one; none before the first."""
        return asker.mine.path(asker.place.conversation, head=turn.parent) if turn.parent else ()

    def _path_to(self, asker: Asker, question: Turn) -> list[Turn]:
        """The turns up to and with a question, which need not be kept yet."""
        if question.parent is None:
            return [question]
        return [*asker.mine.path(asker.place.conversation, head=question.parent), question]

    async def _in_a_conversation(self, asker: Asker) -> Asker:
        """The asker in a conversation that exists, made where there is none yet."""
        if asker.place.conversation:
            return asker
        made = await self._library.in_thread(asker.mine.create, settings=asker.texts)
        await self._library.in_thread(asker.mine.keep_draft, "", Draft())
        await self._library.in_thread(asker.mine.set_last_open, made.id)
        return replace(asker, place=asker.place.at(made.id))

    async def _question(self, asker: Asker, index: int) -> Turn:
        """The question that a displayed message is, or answers. Raises ModelNotFound."""
        conversation = asker.place.conversation
        turn = await self._library.in_thread(asker.mine.turn, conversation, asker.place.turn(index))
        if turn.role == "user" or turn.parent is None:
            return turn
        return await self._library.in_thread(asker.mine.turn, conversation, turn.parent)

    def _attach(self, mine: OwnedConversations, message: Outgoing) -> list[Attachment]:
        kept = []
        for entry in user_entries("", message.paths, message.fitted, stills=message.stills):
            part = part_json(entry.part) if entry.part else None
            kept.append(replace(mine.store.media.add(str(entry.path), entry.kind), part=part))  # type: ignore[arg-type]
        return kept

    def _composer(self, draft: Draft) -> Json:
        files = [self._library.store.media.path(attachment) for attachment in draft.attachments]
        return {"text": draft.text, "files": files}


def _crop_px(part: object) -> tuple[int, int, int, int]:
    """What the page sent as a part of a picture. Whether it lies inside is seen when the picture is decoded."""
    numbers = part if isinstance(part, list) else []
    if len(numbers) != 4 or not all(isinstance(number, int) and 0 <= number < 1 << 16 for number in numbers):
        raise BadRequest(t("All four must be whole numbers of pixels."), param="part")
    x, y, width, height = numbers
    if not width or not height:
        raise BadRequest(t("Width and height must be at least 1."), param="part")
    return x, y, width, height


def _model_only(texts: Json | None) -> Json:
    """What a new chat takes over from the one before: who answers."""
    return {name: text for name, text in (texts or {}).items() if name == "model"}
