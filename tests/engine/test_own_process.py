"""How a server is started anew: with which words, by whom, and when not."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from engine.config import KEY_VARIABLE, ServerConfig
from engine.errors import Conflict
from engine.own_process import RESTART_STATUS, SUPERVISED, Restart, StartCommand

GIVEN = ServerConfig(port=8000)
COMMAND = StartCommand((sys.executable, "-c", "pass"), dict(os.environ))
SERVICE = replace(COMMAND, is_supervised=True)


def test_the_words_are_those_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SUPERVISED, "1")
    command = StartCommand.of_this_process("--no-browser")
    assert command.words == (sys.executable, *sys.orig_argv[1:]) and command.is_supervised
    monkeypatch.delenv(SUPERVISED)
    assert command.environment[SUPERVISED] == "1" and not StartCommand.of_this_process().is_supervised


def test_options_stand_where_they_are_options() -> None:
    command = StartCommand(("python", "-m", "engine", "serve"), {}, ("--no-browser",))
    assert command.again("--check") == ["python", "-m", "engine", "serve", "--no-browser", "--check"]
    ended = replace(command, words=(*command.words, "--", "demo"))
    assert ended.again("--check") == ["python", "-m", "engine", "serve", "--no-browser", "--check", "--", "demo"]


def test_a_port_and_a_key_that_were_found_are_kept() -> None:
    """By a start in place: a supervisor would not know them."""
    assert SERVICE.keeping(GIVEN, GIVEN) == SERVICE
    found = SERVICE.keeping(ServerConfig(port=0), GIVEN)
    assert found.again()[-2:] == ["--port", "8000"] and not found.is_supervised
    made = SERVICE.keeping(GIVEN, replace(GIVEN, api_keys=(("user", "sk-made"),)))
    assert made.environment[KEY_VARIABLE] == "sk-made" and made.again() == list(SERVICE.words)
    assert not made.is_supervised and KEY_VARIABLE not in SERVICE.environment


async def test_in_another_program_it_cannot_be_done() -> None:
    restart = Restart()
    assert (restart.how, restart.obstacle) == (None, "embedded")
    with pytest.raises(Conflict, match="inside another program") as refused:
        await restart.ask()
    assert refused.value.code == "cannot_restart" and not restart.is_asked and restart.ended() == 0


async def test_one_of_several_processes_is_not_restarted_alone() -> None:
    restart = Restart(COMMAND, is_of_several=True)
    assert (restart.how, restart.obstacle) == (None, "several_ranks")
    with pytest.raises(Conflict, match="restart that one"):
        await restart.ask()


async def test_a_program_that_is_gone_is_said(tmp_path: Path) -> None:
    restart = Restart(replace(COMMAND, words=(str(tmp_path / "python"),)))
    assert (restart.how, restart.obstacle) == (None, "no_program")
    with pytest.raises(Conflict, match="not there any more"):
        await restart.ask()


async def test_nothing_is_ended_for_a_start_that_would_fail() -> None:
    refuses = (
        "import sys; print('a warning', file=sys.stderr); sys.exit(sys.argv[-1] + ': error: --model: no such folder')"
    )
    restart = Restart(replace(COMMAND, words=(sys.executable, "-c", refuses)))
    with pytest.raises(
        Conflict, match="would not start again with its options: --check: error: --model: no such folder"
    ):
        await restart.ask()
    assert not restart.is_asked


async def test_who_starts_it_again() -> None:
    in_place, service = Restart(COMMAND), Restart(SERVICE)
    assert (in_place.how, service.how) == ("in_place", "supervisor")
    assert in_place.ended() == service.ended() == 0, "nobody asked"
    for restart in (in_place, service):
        await restart.ask()
    assert (in_place.ended(), service.ended()) == (0, RESTART_STATUS)


PROGRAM = """
import asyncio, atexit, os, sys, threading, time
from engine.own_process import Restart, StartCommand
if "again" in sys.argv:
    print("started again with", os.environ["OF_THE_START"], sys.argv[1:], flush=True)
    raise SystemExit(3)
restart = Restart.of_this_process("again")
os.environ["OF_THE_START"] = "changed"
atexit.register(print, "what is done at exit is done")
def work():
    time.sleep(0.3)
    print("a thread has ended")
threading.Thread(target=work).start()
asyncio.run(restart.ask())
if "interrupted" not in sys.argv:
    restart.ended()
"""


@pytest.mark.parametrize("how", ["in order", "interrupted"])
def test_the_process_becomes_the_new_one_when_all_else_is_done(how: str) -> None:
    """With the environment of its start; and not where it did not end in order."""
    program = PROGRAM.replace('if "again"', 'if "--check" in sys.argv:\n    raise SystemExit\nif "again"')
    environment = {**os.environ, "OF_THE_START": "kept"}
    done = subprocess.run(
        [sys.executable, "-c", program, how], env=environment, capture_output=True, text=True, check=False
    )
    said = ["a thread has ended", "what is done at exit is done"]
    if how == "in order":
        said.append("started again with kept ['in order', 'again']")
    assert (done.stdout.splitlines(), done.stderr) == (said, "")
    assert done.returncode == (3 if how == "in order" else 0)
