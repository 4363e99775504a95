"""The end of a server: answers that run are finished within a limit, new requests are told to come back."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from engine.api.app import create_app
from engine.config import EngineConfig, ServerConfig
from engine.core import Engine
from tests.commands import Running, begun, breaks_off
from tests.endless import endless_request
from tests.waiting import wait_until

HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}


def test_live_and_ready(serve: Callable[[Any], Any]) -> None:
    engine = Engine(EngineConfig())
    with serve(create_app(engine, ServerConfig())) as url:

        def ask(path: str) -> tuple[int, str]:
            body = httpx.get(f"{url}/health/{path}").json()
            return httpx.get(f"{url}/health/{path}").status_code, body.get("status") or body["error"]["code"]

        assert (ask("live"), ask("ready")) == ((200, "alive"), (503, "model_not_ready"))
        assert int(httpx.get(f"{url}/health/ready").headers["retry-after"]) > 0
        engine.start()
        wait_until(lambda: ask("ready") == (200, "ready"), "it is never ready")
        engine.drain()
        assert (ask("live"), ask("ready")) == ((200, "alive"), (503, "shutting_down"))
        for path, body in (
            ("chat/completions", HELLO),
            ("completions", {"prompt": "a"}),
            ("tokenize", {"prompt": "a"}),
        ):
            refused = httpx.post(f"{url}/v1/{path}", json=body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
            assert int(refused.headers["retry-after"]) > 0
        engine.stop()
        assert ask("live") == (503, "engine_failed") and ask("ready")[0] == 503


def test_answers_are_finished_and_new_requests_told_so(started: list[Running]) -> None:
    server = Running("--shutdown-timeout", "30")
    started.append(server)
    server.line()
    response, lines = begun(server.url, 800)
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: httpx.get(f"{server.url}/health/ready").status_code == 503, "it goes on to be ready")
    refused = httpx.post(f"{server.url}/v1/chat/completions", json=HELLO)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
    assert int(refused.headers["retry-after"]) > 0 and httpx.get(f"{server.url}/health/live").status_code == 200
    rest = [line for line in lines if line]
    assert rest[-1] == "data: [DONE]" and '"finish_reason":"length"' in rest[-2], "the answer is whole"
    response.close()
    began_s = time.monotonic()
    _, said = server.process.communicate(timeout=30)
    assert server.process.returncode == 0 and "Traceback" not in said and time.monotonic() - began_s < 10
    assert "1 answers may go on for 30 s" in said


def test_a_second_signal_ends_them_at_once(started: list[Running]) -> None:
    server = Running("--shutdown-timeout", "60")
    started.append(server)
    server.line()
    response, lines = begun(server.url, 12_000)
    server.process.send_signal(signal.SIGINT)
    wait_until(lambda: httpx.get(f"{server.url}/health/ready").status_code == 503, "it goes on to be ready")
    server.process.send_signal(signal.SIGINT)
    breaks_off(response, lines)
    _, said = server.process.communicate(timeout=20)
    assert server.process.returncode == 0 and "Traceback" not in said


def test_a_request_has_its_time(serve: Callable[[Any], Any], engine_pool: Any) -> None:
    """--timeout: 504 for a whole answer, an error as the last event of a stream; its row is free again."""
    engine = engine_pool.borrow(EngineConfig(request_timeout_s=0.5))
    with serve(create_app(engine, ServerConfig())) as url, httpx.Client(base_url=url, timeout=60) as http:
        http.post("/v1/chat/completions", json={**HELLO, "max_tokens": 1})  # loads the model
        whole = http.post("/v1/chat/completions", json=endless_request())
        assert (whole.status_code, whole.json()["error"]["code"]) == (504, "request_timeout")
        assert "0.5 s" in whole.json()["error"]["message"] and "--timeout" in whole.json()["error"]["message"]
        assert whole.headers["x-should-retry"] == "false"
        streamed = http.post("/v1/chat/completions", json={**endless_request(), "stream": True})
        last = [line for line in streamed.text.splitlines() if line][-1]
        assert streamed.status_code == 200 and json.loads(last[6:])["error"]["code"] == "request_timeout"
        wait_until(lambda: not engine.snapshot().running and not engine.num_open, "the row is still held")
        assert http.post("/v1/chat/completions", json=HELLO).status_code == 200


def test_fifty_disconnects_leave_no_rows(demo_server: Any) -> None:
    """At every stage: before the answer, after its head, in the middle; some of them all at once."""
    engine, url = demo_server.engine, f"{demo_server.url}/v1/chat/completions"
    before = engine.snapshot().totals

    def leave(number: int) -> None:
        body = {**endless_request(), "stream": number % 3 != 0}
        try:
            with httpx.stream("POST", url, json=body, timeout=0.2 if number % 3 == 0 else 30) as response:
                lines = response.iter_lines()
                for _ in range(number % 5):
                    next(lines)
        except httpx.ReadTimeout:
            pass

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(leave, range(50)))
    wait_until(lambda: not engine.snapshot().running, "rows are left")
    wait_until(lambda: engine.num_open == 0, "places are left")
    snapshot = engine.snapshot()
    assert snapshot.batch.num_rows == 0 and snapshot.cache.blocks_in_use == 0
    assert snapshot.totals.failed == before.failed and snapshot.totals.cancelled > before.cancelled
    assert httpx.post(url, json=HELLO, timeout=60).status_code == 200
