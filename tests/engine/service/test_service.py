"""vllm-mlx service: units that systemd and launchd can read, the commands that are run, and the bundle."""

from __future__ import annotations

import os
import plistlib
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import cli
from engine.errors import BadRequest
from engine.own_process import RESTART_STATUS, SUPERVISED
from engine.service import supervisors
from engine.service.bundle import start_script, write_app
from engine.service.supervisors import Launchd, Systemd, check_options, supervisor
from engine.service.unit import ServiceUnit, program_of

ODD = ("/opt/my python/bin/python", "-m", "engine", "serve", "--model", 'a "b" %i $HOME \\ c')
UNIT = ServiceUnit("server", program_of(sys.executable, ("--port", "8001"), page=False))


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Stand-ins for the system's commands, the only ones in PATH; what was run, a line each."""
    folder, log = tmp_path / "bin", tmp_path / "ran.txt"
    folder.mkdir()
    for name in ("systemctl", "journalctl", "launchctl", "tail"):
        script = folder / name
        script.write_text(f'#!/bin/sh\necho {name} "$@" >>{log}\n')
        script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return lambda: log.read_text().splitlines() if log.exists() else []


def complaints(file: Path) -> str:
    """What systemd says about a unit."""
    return subprocess.run(
        ["systemd-analyze", "verify", "--user", str(file)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": str(file.parent)},
    ).stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
@pytest.mark.parametrize("program", [UNIT.program, (sys.executable, *ODD[1:])], ids=["plain", "odd words"])
def test_systemd_reads_the_unit(tmp_path: Path, program: tuple[str, ...]) -> None:
    unit = ServiceUnit("server", program)
    file = tmp_path / f"{unit.label}.service"
    file.write_text(unit.systemd())
    done = complaints(file)
    assert unit.label not in done, done
    broken = tmp_path / "broken.service"
    broken.write_text(unit.systemd().replace('ExecStart="', 'ExecStart="no-such/'))
    twin = complaints(broken)
    assert "broken.service" in twin, "the check sees nothing"


def test_a_restart_that_was_asked_for_is_one_and_no_failure(tmp_path: Path) -> None:
    """The server is told that it is started again, and by which status."""
    lines, listed = UNIT.systemd().splitlines(), plistlib.loads(UNIT.launchd(tmp_path / "log"))
    assert {f"SuccessExitStatus={RESTART_STATUS}", f"RestartForceExitStatus={RESTART_STATUS}"} <= set(lines)
    assert any(line.startswith("Environment=") and f"{SUPERVISED}=1" in line.split() for line in lines)
    assert listed["EnvironmentVariables"][SUPERVISED] == "1" and RESTART_STATUS > 0  # KeepAlive: unless it succeeds


def test_words_are_what_they_were() -> None:
    line = ServiceUnit("server", ODD).exec_start
    assert line.endswith(' "a \\"b\\" %%i $$HOME \\\\ c"') and line.startswith('"/opt/my python/bin/python" ')


def test_launchd_reads_the_list(tmp_path: Path) -> None:
    read = plistlib.loads(ServiceUnit("server", ODD).launchd(tmp_path / "log"))
    assert read["Label"] == "mlx-workbench-server" and read["ProgramArguments"] == list(ODD)
    assert read["KeepAlive"] == {"SuccessfulExit": False} and read["StandardErrorPath"] == str(tmp_path / "log")


@pytest.mark.parametrize("name", ["", "A", "a/b", "../x", "a b", "x" * 41])
def test_names_that_no_unit_can_have(name: str) -> None:
    with pytest.raises(BadRequest, match="--name"):
        ServiceUnit(name, ())


def test_a_line_break_cannot_get_into_a_unit() -> None:
    with pytest.raises(BadRequest, match="cannot be given this"):
        ServiceUnit("server", ("python", "x\nExecStartPre=/bin/evil"))


def test_systemd_from_install_to_uninstall(tmp_path: Path, commands: Callable[[], list[str]]) -> None:
    manager = Systemd(tmp_path / "home")
    file = manager.file_of(UNIT)
    assert manager.install(UNIT) == 0
    assert file == tmp_path / "home/.config/systemd/user/mlx-workbench-server.service"
    assert file.read_text() == UNIT.systemd() and stat.S_IMODE(file.stat().st_mode) == 0o600
    manager.start(UNIT)
    manager.status(UNIT)
    manager.logs(UNIT, 5, follow=True)
    manager.stop(UNIT)
    manager.uninstall(UNIT)
    assert not file.exists()
    assert commands() == [
        "systemctl --user daemon-reload",
        "systemctl --user enable mlx-workbench-server",
        "systemctl --user restart mlx-workbench-server",
        "systemctl --user status --no-pager mlx-workbench-server",
        "journalctl --user --unit mlx-workbench-server --lines 5 --follow",
        "systemctl --user stop mlx-workbench-server",
        "systemctl --user disable --now mlx-workbench-server",
        "systemctl --user daemon-reload",
    ]


def test_launchd_from_install_to_uninstall(tmp_path: Path, commands: Callable[[], list[str]]) -> None:
    manager = Launchd(tmp_path / "home", 501)
    manager.install(UNIT)
    file, log = manager.file_of(UNIT), manager.log_of(UNIT)
    assert plistlib.loads(file.read_bytes())["StandardOutPath"] == str(log) and log.parent.is_dir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    manager.start(UNIT)
    manager.status(UNIT)
    manager.logs(UNIT, 5, follow=False)
    manager.uninstall(UNIT)
    assert not file.exists()
    assert commands() == [
        "launchctl bootout gui/501/mlx-workbench-server",
        f"launchctl bootstrap gui/501 {file}",
        "launchctl print gui/501/mlx-workbench-server",
        f"tail -n 5 {log}",
        "launchctl bootout gui/501/mlx-workbench-server",
    ]


def test_a_system_without_either_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadRequest, match="freebsd14 has neither"):
        supervisor("freebsd14")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadRequest, match="There is no `systemctl` here"):
        supervisor("linux", tmp_path).start(UNIT)


@pytest.mark.skipif(sys.platform != "linux", reason="the commands of systemd")
def test_the_command(
    commands: Callable[[], list[str]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.service.command.check_options", check := Checked())
    assert cli.main(["service", "start"]) == 1
    assert "there is no service 'server'; make it with `vllm-mlx service install`" in capsys.readouterr().err
    assert cli.main(["service", "install", "--name", "two", "--", "--model", "demo", "--port", "8001"]) == 0
    assert "vllm-mlx service start --name two" in capsys.readouterr().out
    assert check.program[3:] == ("serve", "--exit-on-failure", "--model", "demo", "--port", "8001")
    assert cli.main(["service", "start", "--name", "two"]) == 0
    assert commands()[-1] == "systemctl --user restart mlx-workbench-two"
    assert cli.main(["service", "stop", "--name", "two", "--", "--port", "1"]) == 1
    assert "belong to install and app" in capsys.readouterr().err
    assert cli.main(["service", "install", "--page"]) == 0
    assert check.program[2:] == ("workbench.app", "--no-browser", "--exit-on-failure")


class Checked:
    """Remembers what was to be checked: a process of its own takes seconds."""

    program: tuple[str, ...] = ()

    def __call__(self, program: tuple[str, ...]) -> None:
        self.program = program


def test_options_that_the_server_refuses_are_not_installed() -> None:
    check_options(UNIT.program)
    for wrong in (("--port", "x"), ("--cache-disk-gb", "2"), ("--no-such-option",)):
        with pytest.raises(BadRequest, match="The server would refuse these options: .*" + wrong[0]):
            check_options(program_of(sys.executable, wrong, page=False))


def test_the_page_looks_at_its_options_too() -> None:
    check_options(program_of(sys.executable, ("--no-history",), page=True))
    with pytest.raises(BadRequest, match="no-such-option"):
        check_options(program_of(sys.executable, ("--no-such-option",), page=True))


def test_the_bundle(tmp_path: Path) -> None:
    from PIL import Image

    bundle = write_app(tmp_path, "/opt/my python/bin/python", ("--model", "demo"), 7860)
    info = plistlib.loads((bundle / "Contents/Info.plist").read_bytes())
    program = bundle / "Contents/MacOS" / info["CFBundleExecutable"]
    assert bundle.name == "MLX Workbench.app" and info["CFBundlePackageType"] == "APPL"
    assert os.access(program, os.X_OK)
    assert subprocess.run(["sh", "-n", str(program)], check=False).returncode == 0
    assert "'/opt/my python/bin/python' -m workbench.app --port 7860 --model demo" in program.read_text()
    with Image.open(bundle / "Contents/Resources" / f"{info['CFBundleIconFile']}.icns") as icon:
        assert icon.format == "ICNS"
    assert write_app(tmp_path, "python", (), 1) == bundle, "its own is written anew"
    (bundle / "Contents/Info.plist").write_bytes(plistlib.dumps({"CFBundleIdentifier": "com.other"}))
    with pytest.raises(BadRequest, match="was not made by this"):
        write_app(tmp_path, "python", (), 1)


@pytest.mark.parametrize("runs", [True, False])
def test_a_click_opens_the_page_or_starts_the_server(tmp_path: Path, runs: bool) -> None:
    """Stand-ins for curl, open and the server's Python say what was run."""
    log = tmp_path / "ran.txt"
    for name, status in (("curl", 0 if runs else 7), ("open", 0), ("python", 0)):
        file = tmp_path / name
        file.write_text(f'#!/bin/sh\necho {name} "$@" >>{log}\nexit {status}\n')
        file.chmod(0o755)
    script = start_script(str(tmp_path / "python"), ("--model", "demo"), 7860)
    env = {"PATH": f"{tmp_path}{os.pathsep}/usr/bin{os.pathsep}/bin", "HOME": str(tmp_path / "home")}
    subprocess.run(["sh", "-c", script], check=True, env=env)
    (asked, then) = log.read_text().splitlines()
    assert asked.endswith("http://127.0.0.1:7860/health/live")
    wanted = "open http://127.0.0.1:7860" if runs else "python -m workbench.app --port 7860 --model demo"
    assert then == wanted


def test_nothing_is_run_through_a_shell() -> None:
    assert "shell=True" not in Path(supervisors.__file__).read_text()
