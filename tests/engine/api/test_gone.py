"""A client that goes away cancels its request, streamed or not."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from engine.runtime.decisions import scorer
from tests.endless import endless_request
from tests.engine.api.protocols import ASK
from tests.waiting import wait_until


@pytest.fixture
def endless() -> dict[str, Any]:
    return endless_request()


def test_closing_a_stream_cancels(demo_server: Any, endless: dict[str, Any]) -> None:
    engine = demo_server.engine
    before = engine.snapshot().totals
    with httpx.stream("POST", f"{demo_server.url}/v1/chat/completions", json={**endless, "stream": True}) as response:
        lines = response.iter_lines()
        for _ in range(8):
            next(lines)
        wait_until(lambda: len(engine.snapshot().running) == 1, "it is not seen to run")
    wait_until(lambda: not engine.snapshot().running, "the request still runs")
    wait_until(lambda: engine.snapshot().totals.cancelled == before.cancelled + 1, "it does not count as cancelled")
    assert engine.snapshot().totals.finished == before.finished


def test_hanging_up_on_a_plain_request_cancels(demo_server: Any, endless: dict[str, Any]) -> None:
    engine = demo_server.engine
    before = engine.snapshot().totals
    address = urlsplit(demo_server.url)
    body = json.dumps(endless).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((address.hostname, address.port)) as line:
        line.sendall(head.encode() + body)
        wait_until(lambda: bool(engine.snapshot().running), "it never began")
    wait_until(lambda: not engine.snapshot().running, "the request still runs")
    wait_until(lambda: engine.snapshot().totals.cancelled == before.cancelled + 1, "it does not count as cancelled")


def test_hanging_up_on_decisions_cancels_them(demo_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In their middle: after a pass, of which they need many."""
    engine, score = demo_server.engine, scorer.score
    num_rows, go_on = [0], threading.Event()

    def held(adapter: Any, stems: Any, *rest: Any) -> Any:
        num_rows[0] += len(stems)
        go_on.wait(60)
        return score(adapter, stems, *rest)

    monkeypatch.setattr(scorer, "score", held)
    before = engine.snapshot().totals
    address = urlsplit(demo_server.url)
    questions = [{"type": "predicate", "instructions": f"Is it number {i}? {'really ' * 60}"} for i in range(400)]
    body = json.dumps({"model": "demo", "input": "a text", "questions": questions}).encode()
    head = "POST /v1/decisions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection((address.hostname, address.port)) as line:
        line.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        wait_until(lambda: num_rows[0], "it never began")
    wait_until(lambda: not engine.num_open, "it is still waited for")
    go_on.set()
    wait_until(lambda: engine.snapshot().totals.cancelled == before.cancelled + 1, "it does not count as cancelled")
    wait_until(lambda: not engine.snapshot().running, "the request still runs")
    assert num_rows[0] < len(questions), "it went on"


def test_the_next_one_is_not_disturbed(demo_server: Any, endless: dict[str, Any]) -> None:
    plain = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 12, "temperature": 0}
    url = f"{demo_server.url}/v1/chat/completions"

    def said() -> str:
        return httpx.post(url, json=plain, timeout=60).json()["choices"][0]["message"]["content"]

    alone = said()
    with httpx.stream("POST", url, json={**endless, "stream": True}) as response:
        lines = response.iter_lines()
        next(lines)
        beside = said()
        assert next(lines) is not None, "it was still writing"
    assert beside == alone == said()


ROUTES = {**{name: ask("write", 4000) for name, ask in ASK.items()}, "completions": ("/v1/completions", {})}
ENDLESS = {"temperature": 1.0, "seed": 7, "min_tokens": 4000, "max_tokens": 4000}


@pytest.mark.parametrize("protocol", ROUTES)
def test_fifty_that_go_away_leave_no_rows(demo_server: Any, protocol: str) -> None:
    """In every protocol: streamed and read a little, streamed and not read, and not streamed."""
    engine = demo_server.engine
    before = engine.snapshot().totals
    path, body = ROUTES[protocol]
    if protocol == "completions":
        body = {"prompt": ["once", "twice"], "n": 2, **ENDLESS}
    elif protocol in ("ollama", "generate"):  # which have no least length: as many as need to be told off
        body = {**body, "format": {"type": "string", "minLength": 3000}}
    else:
        limit = "max_output_tokens" if protocol == "responses" else "max_tokens"
        body = {**body, "temperature": 1.0, "seed": 7, "min_tokens": 4000, limit: 4000}
    address = urlsplit(demo_server.url)
    for i in range(50):
        sent = json.dumps({**body, "stream": i % 3 != 2}).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        with socket.create_connection((address.hostname, address.port)) as line:
            line.sendall(f"{head}Content-Length: {len(sent)}\r\n\r\n".encode() + sent)
            if i % 3 == 0:
                assert line.recv(64).startswith(b"HTTP/1.1 200")
    wait_until(lambda: not engine.snapshot().running, "rows are left")
    wait_until(lambda: engine.snapshot().totals.cancelled > before.cancelled, "nothing was cancelled")
    answer = httpx.post(f"{demo_server.url}/v1/completions", json={"prompt": "x", "max_tokens": 1}, timeout=60)
    assert answer.status_code == 200
