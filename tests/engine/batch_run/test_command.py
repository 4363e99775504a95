"""vllm-mlx run: killed at any moment it goes on, and what is wrong is said before the first row."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from engine.batch_run import command
from engine.cli import main
from engine.errors import BadRequest
from tests import pictures
from tests.commands import ROOT
from tests.waiting import wait_until

PROMPT = "What color is the shape?"


def run_of(folder: Path, output: Path, *options: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "engine", "run", str(folder), "--prompt", PROMPT, "--output", str(output), *options]
    return subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answered(output: Path) -> list[str]:
    """Keys of the rows in the journal, a torn line apart."""
    journals = list(output.parent.glob(f"{output.name}.*.journal"))
    if not journals:
        return []
    lines = journals[0].read_bytes().split(b"\n")[1:-1]
    return [json.loads(line)["key"] for line in lines]


def until_there(process: subprocess.Popen[str], output: Path, num_rows: int) -> None:
    """Wait for so many rows in the journal, or the end of the run."""
    wait_until(lambda: len(answered(output)) >= num_rows or process.poll() is not None, "nothing came", 300)


def test_a_run_that_was_ended_goes_on(drawings: Path, tmp_path: Path) -> None:
    """Killed and then paused, each time at a random row. No row that was answered is asked again."""
    output, chance = tmp_path / "out.csv", random.Random()
    for how in (signal.SIGKILL, signal.SIGINT):
        num_there = len(answered(output))
        process = run_of(drawings, output, "--concurrency", "4")
        until_there(process, output, num_there + chance.randint(1, 12))
        process.send_signal(how)
        said, progress = process.communicate(timeout=300)
        assert len(answered(output)) > num_there, progress
    before = answered(output)
    if len(before) < 60:  # it was paused in time
        assert process.returncode == 130 and "Paused. The same command goes on" in progress, progress
        assert f"{len(before)} of 60 rows are answered" in said and len(pd.read_csv(output)) == len(before)
    process = run_of(drawings, output, "--concurrency", "4")
    said, progress = process.communicate(timeout=300)
    assert process.returncode == 0, said + progress
    assert f"{len(before)} of 60 rows are answered already." in progress and "60 of 60 rows are answered" in said
    keys = answered(output)
    assert keys[: len(before)] == before and len(keys) == len(set(keys)) == 60, "a row was asked twice"
    frame = pd.read_csv(output)
    assert list(frame["key"]) == sorted(keys)
    right = [key.split("-")[0] in answer for key, answer in zip(frame["key"], frame["answer"], strict=True)]
    assert sum(right) >= 50


def run_here(*options: str) -> int:
    return main(["run", *options])


def refused(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """What is said of a run that ends before its first row."""
    assert run_here(*options) == 1
    return capsys.readouterr().err


def test_what_is_wrong_is_said_before_the_first_row(
    capsys: pytest.CaptureFixture[str], drawings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_engine(*_: Any) -> Any:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("engine.core.Engine.start", no_engine)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    out = str(tmp_path / "out.csv")
    asked = (str(drawings), "--prompt", PROMPT)
    assert "must end in .jsonl, .csv, .parquet, .coco.json" in refused(
        capsys, *asked, "--output", str(tmp_path / "out.txt")
    )
    (tmp_path / "folder.csv").mkdir()
    assert "--prompt: it must not be empty" in refused(capsys, str(drawings), "--output", out)
    (tmp_path / "bad.json").write_text('{"type": ')
    assert "is not JSON" in refused(capsys, *asked, "--output", out, "--schema", str(tmp_path / "bad.json"))
    (tmp_path / "bad.csv").write_text("words\na\n")
    said = refused(capsys, str(drawings), "--output", out, "--questions", str(tmp_path / "bad.csv"))
    assert "bad.csv: The table has no column named question" in said
    assert "no such file or folder" in refused(capsys, "/nowhere", "--prompt", PROMPT, "--output", out)
    assert "cannot be read" in refused(capsys, *asked, "--output", out, "--schema", "/nowhere.json")
    for wrong in (tmp_path / "no" / "out.csv", tmp_path / "folder.csv"):
        with pytest.raises(SystemExit):
            run_here(*asked, "--output", str(wrong))
    with pytest.raises(SystemExit):
        run_here(*asked, "--output", out, "--schema", "a", "--questions", "b")


def test_an_output_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.batch_run.output import check_output

    def refuse(self: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    check_output(tmp_path / "out.csv")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(BadRequest, match=r"out\.csv cannot be written: Permission denied"):
        check_output(tmp_path / "out.csv")


def test_a_changed_setting_is_a_new_run_and_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from engine.batch_run.journal import Journal, settings_digest

    output = tmp_path / "out.csv"
    before, now = {"prompt": "a", "model": "demo"}, {"prompt": "b", "model": "demo"}
    path = command._journal_path(output, settings_digest(before))
    Journal(path, before).close()
    command._say_other_runs(output, settings_digest(before), before)
    assert capsys.readouterr().err == ""
    command._say_other_runs(output, settings_digest(now), now)
    said = capsys.readouterr().err
    assert said == f"This is a new run: another prompt. The answers of the earlier one stay in {path.name}.\n"


def test_warnings_count_where_they_are_asked_to(
    tmp_path: Path, drawings: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row that is cut off: no failure, unless --strict says so; a row without an answer is one in any case."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # this process is not the command's own
    folder, output = tmp_path / "in", tmp_path / "out.jsonl"
    folder.mkdir()
    (folder / "a.png").write_bytes((drawings / "red-circle-96x96.png").read_bytes())
    asked = (str(folder), "--prompt", PROMPT, "--output", str(output), "--max-tokens", "2")
    assert [run_here(*asked), run_here(*asked, "--strict")] == [0, 1]
    assert capsys.readouterr().out.count("1 × the answer was cut off") == 2
    (folder / "b.png").write_bytes(b"")
    assert run_here(*asked) == 1 and "b.png: the file is empty" in capsys.readouterr().out
    pictures.picture().save(folder / "b.png")
    assert run_here(*asked) == 0, "what failed is asked for again"
    assert len(output.read_text().splitlines()) == 2
