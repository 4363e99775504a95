"""The process that a server runs in, as far as its operator looks after it: the last lines of its log, and a restart.

    POST /v1/server/restart ──> checked ──> asked ──> the server ends in order ──> the command starts itself anew

Whoever serves an app looks at `Restart.is_asked` (engine.api.http.ending); the command does the rest once everything is
closed. A server inside another program cannot be started anew from here.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal

from engine.config import KEY_VARIABLE, ServerConfig
from engine.errors import Conflict
from engine.log_ring import LogRing

SUPERVISED = "MLX_WORKBENCH_SUPERVISED"
"""The environment variable by which our units of systemd and launchd (engine.service.unit) tell the server that it is
started again when it ends with RESTART_STATUS."""

RESTART_STATUS = 75
"""EX_TEMPFAIL of sysexits.h: not for good."""

CHECK_S = 60.0
"""How long the command may take to look at its options."""

Obstacle = Literal["", "embedded", "no_program", "several_ranks"]
OBSTACLES: Mapping[Obstacle, str] = {
    "embedded": "This server runs inside another program; restart that one.",
    "no_program": "The program that this server was started with is not there any more.",
    "several_ranks": "This server is one of several processes that mlx.launch has started; restart that one.",
}
"""What is in the way of a restart, in words."""


@dataclass(frozen=True, slots=True)
class StartCommand:
    """How this process was started. words: the interpreter and all that it was given; environment: as it was then.
    options: to be added when it is started in place again. is_supervised: somebody starts it again when it ends."""

    words: tuple[str, ...]
    environment: Mapping[str, str]
    options: tuple[str, ...] = ()
    is_supervised: bool = False

    @classmethod
    def of_this_process(cls, *options: str) -> StartCommand:
        """To be asked before anything changes the environment."""
        is_supervised = os.environ.get(SUPERVISED) == "1"
        return cls((sys.executable, *sys.orig_argv[1:]), dict(os.environ), options, is_supervised)

    def keeping(self, asked: ServerConfig, found: ServerConfig) -> StartCommand:
        """The same, with a port and a key that were found and made at this start, and would be others at the next: only
        a start in place can keep them. asked: by the options; found: what is served."""
        options, environment = self.options, dict(self.environment)
        if found.port != asked.port:
            options = (*options, "--port", str(found.port))
        if found.api_keys != asked.api_keys:
            environment[KEY_VARIABLE] = found.api_keys[0][1]
        if (options, environment) == (self.options, self.environment):
            return self
        return replace(self, options=options, environment=environment, is_supervised=False)

    def again(self, *more: str) -> list[str]:
        """The words with the options: before a "--", behind which nothing is one."""
        words = list(self.words)
        place = words.index("--") if "--" in words else len(words)
        return [*words[:place], *self.options, *more, *words[place:]]


@dataclass
class Restart:
    """Whether this process can be started anew, and whether that was asked for. command: None in another program.
    is_of_several: processes that can only be started together."""

    command: StartCommand | None = None
    is_asked: bool = False
    is_of_several: bool = False
    _starts_in_place: bool = False

    @classmethod
    def of_this_process(cls, *options: str) -> Restart:
        """To be asked first of all: what is done at exit is done in reverse, so that this comes last. options: see
        StartCommand."""
        restart = cls(StartCommand.of_this_process(*options))
        atexit.register(restart.start_in_place)
        return restart

    def keep(self, asked: ServerConfig, found: ServerConfig) -> None:
        """See StartCommand.keeping."""
        self.command = self.command and self.command.keeping(asked, found)

    @property
    def obstacle(self) -> Obstacle:
        """What is in the way."""
        if self.command is None:
            return "embedded"
        if self.is_of_several:
            return "several_ranks"
        return "" if os.access(self.command.words[0], os.X_OK) else "no_program"

    @property
    def how(self) -> Literal["in_place", "supervisor"] | None:
        """None where it cannot be done."""
        if self.command is None or self.obstacle:
            return None
        return "supervisor" if self.command.is_supervised else "in_place"

    async def ask(self, redacted: Callable[[str], str] = str) -> None:
        """Ask for it. Nothing is ended for a start that would fail: the command looks at its options first, some of
        which name files. redacted: takes secrets out of what it says. Raises Conflict."""
        if self.obstacle:
            raise Conflict(OBSTACLES[self.obstacle], code="cannot_restart")
        assert self.command is not None
        if why := redacted(await _refused(self.command)):
            raise Conflict(f"The server would not start again with its options: {why}", code="cannot_restart")
        self.is_asked = True

    def ended(self) -> int:
        """The server has ended in order, not by a signal. Returns the exit status of the command."""
        how = self.how if self.is_asked else None
        self._starts_in_place = how == "in_place"
        return RESTART_STATUS if how == "supervisor" else 0

    def start_in_place(self) -> None:
        """At the end of the process, when its other threads have ended: make it that of the new server, where that was
        asked for and the old one has ended in order."""
        if not self._starts_in_place or self.command is None:
            return
        with suppress(OSError, ValueError):  # nobody reads it any more
            sys.stdout.flush()
        try:
            os.execve(self.command.words[0], self.command.again(), dict(self.command.environment))
        except OSError as error:
            print(f"error: The server could not be started again ({error.strerror}).", file=sys.stderr, flush=True)
            os._exit(1)


@dataclass
class OwnProcess:
    """log: empty, and on no logger, where the server is part of another program. started_s: since 1970."""

    log: LogRing = field(default_factory=LogRing)
    restart: Restart = field(default_factory=Restart)
    started_s: float = field(default_factory=time.time)


async def _refused(command: StartCommand) -> str:
    """What the command says of its options where it would not start; "" where it would."""
    import asyncio  # slow, and not needed for --help
    from asyncio import subprocess

    try:
        check = await subprocess.create_subprocess_exec(
            *command.again("--check"),
            env=dict(command.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
    except OSError as error:
        return f"{error.strerror}."
    try:
        _, said = await asyncio.wait_for(check.communicate(), CHECK_S)
    except TimeoutError:
        check.kill()
        await check.wait()
        return f"looking at them took longer than {CHECK_S:g} s."
    if not check.returncode:
        return ""
    lines = said.decode(errors="replace").strip().splitlines() or [f"it ends with status {check.returncode}."]
    return lines[-1].removeprefix("error: ")
