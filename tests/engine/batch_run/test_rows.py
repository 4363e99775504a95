"""Folders, files, PDFs and tables become rows; what cannot be read is a row with its reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.batch_run.rows import BatchRow, Inputs, read_inputs
from engine.config import MediaLimits
from engine.errors import BadRequest
from tests import pdfs, pictures


def rows(*paths: Path, media_root: Path | None = None) -> Inputs:
    return read_inputs(paths, MediaLimits(media_root=media_root))


def by_key(inputs: Inputs) -> dict[str, BatchRow]:
    return {row.key: row for row in inputs.rows}


@pytest.fixture
def folder(tmp_path: Path, clip_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name in ("b.png", "sub/a.png", ".hidden/c.png"):
        pictures.picture().save(tmp_path / name)
    (tmp_path / "picture without a suffix").write_bytes(pictures.encode(pictures.picture()))
    (tmp_path / "clip.mp4").write_bytes(clip_path.read_bytes())
    (tmp_path / "two.pdf").write_bytes(pdfs.pdf([(1, 0, 0), (0, 1, 0)]))
    (tmp_path / "locked.pdf").write_bytes(pdfs.locked())
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "page.png").write_text("<!doctype html>")
    (tmp_path / "notes.md").write_text("about these")
    return tmp_path


def test_a_folder(folder: Path) -> None:
    inputs = rows(folder)
    found = by_key(inputs)
    assert list(found) == [
        "b.png", "clip.mp4", "empty.jpg", "locked.pdf", "page.png", "picture without a suffix",
        "two.pdf#1", "two.pdf#2", "sub/a.png",
    ]  # fmt: skip
    kinds = {key: row.part.kind for key, row in found.items() if row.part}
    assert kinds["clip.mp4"] == "video" and kinds["sub/a.png"] == "image" and kinds["two.pdf#2"] == "document"
    assert found["two.pdf#2"].page == 2 and found["two.pdf#2"].name == "two.pdf"
    assert "empty" in found["empty.jpg"].error and "password" in found["locked.pdf"].error
    assert "HTML" in found["page.png"].error
    assert [path.name for path in inputs.left_out] == ["notes.md"]


def test_a_file_that_was_changed_has_another_stamp(folder: Path) -> None:
    before = by_key(rows(folder))
    pictures.picture("blue").save(folder / "b.png")
    os.utime(folder / "b.png", ns=(1, 1))
    after = by_key(rows(folder))
    assert [key for key in after if after[key].stamp != before[key].stamp] == ["b.png"]


def test_stamps_say_nothing_of_where_the_folder_lies(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """So that a folder may be moved, with its journal, and nothing is asked again."""
    before = by_key(rows(folder))
    moved = folder.rename(tmp_path_factory.mktemp("elsewhere") / "folder")
    after = by_key(rows(moved))
    assert {key: row.stamp for key, row in after.items()} == {key: row.stamp for key, row in before.items()}
    assert {row.path for row in after.values()} >= {"b.png", "two.pdf"}


def test_two_files_of_one_name(folder: Path) -> None:
    pictures.picture("blue").save(folder / "sub" / "b.png")
    assert [row.key for row in rows(folder / "b.png", folder / "sub" / "b.png").rows] == ["b.png", "b.png (2)"]


def test_a_table(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    pictures.picture().save(outside / "secret.png")
    table = folder / "t.csv"
    table.write_text(
        f"\ufeffQuestion,Image\nWhich?,b.png\nNone?,\nGone?,gone.png\nOut?,{outside}/secret.png\nUp?,../x.png\n"
        "Two?,two.pdf\n"
    )
    found = by_key(rows(table))
    assert list(found) == [f"t.csv:{line}" for line in range(2, 8)]
    assert found["t.csv:2"].columns == {"Question": "Which?", "Image": "b.png"}
    first = found["t.csv:2"].part
    assert first and first.path == str((folder / "b.png").resolve())
    assert found["t.csv:3"].part is None and not found["t.csv:3"].error
    assert found["t.csv:4"].error == "there is no such file"
    assert "neither in the folder of the table" in found["t.csv:5"].error == found["t.csv:6"].error
    assert by_key(rows(table, media_root=outside))["t.csv:5"].part


def test_nothing_to_ask_about(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("nothing")
    for path, words in ((tmp_path, "1 other files are there"), (tmp_path / "gone", "no such file or folder")):
        with pytest.raises(BadRequest, match=words):
            rows(path)
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadRequest, match="not a table that can be read"):
        rows(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("a,a \n1,2\n")
    with pytest.raises(BadRequest, match="two of its columns have one name"):
        rows(tmp_path / "t.csv")
