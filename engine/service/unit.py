"""What is to be run, as a unit of systemd and as a property list of launchd. Pure.

https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html
https://developer.apple.com/library/archive/documentation/MacOSX/Conceptual/BPSystemStartup/Chapters/CreatingLaunchdJobs.html
"""

from __future__ import annotations

import plistlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import BadRequest
from engine.own_process import RESTART_STATUS, SUPERVISED

LABEL_PREFIX = "mlx-workbench"
STOP_S = 30
RESTART_S = 5
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


@dataclass(frozen=True, slots=True)
class ServiceUnit:
    """name: tells services apart; program: the words of the command. Raises BadRequest for a name or a word that no
    unit can hold.

    >>> print(ServiceUnit("server", ("/usr/bin/python3", "-m", "engine", "serve", "50% off")).exec_start)
    "/usr/bin/python3" "-m" "engine" "serve" "50%% off"
    """

    name: str
    program: tuple[str, ...]

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            why = "it must be of a-z, 0-9 and -, at most 40 characters"
            raise BadRequest(f"--name: {why}, not {self.name!r}.", param="name")
        for word in self.program:
            if not word.isprintable():
                raise BadRequest(f"{word!r}: a service cannot be given this.", param="options")

    @property
    def label(self) -> str:
        """What the service manager knows it by."""
        return f"{LABEL_PREFIX}-{self.name}"

    @property
    def exec_start(self) -> str:
        return " ".join(_quoted(word) for word in self.program)

    def systemd(self) -> str:
        """The text of a user unit. A server that has failed for good ends with 1 and is started anew; so is one
        whose operator asked for a restart, which is no failure. StartLimitBurst leaves room for some of these."""
        return (
            "[Unit]\n"
            f"Description=MLX Workbench ({self.name})\n"
            "StartLimitIntervalSec=300\n"
            "StartLimitBurst=10\n"
            "\n"
            "[Service]\n"
            f"ExecStart={self.exec_start}\n"
            f"Environment=PYTHONUNBUFFERED=1 {SUPERVISED}=1\n"
            "Restart=on-failure\n"
            f"SuccessExitStatus={RESTART_STATUS}\n"
            f"RestartForceExitStatus={RESTART_STATUS}\n"
            f"RestartSec={RESTART_S}\n"
            f"TimeoutStopSec={STOP_S}\n"
            "\n"
            "[Install]\n"
            "WantedBy=default.target\n"
        )

    def launchd(self, log: Path) -> bytes:
        """An agent's property list, as XML. log: the file that it writes to."""
        return plistlib.dumps(
            {
                "Label": self.label,
                "ProgramArguments": list(self.program),
                "EnvironmentVariables": {"PYTHONUNBUFFERED": "1", SUPERVISED: "1"},
                "RunAtLoad": True,
                "KeepAlive": {"SuccessfulExit": False},
                "ThrottleInterval": RESTART_S,
                "ExitTimeOut": STOP_S,
                "StandardOutPath": str(log),
                "StandardErrorPath": str(log),
            }
        )


def _quoted(word: str) -> str:
    """A word of ExecStart: in quotes, with what systemd would replace in it doubled."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def program_of(python: str, options: Sequence[str], *, page: bool) -> tuple[str, ...]:
    """The command: the page with /v1, or /v1 alone."""
    if page:
        return (python, "-m", "workbench.app", "--no-browser", "--exit-on-failure", *options)
    return (python, "-m", "engine", "serve", "--exit-on-failure", *options)
