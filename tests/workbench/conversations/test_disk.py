"""A disk that is full or fails under the file of conversations and its media: it is said, and the chat goes on. And no
file stays that nothing refers to.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from pathlib import Path

import pytest

from engine.errors import BadMedia, Unavailable
from tests.workbench.conversations.test_store import Kept
from workbench.conversations import media as media_module
from workbench.conversations.store import UNDO_S, UNUSED_S
from workbench.conversations.types import Turn


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def no_room(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_media_on_a_full_disk_go_beside_it_and_that_is_said(kept, monkeypatch):
    mine = kept.of()
    made = mine.create()
    plain = media_module._place

    def place(source: Path, target: Path) -> None:
        if target.is_relative_to(kept.folder / "data"):
            no_room()
        plain(source, target)

    monkeypatch.setattr(media_module, "_place", place)
    medium = kept.medium()
    mine.add(made.id, (Turn("1", "user", attachments=(medium,)),))
    assert kept.store.media.read(medium.sha256) == b"picture"
    assert Path(kept.store.media.path(medium)).read_bytes() == b"picture"
    assert "No space left" in kept.store.problem and "lost at the end" in kept.store.problem
    mine.delete(made.id)
    kept.store.clear_out(time.time() + UNUSED_S + 1)
    assert kept.store.media.read(medium.sha256) is None


def test_where_no_disk_takes_a_file_its_name_is_said(kept, monkeypatch):
    monkeypatch.setattr(media_module, "_place", no_room)
    with pytest.raises(Unavailable, match=r"cat\.png cannot be stored on the server \(No space left"):
        kept.medium()
    monkeypatch.setattr(media_module.tempfile, "TemporaryDirectory", no_room)
    with pytest.raises(Unavailable, match=r"cat\.png cannot be stored"):
        kept.store.media.add_bytes(b"x", "cat.png", "image")
    with pytest.raises(BadMedia, match=r"gone\.png: it cannot be read \(No such file"):
        kept.store.media.add(str(kept.folder / "gone.png"), "image")


def test_what_is_deleted_is_not_shown_any_more(kept):
    mine, medium = kept.of(), kept.medium()
    made = mine.create()
    mine.add(made.id, (Turn("1", "user", attachments=(medium,)),))
    shown = Path(kept.store.media.path(medium))
    assert shown.read_bytes() == b"picture"
    mine.delete(made.id)
    kept.store.clear_out(time.time() + UNUSED_S + 1)
    assert not shown.exists()


def test_a_file_that_comes_in_again_is_not_deleted_before_it_is_sent(kept):
    mine, medium = kept.of(), kept.medium()
    made = mine.create()
    mine.add(made.id, (Turn("1", "user", attachments=(medium,)),))
    kept.store.database.write(lambda connection: connection.execute("UPDATE medium SET added_s = 0"))
    mine.delete(made.id)
    again = kept.medium(name="again.png")
    kept.store.clear_out(time.time() + UNDO_S + 1)
    other = mine.create()
    mine.add(other.id, (Turn("2", "user", attachments=(again,)),))
    assert kept.store.media.read(again.sha256) == b"picture"


def test_files_that_nothing_knows_are_swept_at_the_start(kept):
    mine, medium = kept.of(), kept.medium()
    mine.add(mine.create().id, (Turn("1", "user", attachments=(medium,)),))
    folder = kept.folder / "data" / "media" / "ab"
    old, new, half = folder / ("ab" * 32), folder / ("ac" * 32), folder / ".half"
    half.mkdir(parents=True)
    for file in (old, new, half / "whole"):
        file.write_bytes(b"of an import that failed")
    before_s = time.time() - UNUSED_S - 10
    for path in (old, half, kept.folder / "data" / "media" / medium.sha256[:2] / medium.sha256):
        os.utime(path, (before_s, before_s))
    kept.again()
    assert sorted(folder.iterdir()) == [new]
    assert kept.store.media.read(medium.sha256) == b"picture"


def test_a_draft_does_not_read_its_files_at_each_pause(kept, monkeypatch):
    medium = kept.medium()
    monkeypatch.setattr(media_module, "_digest", lambda path: pytest.fail(f"{path} was read again"))
    assert kept.store.media.add(str(kept.folder / "cat.png"), "image") == medium


class Broken:
    """A connection to a disk that cannot be read any more."""

    def __init__(self, code: int) -> None:
        self.error = sqlite3.OperationalError("disk I/O error")
        self.error.sqlite_errorcode = code

    def execute(self, *_: object) -> None:
        raise self.error

    backup = execute

    def close(self) -> None:
        pass


def test_a_disk_that_cannot_be_read_is_said_and_the_chat_goes_on(kept):
    kept.of().create("before")
    kept.store.database._connection.close()
    kept.store.database._connection = Broken(sqlite3.SQLITE_IOERR_READ)
    assert kept.of().listed() == []
    assert "not kept any more (disk I/O error)" in kept.store.problem
    assert kept.of().create("after").title == "after" and len(kept.of().listed()) == 1


def test_a_wrong_question_is_not_taken_for_a_full_disk(kept):
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        kept.store.database.write(lambda connection: connection.execute("DELETE FROM missing"))
    with pytest.raises(sqlite3.DataError):
        kept.store.database.read("SELECT zeroblob(2000000000)")
    assert kept.store.database.on_disk and not kept.store.problem
