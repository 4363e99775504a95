"""The runner and its journal, without an engine: order, room, failures, and what a kill may lose."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from engine.batch_run.journal import Journal, settings_digest
from engine.batch_run.runner import Runner, WorkItem
from engine.errors import BadMedia, BadRequest, Busy, Conflict, Internal, Unavailable

SETTINGS = {"prompt": "What is it?"}


def journal(folder: Path) -> Journal:
    return Journal(folder / "a.journal", SETTINGS)


async def answer(item: WorkItem) -> Any:
    return {"answer": item.key}


async def test_a_journal_is_read_again(tmp_path: Path) -> None:
    first = journal(tmp_path)
    await Runner(first, 2).run([WorkItem("a", "1"), WorkItem("b")], answer)
    first.close()
    again = journal(tmp_path)
    assert again.has_answer("a", "1") and not again.has_answer("a", "2") and not again.has_answer("c", "")
    assert again.record("a") == {"key": "a", "stamp": "1", "answer": "a"} and again.record("c") is None
    again.add({"key": "a", "stamp": "2", "answer": "ü"})
    assert (again.record("a") or {})["answer"] == "ü"
    again.close()


@pytest.mark.parametrize("torn", [b'{"key": "c", "answ', b'{"key": "c"}', b"\xff"])
def test_a_torn_last_line_is_cut_off(tmp_path: Path, torn: bytes) -> None:
    first = journal(tmp_path)
    first.add({"key": "a", "stamp": ""})
    first.close()
    with first.path.open("ab") as file:
        file.write(torn)
    again = journal(tmp_path)
    assert list(again.entries) == ["a"]
    again.add({"key": "d", "stamp": ""})
    again.close()
    assert [json.loads(line).get("key") for line in first.path.read_text().splitlines()] == [None, "a", "d"]


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.journal").write_text("colour,shape\nred,circle\n")
    with pytest.raises(BadRequest, match="not a journal of this run"):
        journal(tmp_path)
    with pytest.raises(Unavailable, match="cannot be written"):
        Journal(tmp_path / "nowhere" / "a.journal", SETTINGS)
    own = Journal(tmp_path / "b.journal", SETTINGS)
    with pytest.raises(Conflict, match="written by another run"):
        Journal(tmp_path / "b.journal", SETTINGS)
    own.close()
    with pytest.raises(BadRequest, match="not a journal of this run"):
        Journal(tmp_path / "b.journal", {"prompt": "And this?"})
    assert settings_digest(SETTINGS) != settings_digest({"prompt": "And this?"})


async def test_the_first_of_a_group_goes_before_the_others_of_it(tmp_path: Path) -> None:
    """They find what they share computed; and nobody waits for a group that is not their own."""
    begun: list[str] = []
    over: list[str] = []

    async def ask(item: WorkItem) -> Any:
        begun.append(item.key)
        assert item.key.endswith("0") or f"{item.group}0" in over, "its group is not there yet"
        await asyncio.sleep(0)
        over.append(item.key)
        return {}

    items = [WorkItem(f"{group}{i}", group=group) for group in "xyz" for i in range(3)]
    run = Runner(journal(tmp_path), 3)
    await run.run(items, ask)
    assert begun[:3] == ["x0", "y0", "z0"] and sorted(over) == sorted(item.key for item in items)
    run.journal.close()


async def test_no_more_are_asked_for_at_once_than_may_be(tmp_path: Path) -> None:
    now = most = 0

    async def ask(item: WorkItem) -> Any:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return {}

    run = Runner(journal(tmp_path), 4)
    await run.run([WorkItem(str(i)) for i in range(50)], ask)
    assert most == 4 and len(run.journal.entries) == 50
    run.journal.close()


async def test_a_pause_ends_what_was_begun_and_begins_nothing(tmp_path: Path) -> None:
    begun: list[str] = []
    may_end = asyncio.Event()

    async def ask(item: WorkItem) -> Any:
        begun.append(item.key)
        await may_end.wait()
        return {}

    run = Runner(journal(tmp_path), 3)
    run.pause()  # nothing runs yet: it says nothing about the next run
    items = [WorkItem(f"{group}{i}", group=group) for group in "xyzw" for i in range(4)]
    task = asyncio.create_task(run.run(items, ask))
    while len(begun) < 3:
        await asyncio.sleep(0)
    run.pause()
    run.pause()
    may_end.set()
    await task
    assert begun == ["x0", "y0", "z0"] and sorted(run.journal.entries) == begun
    await run.run(items, ask)
    assert len(begun) == len(set(begun)) == 16 and len(run.journal.entries) == 16
    run.journal.close()


async def test_who_finds_no_room_waits_and_who_fails_is_asked_again(tmp_path: Path) -> None:
    tries: dict[str, int] = {}

    async def ask(item: WorkItem) -> Any:
        tries[item.key] = tries.get(item.key, 0) + 1
        if item.key == "busy" and tries[item.key] < 4:
            raise Busy("full", retry_after_s=0)
        if item.key == "unlucky" and tries[item.key] < 2:
            raise Internal("it failed")
        if item.key == "broken":
            raise BadMedia("damaged")
        if item.key == "hopeless":
            raise Internal("it failed again")
        return {"answer": "yes"}

    run = Runner(journal(tmp_path), 2)
    items = [WorkItem(key) for key in ("busy", "unlucky", "broken", "hopeless")]
    await run.run(items, ask)
    assert tries == {"busy": 4, "unlucky": 2, "broken": 1, "hopeless": 2}
    assert [run.journal.has_answer(item.key, "") for item in items] == [True, True, False, False]
    assert (run.journal.record("broken") or {})["error"]["message"] == "damaged"
    await run.run(items, ask)
    assert tries == {"busy": 4, "unlucky": 2, "broken": 2, "hopeless": 4}, "only what failed is asked for again"
    run.journal.close()


async def test_an_engine_that_is_gone_ends_the_run(tmp_path: Path) -> None:
    async def ask(item: WorkItem) -> Any:
        if item.key == "5":
            raise Unavailable("The engine was stopped.")
        await asyncio.sleep(0)
        return {}

    run = Runner(journal(tmp_path), 3)
    with pytest.raises(Unavailable, match="stopped"):
        await run.run([WorkItem(str(i)) for i in range(20)], ask)
    assert "5" not in run.journal.entries and 3 <= len(run.journal.entries) < 20
    run.journal.close()


async def test_a_full_disk_ends_the_run_and_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Runner(journal(tmp_path), 1)
    file = run.journal._file
    assert file is not None

    class Full:
        """The file on a disk that takes one more record, and half of the next."""

        num = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(file, name)

        def write(self, data: bytes) -> int:
            self.num += 1
            if self.num > 1:
                file.write(data[: len(data) // 2])
                file.flush()
                raise OSError(28, "No space left on device")
            return file.write(data)

    monkeypatch.setattr(run.journal, "_file", Full())
    with pytest.raises(Unavailable, match="No space left"):
        await run.run([WorkItem(str(i)) for i in range(5)], answer)
    run.journal.close()
    again = journal(tmp_path)
    assert list(again.entries) == ["0"]
    again.close()
