"""What a run has on disk: names that came from outside stay inside."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import BadRequest, Unavailable
from workbench.batch.folder import KeptRun, RunFolder, clean_path


def test_a_name_stays_inside() -> None:
    assert str(clean_path("photos/a b.png")) == "photos/a b.png"
    assert str(clean_path("../../etc/passwd")) == "etc/passwd"
    assert str(clean_path("/etc/passwd")) == "etc/passwd"
    assert str(clean_path("..\\..\\secret\\.hidden.png")) == "secret/hidden.png"
    assert "\0" not in str(clean_path("a\0b.png"))
    for name in ("", "/", "../..", "/".join("a" * 20)):
        with pytest.raises(BadRequest):
            clean_path(name)


def test_files_of_one_name_are_both_kept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert [folder.add("a.png", data) for data in (b"1", b"22")] == ["a.png", "a (2).png"]
    folder.add("in/a.png", b"333")
    assert (folder.num_files, folder.num_bytes) == (3, 6) and folder.inputs() == [folder.files]
    again = RunFolder(tmp_path / "run")
    assert (again.num_files, again.num_bytes) == (3, 6)
    other = RunFolder(tmp_path / "other")
    other.take_from(again)
    folder.remove()
    assert (other.files / "in" / "a.png").read_bytes() == b"333" and other.num_bytes == 6


def test_tables_are_what_is_asked_about(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.add("photos/list.csv", b"image\na.png\n")
    folder.add("photos/a.png", b"1")
    assert folder.inputs() == [folder.files / "photos" / "list.csv"]


def test_a_run_is_found_again(tmp_path: Path) -> None:
    folder, run = (
        RunFolder(tmp_path / "a"),
        KeptRun("a", "operator", 1.0, "What?", {"prompt": "What?"}, counts={"all": 3}),
    )
    assert folder.load() is None
    folder.save(run)
    assert RunFolder(tmp_path / "a").load() == run
    (tmp_path / "a" / "run.json").write_text("{")
    assert folder.load() is None


def test_pictures_by_their_hash_only(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.keep_picture("a" * 64, b"png")
    (tmp_path / "run.json").write_text("{}")
    assert folder.picture("a" * 64) == b"png" and folder.picture("b" * 64) is None
    assert folder.picture("../run.json") is None


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    folder = RunFolder(tmp_path)
    with pytest.raises(Unavailable, match=r"a\.png cannot be stored on the server \(No space left"):
        folder.add("a.png", b"1")
    folder.keep_picture("a" * 64, b"1")
    assert folder.num_files == 0 and folder.picture("a" * 64) is None
