"""One prompt over sixty drawings, by a model that sees: right, the same however many run at once, and reused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.batch_run.journal import Journal
from engine.batch_run.output import caption_path, check_captions, table, whole_records, write_captions, write_output
from engine.batch_run.row_warnings import CUT_OFF, NOT_JSON
from engine.batch_run.rows import BatchRow, read_inputs
from engine.batch_run.runner import Runner, WorkItem
from engine.batch_run.task import BatchTask, RowAsker, check_task
from engine.config import MediaLimits
from engine.errors import BadRequest, Conflict
from engine.types import Option, Part, Sampling, TypedQuestion
from tests import pdfs, pictures

LEAST_RIGHT = 50
"""Colours of the 60 drawings that the demo model names; by chance it would be 12."""

COLOUR = BatchTask("What color is the shape?", max_tokens=16)
SAME_EVERYWHERE = ("answer", "finish_reason", "prompt_tokens", "completion_tokens", "error")


async def run(engine: Any, task: BatchTask, rows: tuple[BatchRow, ...], path: Path, at_once: int = 4) -> list[Any]:
    """The records of a run, as they are written out."""
    await engine.ready()
    journal = Journal(path, task.settings({}))
    asker, by_key = RowAsker(engine, task), {row.key: row for row in rows}
    items = [WorkItem(row.key, row.stamp, row.medium) for row in rows]
    await Runner(journal, at_once).run(items, lambda item: asker.ask(by_key[item.key]))
    records = list(whole_records(rows, journal))
    journal.close()
    return records


def of(folder: Path) -> tuple[BatchRow, ...]:
    return read_inputs([folder], MediaLimits()).rows


def same(records: list[Any]) -> list[Any]:
    """Of each record what may not depend on what ran beside it."""
    return [{name: record.get(name) for name in ("key", *SAME_EVERYWHERE)} for record in records]


async def test_answers_do_not_depend_on_how_many_run_at_once(engine_for: Any, drawings: Path, tmp_path: Path) -> None:
    """Drawn with a temperature, too: each row has random numbers of its own."""
    rows = of(drawings)
    drawn = BatchTask("What is it?", sampling=Sampling(temperature=1.5), max_tokens=8)
    for name, task in (("greedy", COLOUR), ("drawn", drawn)):
        runs = []
        for at_once in (1, 4, 16):
            engine = await engine_for("demo", max_num_seqs=at_once)
            runs.append(same(await run(engine, task, rows, tmp_path / f"{name}-{at_once}", at_once)))
        assert runs[0] == runs[1] == runs[2]
        if task is COLOUR:
            right = [record["key"].split("-")[0] in record["answer"] for record in runs[0]]
            assert len(right) == 60 and sum(right) >= LEAST_RIGHT, runs[0]


async def test_a_row_that_gets_another_ones_picture_is_seen(
    demo_engine: Any, drawings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin of the test before: where every row shows one picture, hardly any answer is right."""
    rows = of(drawings)
    request = RowAsker.request
    monkeypatch.setattr(RowAsker, "request", lambda self, row: request(self, rows[0]))
    records = await run(demo_engine, COLOUR, rows[::5], tmp_path / "journal")
    right = [record["key"].split("-")[0] in record["answer"] for record in records]
    with pytest.raises(AssertionError, match="not right"):
        assert sum(right) >= LEAST_RIGHT / 60 * len(right), "not right"


async def test_a_second_prompt_reuses_the_pictures(engine_for: Any, drawings: Path, tmp_path: Path) -> None:
    engine = await engine_for("demo", max_num_seqs=8)
    rows = of(drawings)[:20]
    first = await run(engine, BatchTask("What shape is it?", max_tokens=8), rows, tmp_path / "first", 8)
    second = await run(engine, BatchTask("Is there a red square?", max_tokens=8), rows, tmp_path / "second", 8)
    for before, after in zip(first, second, strict=True):
        (seen,), (again,) = before["media"], after["media"]
        assert again["sha256"] == seen["sha256"] and again["tokens"] == seen["tokens"] > 0
        reused = again["features"] is not None and again["features"]["misses"] == 0
        assert reused and after["cached_tokens"] >= again["tokens"], after


async def test_several_lines_about_one_picture_compute_it_once(engine_for: Any, drawings: Path, tmp_path: Path) -> None:
    """However many run at once: the others wait for the first one of a picture."""
    engine = await engine_for("demo", max_num_seqs=8)
    names = [row.name for row in of(drawings)[20:24]]
    table_path = drawings / "questions.csv"
    asked = ("What color is the shape?", "What shape is it?", "Is it red?", "Is there a circle?")
    lines = [f"{name},{question}" for name in names for question in asked]
    table_path.write_text("\n".join(["image,question", *lines]))
    try:
        rows = read_inputs([table_path], MediaLimits()).rows
        records = await run(engine, BatchTask("{question}", max_tokens=8), rows, tmp_path / "journal", 8)
    finally:
        table_path.unlink()
    computed = [record for record in records if record["cached_tokens"] < record["media"][0]["tokens"]]
    assert len(records) == 16 and len({record["file"] for record in computed}) == len(computed) <= 4


async def test_json_by_schema_and_its_columns(demo_engine: Any, drawings: Path, tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"red": {"type": "boolean"}}, "required": ["red"]}
    task = BatchTask("Is it red?", schema=schema, max_tokens=40)
    records = await run(demo_engine, task, of(drawings)[:6], tmp_path / "a")
    assert all(record["valid"] and isinstance(record["value"]["red"], bool) for record in records)
    assert table(records)["answer.red"].isin(["true", "false"]).all()
    short = await run(demo_engine, replace(task, max_tokens=2), of(drawings)[:2], tmp_path / "b")
    assert [record["warnings"] for record in short] == [[CUT_OFF, NOT_JSON]] * 2
    with pytest.raises(BadRequest, match=r'--schema: at /properties/a/items: Unimplemented keys: \["not"\]'):
        wrong = {"type": "object", "properties": {"a": {"type": "array", "items": {"not": {}}}}}
        grammar = BatchTask("?", schema=wrong, marks="--").grammar
        assert grammar
        await demo_engine.check_grammar(grammar)


async def test_decisions(demo_engine: Any, drawings: Path, tmp_path: Path) -> None:
    options = tuple(map(Option, ("red", "green", "blue")))
    question = TypedQuestion("choice", (Part("text", text="What color is the shape?"),), options)
    rows = tuple(row for row in of(drawings) if row.name.startswith(("red-circle", "blue-circle")))
    records = await run(demo_engine, BatchTask(questions=(question,)), rows, tmp_path / "journal")
    assert len(records) == 8
    for record in records:
        (decision,) = record["decisions"]
        assert decision["answer"] == record["file"].split("-")[0]
        assert sum(decision["probabilities"].values()) == pytest.approx(1)
    assert set(table(records)["What color is the shape?"]) == {"red", "blue"}


async def test_pages_and_what_cannot_be_read(demo_engine: Any, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "two.pdf").write_bytes(pdfs.pdf([(1, 0, 0), (0, 0, 1)]))
    (folder / "damaged.png").write_bytes(pictures.encode(pictures.picture())[:200])
    (folder / "empty.png").write_bytes(b"")
    records = {r["key"]: r for r in await run(demo_engine, COLOUR, of(folder), tmp_path / "journal")}
    assert "red" in records["two.pdf#1"]["answer"] and "blue" in records["two.pdf#2"]["answer"]
    assert records["two.pdf#1"]["warnings"] == [] and records["two.pdf#2"]["page"] == 2
    assert "damaged" in records["damaged.png"]["error"]["message"]
    assert records["empty.png"]["error"]["message"] == "the file is empty"
    frame = table(list(records.values()))
    assert list(frame["key"]) == list(records) and frame["error"].notna().sum() == 2


async def test_what_would_fail_in_every_row_is_refused(demo_engine: Any) -> None:
    picture = BatchRow("a", "a", Part("image", path="a.png"))
    page = BatchRow("b", "b", Part("document", path="b.pdf"), page=1)
    seeing = await demo_engine.ready()
    check_task(BatchTask("{name} {page}"), (picture, page), seeing, describes=False)
    with pytest.raises(BadRequest, match=r"there is no placeholder \{page\}"):
        check_task(BatchTask("{page}"), (picture,), seeing, describes=False)
    blind = replace(seeing, vision=False, video=False)
    for row, word in ((picture, "picture"), (page, "page")):
        with pytest.raises(BadRequest, match=f"takes no {word}: no row could be answered"):
            check_task(BatchTask("?"), (row,), blind, describes=False)
    check_task(BatchTask("?"), (picture,), blind, describes=True)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
async def test_outputs_are_read_back(demo_engine: Any, drawings: Path, tmp_path: Path, suffix: str) -> None:
    import pandas as pd

    records = await run(demo_engine, COLOUR, of(drawings)[:4], tmp_path / "journal")
    path = tmp_path / f"out{suffix}"
    write_output(path, records)
    if suffix == ".jsonl":
        assert [json.loads(line) for line in path.read_text().splitlines()] == records
        return
    frame = pd.read_csv(path) if suffix == ".csv" else pd.read_parquet(path)
    assert list(frame["answer"]) == [record["answer"] for record in records]
    assert list(frame["media_tokens"]) == [record["media"][0]["tokens"] for record in records]


async def test_captions_lie_beside_their_pictures(demo_engine: Any, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for colour in ("red", "blue"):
        pictures.picture(colour).save(folder / f"{colour}.png")
    rows = of(folder)
    await run(demo_engine, COLOUR, rows, tmp_path / "journal")
    journal = Journal(tmp_path / "journal", COLOUR.settings({}))
    check_captions(rows, journal, overwrite=False)
    assert write_captions(rows, journal) == 2 and "red" in (folder / "red.txt").read_text()
    check_captions(rows, journal, overwrite=False)  # they are this run's own
    (folder / "red.txt").write_text("by hand")
    with pytest.raises(Conflict, match="is there already"):
        check_captions(rows, journal, overwrite=False)
    check_captions(rows, journal, overwrite=True)
    (folder / "red.jpg").write_bytes((folder / "red.png").read_bytes())
    with pytest.raises(BadRequest, match="would have one caption"):
        check_captions(of(folder), journal, overwrite=True)
    assert caption_path(BatchRow("p", part=Part("document", path="a.pdf"), page=1)) is None
    journal.close()
