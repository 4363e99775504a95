"""The file of conversations: what is put in comes out, after a kill, beside other writers, on a full disk."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import ModelNotFound
from engine.types import Description, Done, FeatureUse, MediaReceipt, Timing, Usage
from tests.test_layout import ROOT
from workbench.conversations import schema
from workbench.conversations import store as module
from workbench.conversations.database import Database
from workbench.conversations.owned import OwnedConversations
from workbench.conversations.store import FILE_NAME, UNDO_S, UNUSED_S, ConversationStore
from workbench.conversations.types import Attachment, Draft, Turn

RECEIPT = MediaReceipt("image", 10, (4, 5), (28, 28), 9, "a" * 64, frames=((0, 0.5),), features=FeatureUse(1, 2))
DESCRIBED = Description("image", "a.png", "ab", "It is red.", "eyes", 20, 4, 2, 0.5, kept=True)
DONE = Done(
    "stop", Usage(5, 3, 2), Timing(ttft_ms=10.5, completion_tokens=3), media=(RECEIPT,), descriptions=(DESCRIBED,)
)


class Kept:
    """A store in a folder, opened again at will."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = ConversationStore(folder / "data", folder / "served")

    def again(self) -> ConversationStore:
        self.store.close()
        self.store = ConversationStore(self.folder / "data", self.folder / "served")
        return self.store

    def of(self, owner: str = "me") -> OwnedConversations:
        return OwnedConversations(self.store, owner)

    @property
    def file(self) -> Path:
        return self.folder / "data" / FILE_NAME

    def medium(self, words: bytes = b"picture", name: str = "cat.png") -> Attachment:
        path = self.folder / name
        path.write_bytes(words)
        return self.store.media.add(str(path), "image")


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def ask(owned: OwnedConversations, conversation: str, number: int, parent: str | None, text: str = "") -> str:
    """A question and its answer; the id of the answer."""
    question = Turn(f"{conversation}q{number}", "user", parent, text or f"question {number}")
    answer = Turn(f"{conversation}a{number}", "assistant", question.id, f"answer {number}")
    owned.add(conversation, (question, answer))
    return answer.id


def test_what_is_put_in_comes_out_after_a_restart(kept):
    mine, medium = kept.of(), kept.medium()
    made = mine.create(settings={"temperature": "0"})
    sent = Turn("q", "user", None, "  What is\n this? ", attachments=(medium,))
    answer = Turn("a", "assistant", "q", "A cat.", "hm", done=DONE, settings={"fps": "2"})
    mine.add(made.id, (sent, answer), {"temperature": "1"})
    kept.again()
    question, reply = kept.of().path(made.id)
    assert (question.text, question.attachments) == (sent.text, (medium,))
    assert (reply.text, reply.reasoning, reply.done, reply.settings) == ("A cat.", "hm", DONE, {"fps": "2"})
    listed = kept.of().get(made.id)
    assert (listed.title, listed.settings, listed.head) == ("What is", {"temperature": "1"}, "a")
    assert kept.store.media.read(medium.sha256) == b"picture"
    assert Path(kept.store.media.path(medium)).read_bytes() == b"picture"


def test_owners_do_not_see_each_other(kept):
    mine, other = kept.of("me"), kept.of("other")
    made = mine.create("secret")
    ask(mine, made.id, 1, None)
    assert other.listed() == []
    for call in (other.get, other.path, other.delete, lambda c: other.rename(c, "x"), lambda c: ask(other, c, 2, None)):
        with pytest.raises(ModelNotFound, match="not here"):
            call(made.id)
    foreign = other.create("mine")
    with pytest.raises(ModelNotFound, match="not in this conversation"):
        other.turn(foreign.id, f"{made.id}a1")


def test_branches_keep_what_was_said(kept):
    """Edit and retry make siblings; the arrows lead to the newest end of each branch."""
    mine = kept.of()
    made = mine.create()
    first = ask(mine, made.id, 1, None)
    ask(mine, made.id, 2, first)
    retried = Turn("again", "assistant", f"{made.id}q1", "another answer")
    mine.add(made.id, (retried,))
    path = mine.path(made.id)
    assert [turn.text for turn in path] == ["question 1", "another answer"]
    assert (path[1].place, path[1].num_siblings) == (2, 2)
    assert mine.siblings(made.id, "again") == [first, "again"]
    mine.select(made.id, first)
    path = mine.path(made.id)
    assert [turn.text for turn in path] == ["question 1", "answer 1", "question 2", "answer 2"]
    assert [(turn.place, turn.num_siblings) for turn in path] == [(1, 1), (1, 2), (1, 1), (1, 1)]
    mine.add(made.id, (Turn("edited", "user", None, "question one"),))
    assert [(turn.text, turn.num_siblings) for turn in mine.path(made.id)] == [("question one", 2)]


def test_the_same_turn_is_added_once(kept):
    """A page asks again where the reply was lost on the way."""
    mine = kept.of()
    made = mine.create()
    for _ in range(2):
        ask(mine, made.id, 1, None)
    assert len(mine.path(made.id)) == 2 and mine.path(made.id)[0].num_siblings == 1


def test_rename_pin_delete_and_undo(kept):
    mine = kept.of()
    old, new = mine.create("old"), mine.create("new")
    assert [one.title for one in mine.listed()] == ["new", "old"]
    mine.pin(old.id, True)
    mine.rename(new.id, "  a   better\nname ")
    assert [one.title for one in mine.listed()] == ["old", "a better name"]
    mine.delete(old.id)
    assert [one.id for one in mine.listed()] == [new.id]
    mine.restore(old.id)
    assert [one.id for one in mine.listed()] == [old.id, new.id]
    mine.delete(old.id)
    kept.store.clear_out(time.time() + UNDO_S + 1)
    with pytest.raises(ModelNotFound):
        mine.restore(old.id)


def test_media_live_as_long_as_something_refers_to_them(kept):
    mine, medium = kept.of(), kept.medium()
    same = kept.medium(name="other.png")
    assert same.sha256 == medium.sha256 and kept.store.media_bytes() == 0
    one, two = mine.create(), mine.create()
    mine.add(one.id, (Turn("1", "user", attachments=(medium,)),))
    mine.add(two.id, (Turn("2", "user", attachments=(same,)),))
    assert kept.store.media_bytes() == len(b"picture")
    later_s = time.time() + max(UNDO_S, UNUSED_S) + 1
    mine.delete(one.id)
    kept.store.clear_out(later_s)
    assert kept.store.media.read(medium.sha256) == b"picture"
    mine.delete(two.id)
    kept.store.clear_out(later_s)
    assert kept.store.media.read(medium.sha256) is None and kept.store.media_bytes() == 0


def test_a_draft_holds_its_media_until_it_is_sent(kept):
    mine, medium = kept.of(), kept.medium()
    made = mine.create()
    mine.keep_draft(made.id, Draft("half a", (medium,)), {"seed": "3"})
    kept.again()
    mine = kept.of()
    kept.store.clear_out(time.time() + UNUSED_S + 1)
    assert mine.draft(made.id) == Draft("half a", (medium,)) and mine.get(made.id).settings == {"seed": "3"}
    assert kept.store.media.read(medium.sha256)
    ask(mine, made.id, 1, None)
    assert mine.draft(made.id) == Draft()
    kept.store.clear_out(time.time() + UNUSED_S + 1)
    assert kept.store.media.read(medium.sha256) is None


def test_visitors_do_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_VISITOR_CONVERSATIONS", 3)
    store = ConversationStore(None, tmp_path)
    mine = OwnedConversations(store, "operator")
    mine.create("mine")
    visitors = [OwnedConversations(store, f"visitor/{number}") for number in range(5)]
    for visitor in visitors:
        visitor.create("theirs")
    assert [len(visitor.listed()) for visitor in visitors] == [0, 0, 1, 1, 1]
    store.drop_visitors(time.time() + module.VISITOR_S + 1)
    assert [len(visitor.listed()) for visitor in visitors] == [0] * 5
    assert len(mine.listed()) == 1


def test_where_an_owner_was(kept):
    mine = kept.of()
    assert mine.last_open() == ""
    mine.set_last_open("abc")
    mine.keep_draft("", Draft("for a new one"))
    kept.again()
    assert (kept.of().last_open(), kept.of().draft("").text) == ("abc", "for a new one")
    assert (kept.of("other").last_open(), kept.of("other").draft("")) == ("", Draft())


WRITER = """
import itertools, sys
from dataclasses import replace
from pathlib import Path
from workbench.conversations.owned import OwnedConversations
from workbench.conversations.store import ConversationStore
from workbench.conversations.types import Turn
folder = Path(sys.argv[1])
mine = OwnedConversations(ConversationStore(folder / "data", folder / "served"), "me")
made = mine.create("killed")
mine.add(made.id, (Turn("q", "user", None, "go"), Turn("a", "assistant", "q", state="writing")))
for number in itertools.count(1):
    mine.write(Turn("a", "assistant", "q", "word " * number, state="writing"))
    print(number, flush=True)
"""


@pytest.mark.parametrize("seed", range(5))
def test_a_killed_server_loses_nothing_that_was_written(kept, tmp_path, seed):
    """kill -9 at a random moment: the file is whole, and the answer is there up to the last save that returned."""
    kept.store.close()
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for _ in range(random.Random(seed).randint(1, 200)):
        last = int(child.stdout.readline())
    time.sleep(random.Random(seed).random() / 50)
    os.kill(child.pid, signal.SIGKILL)
    last = int((child.stdout.read().splitlines() or [last])[-1] or last)
    child.wait()
    assert not kept.again().problem
    (made,) = kept.of().listed()
    answer = kept.of().path(made.id)[-1]
    assert answer.state == "cut_off"
    assert len(answer.text.split()) >= last
    assert kept.store.database.read("PRAGMA integrity_check")[0][0] == "ok"


def test_two_servers_write_to_one_file(kept):
    """Threads of this one and a second connection, as another process has it."""
    other = ConversationStore(kept.folder / "data", kept.folder / "served")
    made = {store: OwnedConversations(store, "me").create("shared").id for store in (kept.store, other)}
    errors: list[Exception] = []

    def write(store: ConversationStore, number: int) -> None:
        try:
            mine = OwnedConversations(store, "me")
            for turn in range(20):
                mine.add(made[store], (Turn(f"{id(store)}-{number}-{turn}", "user", None, "words"),))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(s, n)) for s in made for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    assert errors == []
    assert kept.store.database.read("SELECT count(*) FROM turn")[0][0] == 120


@pytest.mark.parametrize("damage", ["overwritten", "cut", "no database"])
def test_a_damaged_file_is_moved_aside_and_said(kept, damage):
    mine, medium = kept.of(), kept.medium()
    made = mine.create()
    for number in range(40):
        mine.add(made.id, (Turn(f"t{number}", "user", None, "words " * 200, attachments=(medium,)),))
    kept.store.close()
    whole = kept.file.read_bytes()
    half = len(whole) // 2
    kept.file.write_bytes(
        {"overwritten": whole[:4096] + b"\x5a" * (len(whole) - 4096), "cut": whole[:half], "no database": b"words"}[
            damage
        ]
    )
    kept.again()
    assert "damaged" in kept.store.problem
    assert kept.of().listed() == []
    (aside,) = kept.file.parent.glob("conversations-damaged-*.db")
    assert aside.name in kept.store.problem
    assert list(kept.file.parent.glob(f"media-damaged-*/{medium.sha256[:2]}/{medium.sha256}")), "its media are kept"
    ask(kept.of(), kept.of().create().id, 1, None)
    assert kept.again().problem == "" and len(kept.of().listed()) == 1


def test_a_full_disk_is_said_and_the_chat_goes_on(kept):
    """SQLite itself refuses: its file may have no further page."""
    mine = kept.of()
    made = mine.create("before")
    ask(mine, made.id, 1, None)
    pages = kept.store.database.read("PRAGMA page_count")[0][0]
    kept.store.database.read(f"PRAGMA max_page_count = {pages}")
    ask(mine, made.id, 2, f"{made.id}a1", text="long " * 20_000)
    assert "full" in kept.store.problem
    assert not kept.store.database.on_disk
    assert len(mine.path(made.id)) == 4, "in memory all of it is there"
    kept.again()
    assert [turn.text for turn in kept.of().path(made.id)] == ["question 1", "answer 1"], "on disk all before it is"


def test_a_folder_that_cannot_be_written_to_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    store = ConversationStore(tmp_path / "file" / "data", tmp_path / "served")
    assert "cannot be kept" in store.problem
    mine = OwnedConversations(store, "me")
    ask(mine, mine.create().id, 1, None)
    assert len(mine.listed()) == 1


def test_a_file_of_a_later_version_is_left_alone(kept):
    kept.of().create("old")
    kept.store.close()
    with sqlite3.connect(kept.file) as connection:
        connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    before = kept.file.read_bytes()
    kept.again()
    assert "newer version" in kept.store.problem and kept.of().listed() == []
    kept.of().create("in memory")
    kept.store.close()
    assert kept.file.read_bytes() == before


def test_a_file_of_each_earlier_version_is_brought_up(tmp_path, monkeypatch):
    """An empty file is version 0; a step that is added later is made in a file that has content."""
    file = tmp_path / "one.db"
    database = Database(file)
    database.write(
        lambda c: c.execute("INSERT INTO conversation (id, owner, created_s, changed_s) VALUES (1, 1, 1, 1)")
    )
    database.close()
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, "ALTER TABLE conversation ADD COLUMN folder TEXT;"))
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    database = Database(file)
    assert database.read("SELECT id, folder FROM conversation")[0]["folder"] is None
    assert database.read("PRAGMA user_version")[0][0] == schema.VERSION


def test_the_file_is_private(kept):
    assert kept.file.stat().st_mode & 0o077 == 0
    assert kept.file.parent.stat().st_mode & 0o077 == 0


def test_an_answer_that_is_continued_is_one_message_also_after_a_kill(kept):
    mine = kept.of()
    chat = mine.create()
    cut = Turn("a", "assistant", "q", "One two", done=replace(DONE, finish_reason="length"))
    mine.add(chat.id, [Turn("q", "user", text="Count."), cut])
    longer = replace(cut, state="writing", done=None, earlier=cut.ended_parts)
    mine.write_on(chat.id, longer)
    assert mine.path(chat.id)[-1].earlier == cut.ended_parts
    mine.write(replace(longer, text="One two three", num_tokens=1))
    assert mine.path(chat.id)[-1].text == "One two three"
    kept.again()  # as after a kill: nobody wrote its end
    after = kept.of().path(chat.id)
    assert [(turn.id, turn.text, turn.state) for turn in after] == [
        ("q", "Count.", "done"),
        ("a", "One two three", "cut_off"),
    ]
    assert [part.num_tokens for part in after[-1].ended_parts] == [DONE.usage.completion_tokens, 1]
    assert after[-1].can_continue


def test_a_draft_stays_when_an_answer_is_asked_for_again(kept):
    mine = kept.of()
    chat = mine.create()
    mine.add(chat.id, [Turn("q", "user", text="Count."), Turn("a", "assistant", "q", "One")])
    mine.keep_draft(chat.id, Draft("and then"))
    mine.add(chat.id, [Turn("b", "assistant", "q", state="writing")])
    assert mine.draft(chat.id) == Draft("and then")
    mine.add(chat.id, [Turn("r", "user", "b", "and then")])
    assert mine.draft(chat.id) == Draft()


def test_the_id_of_a_foreign_turn_cannot_be_taken(kept):
    mine, other = kept.of(), kept.of("other")
    made, theirs = mine.create(), other.create()
    answer = ask(mine, made.id, 1, None)
    with pytest.raises(ModelNotFound):
        other.add(theirs.id, (Turn(answer, "assistant", None, "mine now"),))
    assert other.get(theirs.id).head is None and mine.turn(made.id, answer).text == "answer 1"


def test_visitors_drafts_do_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_VISITOR_DRAFTS", 3)
    monkeypatch.setattr(module, "MAX_VISITOR_CONVERSATIONS", 4)
    store = ConversationStore(None, tmp_path)
    visitors = [OwnedConversations(store, f"visitor/{number}") for number in range(6)]
    OwnedConversations(store, "operator").keep_draft("", Draft("mine"))
    for visitor in visitors:
        visitor.set_last_open("")
        visitor.keep_draft("", Draft("theirs"))
    assert [visitor.draft("").text for visitor in visitors] == ["", "", "", "theirs", "theirs", "theirs"]
    assert OwnedConversations(store, "operator").draft("").text == "mine"
    assert store.database.read("SELECT count(*) FROM last_open")[0][0] == 4
