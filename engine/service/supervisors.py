"""systemd and launchd: where a service's file lies, and the commands that install, start, stop and show it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from engine.errors import BadRequest
from engine.service.unit import ServiceUnit


class Supervisor(Protocol):
    """Who keeps a service running. Each returns the exit status of the last command that it ran."""

    def file_of(self, unit: ServiceUnit) -> Path: ...
    def install(self, unit: ServiceUnit) -> int: ...
    def uninstall(self, unit: ServiceUnit) -> int: ...
    def start(self, unit: ServiceUnit) -> int: ...
    def stop(self, unit: ServiceUnit) -> int: ...
    def status(self, unit: ServiceUnit) -> int: ...
    def logs(self, unit: ServiceUnit, lines: int, follow: bool) -> int: ...


def supervisor(platform: str = sys.platform, home: Path | None = None) -> Supervisor:
    """That of this system. Raises BadRequest where there is none."""
    home = home or Path.home()
    if platform == "darwin":
        return Launchd(home, os.getuid())
    if platform == "linux":
        return Systemd(home)
    raise BadRequest(f"Services are made for systemd and launchd, and {platform} has neither.", param="action")


class Systemd:
    """Units of the user's own manager. They end when the user logs out, unless `loginctl enable-linger` was said."""

    def __init__(self, home: Path) -> None:
        config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
        self._folder = config / "systemd" / "user"

    def file_of(self, unit: ServiceUnit) -> Path:
        return self._folder / f"{unit.label}.service"

    def install(self, unit: ServiceUnit) -> int:
        _write(self.file_of(unit), unit.systemd().encode())
        return _run("systemctl", "--user", "daemon-reload") or _run("systemctl", "--user", "enable", unit.label)

    def uninstall(self, unit: ServiceUnit) -> int:
        status = _run("systemctl", "--user", "disable", "--now", unit.label)
        self.file_of(unit).unlink(missing_ok=True)
        return status or _run("systemctl", "--user", "daemon-reload")

    def start(self, unit: ServiceUnit) -> int:
        return _run("systemctl", "--user", "restart", unit.label)

    def stop(self, unit: ServiceUnit) -> int:
        return _run("systemctl", "--user", "stop", unit.label)

    def status(self, unit: ServiceUnit) -> int:
        return _run("systemctl", "--user", "status", "--no-pager", unit.label)

    def logs(self, unit: ServiceUnit, lines: int, follow: bool) -> int:
        return _run("journalctl", "--user", "--unit", unit.label, "--lines", str(lines), *(["--follow"] * follow))


class Launchd:
    """Agents of the user's session."""

    def __init__(self, home: Path, user: int) -> None:
        self._home = home
        self._domain = f"gui/{user}"

    def file_of(self, unit: ServiceUnit) -> Path:
        return self._home / "Library" / "LaunchAgents" / f"{unit.label}.plist"

    def log_of(self, unit: ServiceUnit) -> Path:
        """What it prints; macOS keeps no journal for agents."""
        return self._home / "Library" / "Logs" / "mlx-workbench" / f"{unit.name}.log"

    def install(self, unit: ServiceUnit) -> int:
        self.log_of(unit).parent.mkdir(parents=True, exist_ok=True)
        _write(self.file_of(unit), unit.launchd(self.log_of(unit)))
        return 0

    def uninstall(self, unit: ServiceUnit) -> int:
        status = self.stop(unit)
        self.file_of(unit).unlink(missing_ok=True)
        return status

    def start(self, unit: ServiceUnit) -> int:
        self._bootout(unit)
        return _run("launchctl", "bootstrap", self._domain, str(self.file_of(unit)))

    def stop(self, unit: ServiceUnit) -> int:
        return self._bootout(unit)

    def status(self, unit: ServiceUnit) -> int:
        return _run("launchctl", "print", f"{self._domain}/{unit.label}")

    def logs(self, unit: ServiceUnit, lines: int, follow: bool) -> int:
        return _run("tail", "-n", str(lines), *(["-f"] * follow), str(self.log_of(unit)))

    def _bootout(self, unit: ServiceUnit) -> int:
        return _run("launchctl", "bootout", f"{self._domain}/{unit.label}")


def _write(file: Path, content: bytes) -> None:
    """Only for its owner: the options may hold a key."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.chmod(0o600)
        file.write_bytes(content)
    except OSError as error:
        raise BadRequest(f"{file} cannot be written ({error.strerror}).", param="action") from error


def _run(*command: str) -> int:
    """Run a command of the system; what it prints is for the user. Raises BadRequest where it is missing."""
    try:
        return subprocess.run(command, check=False).returncode
    except FileNotFoundError:
        raise BadRequest(f"There is no `{command[0]}` here, so nothing can run as a service.", param="action") from None


def check_options(program: Sequence[str]) -> None:
    """Raise BadRequest with the server's own words for options that it would refuse."""
    done = subprocess.run([*program, "--check"], capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
        raise BadRequest(f"The server would refuse these options: {why.removeprefix('error: ')}", param="options")
