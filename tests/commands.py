"""`vllm-mlx` in a process of its own, for the tests of how a server starts and ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.endless import endless_request

ROOT = Path(__file__).resolve().parent.parent
SERVE = [sys.executable, "-m", "engine"]
IN_BACKGROUND = ["sh", "-c", """trap '' INT; exec "$0" "$@" """]


class Running:
    """`vllm-mlx` in a process, with its port and what it prints. in_background: it ignores Ctrl-C, as in a shell."""

    def __init__(self, *options: str, environment: dict[str, str] | None = None, in_background: bool = False) -> None:
        self.process = subprocess.Popen(
            [*(IN_BACKGROUND if in_background else ()), *SERVE, "--port", "0", *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        port = re.search(r":(\d+)/v1", self.said)
        if port is None:
            self.process.kill()
            raise AssertionError(self.said + "".join(self.process.communicate()))
        self.url = f"http://127.0.0.1:{port[1]}"

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def end(self, how: signal.Signals = signal.SIGINT) -> tuple[int, str]:
        """Send a signal; exit status and what was written to stderr."""
        self.process.send_signal(how)
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said

    def kill(self) -> None:
        """Nothing where it has ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


def begun(url: str, max_tokens: int) -> tuple[httpx.Response, Iterator[str]]:
    """A stream that has said its first word: the open response and its lines."""
    client = httpx.Client(timeout=60)
    body = {**endless_request(max_tokens), "stream": True}
    response = client.send(client.build_request("POST", f"{url}/v1/chat/completions", json=body), stream=True)
    lines = response.iter_lines()
    next(lines)
    return response, lines


def breaks_off(response: httpx.Response, lines: Iterator[str]) -> None:
    """The stream ends with an error in place of its answer's end."""
    last = [line for line in lines if line][-1]
    assert "error" in json.loads(last.removeprefix("data: "))
    response.close()
