"""A rank that is gone, killed or stopped: open requests end with an error within 10 s, and so does the server."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.config import EngineConfig, ModelSpec
from engine.ranks.place import RankPlace, leave
from engine.runtime import thread as engine_thread
from engine.runtime.thread import EngineThread, Outside
from tests.engine.ranks.battery import greedy
from tests.engine.ranks.processes import RankProcesses
from tests.waiting import wait_until

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


def test_a_pass_that_fails_on_rank_0_alone(divisible_model: Callable[[str], Path], tmp_path: Path) -> None:
    """The others have begun it: going on with the next one, ranks would add up what does not belong together."""
    words = ("runs_out", "serve", str(divisible_model("qwen3")), "--port", "0")
    with RankProcesses(tmp_path, 2, *words, module="tests.engine.ranks.saboteur") as ranks:
        error, _ = stream_until_error(ranks.url, lambda: None)
        assert error["code"] == "rank_lost" and "Rank 0 of 2 is lost: RuntimeError: out of memory" in error["message"]
        assert ranks.wait(NOTICED_S) == [1, 1], ranks.said


def test_ranks_that_have_not_found_each_other_end_when_asked(
    divisible_model: Callable[[str], Path], tmp_path: Path
) -> None:
    words = ("finds_nobody", "serve", str(divisible_model("qwen3")), "--port", "0")
    with RankProcesses(tmp_path, 2, *words, module="tests.engine.ranks.saboteur") as ranks:
        wait_until(lambda: ranks.said.count("waits") == 2, "a rank does not come so far", 30)
        for process in ranks.processes:
            process.send_signal(signal.SIGTERM)
        assert ranks.wait(NOTICED_S) == [1, -signal.SIGTERM], ranks.said


def test_an_idle_engine_lets_the_others_return_memory_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.models import replica
    from engine.models.replica import Replica

    config = EngineConfig(model=ModelSpec("demo"), ranks=RankPlace(0, 2, "127.0.0.1"))
    runtime = EngineThread(config, Outside(lambda _: None, lambda _: None, lambda _: None))  # type: ignore[arg-type,return-value]
    told: list[Any] = []
    monkeypatch.setattr(runtime._line, "tell", told.append)
    for idle_s in range(engine_thread._RETURN_MEMORY_EVERY_S):
        runtime._idle(idle_s)
    assert told == [{"do": "return_memory"}]
    returned: list[bool] = []
    monkeypatch.setattr(replica, "return_memory", lambda: returned.append(True))
    other: Any = Replica(config, None, lambda **_: None)  # type: ignore[arg-type]
    other.do(told[0], [])
    assert returned


@pytest.mark.parametrize("has_joined", [False, True])
def test_a_thread_that_waits_for_another_rank_is_not_waited_for(
    has_joined: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_end: list[Any] = []
    monkeypatch.setattr(engine_thread.atexit, "register", at_end.append)
    monkeypatch.setattr(engine_thread, "_RANKS_GRACE_S", 0.2)
    monkeypatch.setattr(engine_thread, "_LOST_GRACE_S", 0.1)
    monkeypatch.setattr(engine_thread, "_JOIN_S", 0.05)
    config = EngineConfig(model=ModelSpec("demo"), ranks=RankPlace(0, 2, "127.0.0.1"))
    outside: Any = Outside(lambda _: None, lambda _: None, lambda _: None)  # type: ignore[arg-type,return-value]
    runtime = EngineThread(config, outside)
    monkeypatch.setattr(EngineThread, "is_loading", False)
    if has_joined:
        runtime._line._watching = threading.current_thread()  # type: ignore[union-attr]
    hangs = threading.Event()
    thread = threading.Thread(target=hangs.wait, daemon=True)
    thread.start()
    began_s = time.monotonic()
    runtime.join(thread)
    took_s = time.monotonic() - began_s
    hangs.set()
    assert (0.2 if has_joined else 0.1) <= took_s < NOTICED_S
    assert at_end == [leave]


def test_a_model_that_cannot_be_divided_ends_all(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    """Its one head with keys cannot be halved: no rank serves, and rank 0 says why."""
    with RankProcesses(tmp_path, 2, "serve", str(tiny_model("qwen3")), "--port", "0") as ranks:
        assert ranks.wait() == [1, 1], ranks.said
        assert "num_key_value_heads 1 cannot be divided by 2" in ranks.said
