"""All that the page has of conversations, in one object: the store, the answers being written, the pages that look.

Event loop only, but for `in_thread`: SQLite and files may take as long as a disk takes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from engine.access.visibility import conversation_owner, keeps_conversations
from engine.config import ServerConfig
from engine.types import Json, Request
from workbench.conversations.answers import AnswerRun, Answers
from workbench.conversations.broken import mark_broken
from workbench.conversations.owned import OwnedConversations
from workbench.conversations.store import UNDO_S, ConversationStore
from workbench.conversations.types import Turn

if TYPE_CHECKING:
    from engine.core import Engine

T = TypeVar("T")
FOLDER = "conversations"
MAX_SHOWN = 4096
"""Pages whose conversation is remembered."""


@dataclass
class OpenPage:
    """One page in a browser, as long as it listens. conversation: what it shows, "" for a new one."""

    owner: str
    conversation: str = ""
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class ConversationLibrary:
    """engine: answers. config: where conversations are kept, and whose they are. served: a folder whose files the page
    may show and the engine may read.
    """

    def __init__(self, engine: Engine, config: ServerConfig, served: Path) -> None:
        keeps = keeps_conversations(config)
        folder = config.data_folder / FOLDER if config.data_folder and keeps else None
        self.store = ConversationStore(folder, served)
        self.answers = Answers(config.unwatched_s)
        self.pages: dict[str, OpenPage] = {}
        self._engine = engine
        self._config = config
        self._shown: dict[str, tuple[str, str]] = {}
        self._revisions: dict[str, int] = {}
        self._list_numbers: dict[str, int] = {}

    def owned(self, name: str, visitor: str) -> OwnedConversations:
        """The conversations that somebody sees. Raises Forbidden."""
        return OwnedConversations(self.store, conversation_owner(self._config, name, visitor))

    def how_kept(self) -> Json:
        """Where conversations go, for a sentence on the page."""
        if self.store.problem:
            return {"kept": "problem", "problem": self.store.problem}
        if self.store.database.on_disk:
            return {"kept": "disk"}
        return {"kept": "tab" if self._config.open_access or self._config.public_link else "memory"}

    async def in_thread(self, work: Callable[..., T], *arguments: object, **more: object) -> T:
        """Run what reads or writes files away from the event loop."""
        return await asyncio.to_thread(partial(work, *arguments, **more))

    # -- who looks at what

    def show(self, page: str, owner: str, conversation: str) -> None:
        """A page shows another conversation now. It may begin to listen only after that."""
        self._shown.pop(page, None)
        self._shown[page] = (owner, conversation)
        if len(self._shown) > MAX_SHOWN:
            del self._shown[next(iter(self._shown))]
        open_page = self.pages.get(page)
        if open_page is not None and open_page.owner == owner and open_page.conversation != conversation:
            open_page.conversation = conversation
            open_page.wake.set()

    def listen(self, page: str, owner: str, conversation: str) -> OpenPage:
        """A page begins to listen. conversation: what it showed when it asked to."""
        shown = self._shown.get(page, ("", ""))
        self.pages[page] = OpenPage(owner, shown[1] if shown[0] == owner else conversation)
        return self.pages[page]

    def leave(self, page: str, open_page: OpenPage) -> None:
        """A page listens no more. What nobody looks at is forgotten; a page that comes back asks for it anew."""
        if self.pages.get(page) is open_page:
            del self.pages[page]
        shown = {one.conversation for one in self.pages.values()}
        owners = {one.owner for one in self.pages.values()}
        self._revisions = {one: revision for one, revision in self._revisions.items() if one in shown}
        self._list_numbers = {owner: number for owner, number in self._list_numbers.items() if owner in owners}

    def revision(self, conversation: str) -> int | None:
        return self._revisions.get(conversation)

    def list_number(self, owner: str) -> int:
        """Grows with every change of an owner's list, as long as one of their pages listens."""
        return self._list_numbers.get(owner, 0)

    async def tell(self, owned: OwnedConversations, conversation: str) -> None:
        """A conversation was changed: tell the pages of its owner."""
        theirs = [page for page in self.pages.values() if page.owner == owned.owner]
        if any(page.conversation == conversation for page in theirs):
            await self.look_up(owned, conversation)
        if theirs:
            self._list_numbers[owned.owner] = self.list_number(owned.owner) + 1
        for page in theirs:
            page.wake.set()

    async def look_up(self, owned: OwnedConversations, conversation: str) -> bool:
        """Learn a conversation's revision. Returns whether the owner has it."""
        listed = await self.in_thread(_revision, owned, conversation)
        if listed is not None:
            self._revisions[conversation] = listed
        return listed is not None

    # -- changes

    async def ask(
        self,
        owned: OwnedConversations,
        conversation: str,
        turns: Sequence[Turn],
        request: Request,
    ) -> AnswerRun:
        """Add turns, of which the last is the answer to be written, and begin to write it.

        An answer of this conversation that is still being written is stopped. Raises ModelNotFound, and then nothing
        was stopped.
        """
        await self.in_thread(owned.get, conversation)
        await self.answers.stop(conversation)
        await self.in_thread(owned.add, conversation, turns, turns[-1].settings)
        return await self._begin(owned, conversation, turns[-1], request)

    async def go_on(self, owned: OwnedConversations, conversation: str, answer: Turn, request: Request) -> AnswerRun:
        """Go on to write an answer that had ended. answer: as far as it is written. Raises ModelNotFound."""
        await self.in_thread(owned.get, conversation)
        await self.answers.stop(conversation)
        await self.in_thread(owned.write_on, conversation, answer)
        return await self._begin(owned, conversation, answer, request)

    async def _begin(self, owned: OwnedConversations, conversation: str, answer: Turn, request: Request) -> AnswerRun:
        while self.answers.get(conversation) is not None:  # asked by another page meanwhile
            await self.answers.stop(conversation)

        async def save(turn: Turn) -> None:
            await self.in_thread(owned.write, turn)

        def end(run: AnswerRun) -> None:
            self.answers.run_in_background(self._ended(owned, conversation, run))

        run = AnswerRun(self._engine, request, answer, save)
        self.answers.add(conversation, run, end)
        await self.tell(owned, conversation)
        return run

    async def _ended(self, owned: OwnedConversations, conversation: str, run: AnswerRun) -> None:
        """An answer is whole. One that failed for a medium is told with that medium marked."""
        if run.error is not None:
            await self.in_thread(mark_broken, owned, conversation, run.turn, run.error)
        await self.tell(owned, conversation)

    async def delete(self, owned: OwnedConversations, conversation: str) -> None:
        """Delete a conversation; `restore` has it back for a minute. Its answer is stopped."""
        await self.in_thread(owned.get, conversation)
        await self.answers.stop(conversation)
        await self.in_thread(owned.delete, conversation)
        await self.tell(owned, conversation)
        asyncio.get_running_loop().call_later(UNDO_S + 1, self._clear_out_later)

    async def restore(self, owned: OwnedConversations, conversation: str) -> None:
        await self.in_thread(owned.restore, conversation)
        await self.tell(owned, conversation)

    def _clear_out_later(self) -> None:
        self.answers.run_in_background(self.in_thread(self.store.clear_out, time.time()))


def _revision(owned: OwnedConversations, conversation: str) -> int | None:
    rows = owned.store.database.read(
        "SELECT revision FROM conversation WHERE id = ? AND owner = ?", (conversation, owned.owner)
    )
    return int(rows[0]["revision"]) if rows else None
