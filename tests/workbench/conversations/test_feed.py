"""What a page is told: of its own conversations only, and that they are not kept once the disk takes no more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.config import ServerConfig
from engine.errors import ModelNotFound
from engine.types import Json, Request
from tests.workbench.conversations.test_answers import DONE, TOKEN, Script
from workbench.conversations.feed import Voices, feed
from workbench.conversations.library import ConversationLibrary
from workbench.conversations.owned import OwnedConversations
from workbench.conversations.types import Draft, Turn

ANNA, BOB = ("anna", ""), ("bob", "")
KEYS = (("anna", "sk-anna-0123456789"), ("bob", "sk-bob-0123456789"))
VOICES = Voices(lambda manages: {"state": "ready"}, lambda: lambda turn, waits_for: [{"text": turn.text}], "1")


@pytest.fixture
def library(tmp_path: Path) -> ConversationLibrary:
    """Two people with a key each, and an engine whose answers take their time."""
    config = ServerConfig(api_keys=KEYS, data_folder=tmp_path / "data")
    return ConversationLibrary(Script(*[TOKEN] * 10_000, DONE, pause_s=0.005), config, tmp_path / "served")


async def begin(library: ConversationLibrary, owned: OwnedConversations, number: int = 1) -> str:
    """A conversation whose answer is being written."""
    made = owned.create("secret")
    await ask(library, owned, made.id, number)
    return made.id


async def ask(library: ConversationLibrary, owned: OwnedConversations, conversation: str, number: int) -> Any:
    question = Turn(f"q{number}", "user", None, "go")
    answer = Turn(f"a{number}", "assistant", question.id, state="writing")
    return await library.ask(owned, conversation, [question, answer], Request(id=answer.id))


async def heard(events: AsyncIterator[str], kind: str) -> Json:
    """The next event of a kind."""
    async with asyncio.timeout(30):
        async for line in events:
            value: Json = json.loads(line.removeprefix("data: "))
            if value["kind"] == kind:
                return value
    raise AssertionError(kind)


async def test_nobody_hears_the_answer_of_another(library):
    anna, bob = library.owned(*ANNA), library.owned(*BOB)
    conversation = await begin(library, anna)
    mine = feed(library, anna, "anna's page", conversation, VOICES)
    foreign = feed(library, bob, "bob's page", conversation, VOICES)
    assert (await heard(mine, "answer"))["conversation"] == conversation
    kinds = []
    for _ in range(3):  # whoever sees the address learns nothing by it, however long they listen
        async for line in foreign:
            kinds.append(json.loads(line.removeprefix("data: "))["kind"])
            if kinds[-1] == "beat":
                break
    assert set(kinds) == {"hello", "status", "kept", "list", "beat"}
    assert library.pages["bob's page"].conversation == ""
    await library.answers.stop(conversation)
    await mine.aclose()
    await foreign.aclose()
    assert library.pages == {} and library.revision(conversation) is None, "nothing is kept of pages that are gone"


async def test_nobody_ends_the_answer_of_another(library):
    anna, bob = library.owned(*ANNA), library.owned(*BOB)
    conversation = await begin(library, anna)
    for attempt in (ask(library, bob, conversation, 2), library.delete(bob, conversation)):
        with pytest.raises(ModelNotFound):
            await attempt
    assert library.answers.get(conversation) is not None
    await library.answers.stop(conversation)


async def test_two_pages_that_ask_at_once_leave_one_answer(library):
    anna = library.owned(*ANNA)
    made = anna.create()
    runs = await asyncio.gather(*(ask(library, anna, made.id, number) for number in range(4)))
    writing = [run for run in runs if not run.ended.is_set()]
    assert writing == [library.answers.get(made.id)]
    await library.answers.stop(made.id)


async def test_an_open_page_is_told_that_nothing_is_kept_any_more(library):
    events = feed(library, library.owned(*ANNA), "page", "", VOICES)
    assert (await heard(events, "kept"))["kept"] == "disk"
    pages = library.store.database.read("PRAGMA page_count")[0][0]
    library.store.database.read(f"PRAGMA max_page_count = {pages}")
    library.owned(*ANNA).keep_draft("", Draft("long " * 20_000))
    told = await heard(events, "kept")
    assert told["kept"] == "problem" and "not kept any more" in told["problem"] and "full" in told["problem"]
    await events.aclose()
