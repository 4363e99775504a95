"""A page on the demo model for the tests of this folder, and the command vllm-mlx-chat as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from engine.config import ServerConfig

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def page_app(demo_engine: Any, tmp_path: Path) -> Callable[..., FastAPI]:
    """page_app(**ServerConfig fields) -> the whole app, with an upload folder of its own."""
    from workbench.app import create_app, prepare_gradio

    def make(**fields: Any) -> FastAPI:
        uploads = tmp_path / "uploads"
        uploads.mkdir(exist_ok=True)
        prepare_gradio(uploads)
        return create_app(demo_engine, ServerConfig(**fields))

    return make


class Command:
    """A running command: its lines so far, and waiting for one of them."""

    def __init__(self, arguments: list[str], env: dict[str, str], cwd: Path) -> None:
        whole = {name: value for name, value in os.environ.items() if not name.startswith("GRADIO")}
        whole |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "XDG_DATA_HOME": str(cwd / "data"), **env}
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=cwd,
            env=whole,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def value(self, name: str, timeout_s: float = 90) -> str:
        """What the command printed after `name:`."""
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            for line in list(self.lines):
                if line.startswith(f"{name}:"):
                    return line.split(":", 1)[1].strip()
            assert self.process.poll() is None, self.lines
            time.sleep(0.05)
        raise AssertionError(f"no {name!r} in {self.lines}")

    def ended(self, timeout_s: float) -> int:
        """Its exit status, once its last line is in `lines` as well."""
        status = self.process.wait(timeout=timeout_s)
        self._reader.join(timeout=30)
        return status

    def stop(self) -> int:
        self.process.terminate()
        return self.ended(timeout_s=30)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """start(*arguments, cwd=..., **environment) -> a running Command, stopped at the end of the test."""
    running: list[Command] = []

    def make(*arguments: str, cwd: Path = tmp_path, **env: str) -> Command:
        running.append(Command(list(arguments), env, cwd))
        return running[-1]

    yield make
    for command in running:
        if command.process.poll() is None:
            command.process.kill()
