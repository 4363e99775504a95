"""A rank that is gone, killed or stopped: open requests end with an error within 10 s, and so does the server."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.engine.ranks.battery import greedy
from tests.engine.ranks.processes import RankProcesses

NOTICED_S = 10.0
BEGUN_LINES = 6


def stream_until_error(url: str, begun: Callable[[], None]) -> tuple[dict[str, Any], float]:
    """The error that ends a stream, and how long after begun(), which is called in its middle."""
    body = greedy("go on", max_tokens=3000, stream=True)
    num_lines, since_s = 0, 0.0
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as response:
        for line in response.iter_lines():
            num_lines += 1
            if num_lines == BEGUN_LINES:
                begun()
                since_s = time.monotonic()
            if line.startswith('data: {"error"'):
                return json.loads(line.removeprefix("data: "))["error"], time.monotonic() - since_s
    raise AssertionError("the stream has ended without an error")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_rank_that_is_lost(how: signal.Signals, divisible_model: Callable[[str], Path], tmp_path: Path) -> None:
    """Killed, its connections are closed; stopped, it only says nothing any more, as a machine without power."""
    model = divisible_model("qwen3")
    with RankProcesses(tmp_path, 2, "serve", str(model), "--port", "0") as ranks:
        first, other = ranks.processes
        error, after_s = stream_until_error(ranks.url, lambda: other.send_signal(how))
        assert error["code"] == "rank_lost" and error["type"] == "server_error" and "Rank 1 of 2" in error["message"]
        assert after_s < NOTICED_S
        assert first.wait(NOTICED_S) == 1, ranks.said
        assert "error: The engine has failed: Rank 1 of 2 is lost" in ranks.said
        if how == signal.SIGSTOP:
            other.send_signal(signal.SIGCONT)
        assert other.wait(NOTICED_S) == (1 if how == signal.SIGSTOP else -signal.SIGKILL)


def test_without_rank_0_the_others_end(divisible_model: Callable[[str], Path], tmp_path: Path) -> None:
    with RankProcesses(tmp_path, 2, "serve", str(divisible_model("qwen3")), "--port", "0") as ranks:
        assert ranks.url
        began_s = time.monotonic()
        ranks.processes[0].kill()
        assert ranks.wait(NOTICED_S)[1] == 1
        assert time.monotonic() - began_s < NOTICED_S
        assert "rank 0 is gone" in ranks.said


def test_a_model_that_cannot_be_divided_ends_all(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    """Its one head with keys cannot be halved: no rank serves, and rank 0 says why."""
    with RankProcesses(tmp_path, 2, "serve", str(tiny_model("qwen3")), "--port", "0") as ranks:
        assert ranks.wait() == [1, 1], ranks.said
        assert "num_key_value_heads 1 cannot be divided by 2" in ranks.said
