"""A home of its own, programs that only say how they were started, and the command as a person runs it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest

from engine import cli
from engine.api.app import create_app
from engine.config import ServerConfig
from tests.conftest import ROOT

KEY = "sk-launch"
PROGRAM = '#!/bin/sh\necho "started: $0 $*"\nenv | grep -E "^(OPENAI|ENABLE)_" | sort\n'


@dataclass
class Home:
    """Somebody's home. `launch` runs the command there, with the programs of `bin`."""

    folder: Path
    url: str
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("XDG", "VLLM", "LLM", "CODEX"))
        }
        path = f"{self.folder / 'bin'}:/usr/bin:/bin"
        return {**kept, "HOME": str(self.folder), "PATH": path, **self.variables}

    def launch(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """In this process, which is quicker; in one of its own where a program may be started."""
        if (self.folder / "bin").exists():
            return self.run(*arguments)
        out, err = io.StringIO(), io.StringIO()
        with mock.patch.dict(os.environ, self.environment, clear=True), redirect_stdout(out), redirect_stderr(err):
            status = cli.main(["launch", *arguments])
        return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())

    def run(self, *arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "engine", "launch", *arguments],
            cwd=ROOT, env=self.environment, stdin=stdin, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def set_up(self, name: str, *more: str) -> str:
        """What setting a program up prints."""
        done = self.launch(name, "--url", self.url, "--api-key", KEY, "--yes", *more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def undo(self, name: str) -> str:
        done = self.launch(name, "--undo", "--yes")
        assert done.returncode == 0, done.stderr
        return done.stdout

    def program(self, name: str) -> None:
        file = self.folder / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(PROGRAM)
        file.chmod(0o755)

    def tree(self) -> dict[str, bytes]:
        """Every file of it but the programs and our records."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        named = {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in files}
        return {name: data for name, data in named.items() if not name.startswith(("bin/", ".local/", ".cache/"))}


@pytest.fixture(scope="session")
def keyed_url(demo_engine: Any, serve: Callable[[Any], Any]) -> Iterator[str]:
    """The demo model behind a key, loaded: programs are not set up for one that still loads."""
    with serve(create_app(demo_engine, ServerConfig(api_keys=(("me", KEY),)))) as url:
        headers = {"Authorization": f"Bearer {KEY}"}
        answered = httpx.post(f"{url}/tokenize", json={"prompt": "hi"}, headers=headers, timeout=60)  # once it is there
        assert answered.status_code == 200, answered.text
        yield url


@pytest.fixture
def home(tmp_path: Path, keyed_url: str) -> Home:
    return Home(tmp_path, keyed_url)
