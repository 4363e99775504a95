"""vllm-mlx doctor: what it finds here, and what it would say of machines that are not as they should be."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from engine.doctor import command, installation, machine
from engine.doctor.diagnosis import Diagnosis
from tests.commands import ROOT, SERVE


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SERVE, "doctor", *options], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )


def test_the_command_says_what_it_found_here() -> None:
    done = run("--json")
    found = {finding["name"]: finding for finding in json.loads(done.stdout)}
    assert found["mlx"]["verdict"] == "ok" and "computes on the" in found["mlx"]["text"]
    assert found["python"]["verdict"] == found["codecs"]["verdict"] == found["shipped files"]["verdict"] == "ok"
    assert {"packages", "command vllm-mlx", "memory", "port 8000", "folder of models"} <= set(found)
    assert done.returncode == (1 if any(one["verdict"] == "fail" for one in found.values()) else 0)
    assert all(one["remedy"] for one in found.values() if one["verdict"] != "ok"), "each gap has something to do"


def test_gaps_are_lived_with_and_failures_are_not(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    gap, failure = Diagnosis("a", "warn", "b", "Do c."), Diagnosis("d", "fail", "e", "Do f.")
    for findings, status in (([gap], 0), ([gap, failure], 1)):
        monkeypatch.setattr(command, "examine", lambda findings=findings: findings)
        assert command.run(command.parser().parse_args([])) == status
    said = capsys.readouterr().out
    assert "warn  a: b\n      Do c." in said and "FAIL  d: e\n      Do f." in said
    assert "2 checks: 1 failed, 1 with a gap" in said


def test_packages_missing_out_of_range_and_other_than_tested(tmp_path: Path) -> None:
    tested = tmp_path / "tested.txt"
    tested.write_text("one==1.2\nTwo_X==2.0\n")
    needed = ["one>=1,<2", "two-x>=2", "elsewhere>=1; sys_platform == 'no-such'", "more>=1; extra == 'dev'"]
    exact = installation.requirements(needed, {"one": "1.2", "two-x": "2.0"}, tested)
    assert (exact.verdict, exact.text) == ("ok", "2 packages, all as tested")
    other = installation.requirements(needed, {"one": "1.3", "two-x": "2.0"}, tested)
    assert other.verdict == "warn" and "one 1.3 (tested 1.2)" in other.text
    wrong = installation.requirements(needed, {"one": "2.1"}, tested)
    assert wrong.verdict == "fail" and "two-x is missing; one is 2.1, and <2,>=1 is needed" in wrong.text
    assert "'two-x>=2'" in wrong.remedy and "elsewhere" not in wrong.remedy
    assert "mlx-lm" in installation.tested_versions(), "the list ships"


def script(folder: Path, name: str, module: str) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!/usr/bin/python\nfrom {module} import main\nmain()\n")
    file.chmod(0o755)
    return file


def test_commands_of_another_package_are_seen(tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    for name, module in installation.COMMANDS.items():
        script(own, name, module)
    script(other, "vllm-mlx", "vllm_mlx.cli")
    clean = installation.console_commands(own, str(own))
    assert [one.verdict for one in clean] == ["ok"] * 3
    (shadowed, *rest) = installation.console_commands(own, f"{other}{os.pathsep}{own}")
    assert shadowed.verdict == "warn" and f"the shell finds {other / 'vllm-mlx'} first" in shadowed.text
    assert [one.verdict for one in rest] == ["ok", "ok"]
    script(own, "vllm-mlx", "vllm_mlx.cli")
    (overwritten, *_) = installation.console_commands(own, str(own))
    assert overwritten.verdict == "fail" and "starts another package" in overwritten.text
    (absent, *_) = installation.console_commands(tmp_path / "nowhere", "")
    assert absent.verdict == "warn" and "python -m engine" in absent.remedy


def test_an_mlx_that_does_not_run_is_a_failure() -> None:
    for code in ("import os; os.abort()", "raise ImportError('libmlx.so')"):
        found = machine.mlx([sys.executable, "-c", code])
        assert found.verdict == "fail" and "does not run" in found.text and "force-reinstall" in found.remedy
    assert "libmlx.so" in found.text


@pytest.mark.skipif(sys.platform == "darwin", reason="hints are about Linux")
def test_a_slow_blas_is_a_gap_with_its_command() -> None:
    slow = machine.speed(["No OpenBLAS found: MLX will be slow. Install one with `apt install libopenblas0`."])
    assert (slow.verdict, slow.remedy) == ("warn", "Install one with `apt install libopenblas0`.")
    assert machine.speed([]).verdict == "ok"


def test_memory_and_the_wired_limit() -> None:
    assert machine.memory(4 * 1024**3, 1024**3).verdict == "warn"
    assert machine.memory(16 * 1024**3, 8 * 1024**3).text == "16 GiB, 8 GiB available"
    default, by_hand = (
        machine.wired_limit("iogpu.wired_limit_mb: 0\n"),
        machine.wired_limit("iogpu.wired_limit_mb: 90000"),
    )
    assert default and "three quarters" in default.text
    assert by_hand and by_hand.text == "90,000 MB, set by hand"
    unknown = machine.wired_limit("unknown oid")
    assert unknown and unknown.verdict == "warn"


def test_a_port_that_is_taken_is_a_gap() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (busy,) = machine.ports({port: "vllm-mlx"})
    assert busy.verdict == "warn" and "--port" in busy.remedy
    (free,) = machine.ports({0: "vllm-mlx"})
    assert free.verdict == "ok"


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    good, bad = machine.folders({"a": tmp_path / "new" / "folder", "b": tmp_path / "file" / "inside"})
    assert good.verdict == "ok" and bad.verdict == "fail" and "cannot be written" in bad.text


def test_the_common_codecs_are_read() -> None:
    assert installation.codecs().verdict == "ok"
