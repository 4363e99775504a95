"""A server that is loading, full, at fault, or behind a reverse proxy."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.api.answering import exchange
from engine.api.app import create_app
from engine.arguments.engine import add_engine_arguments, engine_config
from engine.config import EngineConfig, ServerConfig
from engine.core import Engine
from tests import pictures
from tests.endless import endless_request
from tests.waiting import wait_until

HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}


def test_a_request_waits_for_the_model_and_then_is_told_to_come_back(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(EngineConfig())
    with serve(create_app(engine, ServerConfig())) as url:
        monkeypatch.setattr(exchange, "LOADING_WAIT_S", 0.1)
        response = httpx.post(f"{url}/v1/chat/completions", json=HELLO)
        assert response.status_code == 503 and response.json()["error"]["code"] == "model_not_ready"
        assert int(response.headers["retry-after"]) > 0
        monkeypatch.undo()
        engine.start()
        try:
            assert httpx.post(f"{url}/v1/chat/completions", json=HELLO, timeout=60).status_code == 200
        finally:
            engine.stop()


async def test_a_full_queue_is_429_with_a_time_to_come_back(serve: Callable[..., Any], engine_pool: Any) -> None:
    engine = engine_pool.start(EngineConfig(max_num_seqs=1, max_queue=1))
    await engine.ready()
    body = {**endless_request(), "stream": True}
    with serve(create_app(engine, ServerConfig())) as base, httpx.Client(base_url=base, timeout=60) as http:
        with http.stream("POST", "/v1/chat/completions", json=body) as first:
            lines = first.iter_lines()
            next(lines)
            with ThreadPoolExecutor(4) as pool:
                refused = list(pool.map(lambda _: _status(base, body), range(4)))
            assert sorted(status for status, _ in refused) == [0, 429, 429, 429], "one waits, three are too many"
            headers = next(headers for status, headers in refused if status == 429)
            assert int(headers["retry-after"]) > 0
        wait_until(lambda: not engine.snapshot().running, "they still run")
        assert http.post("/v1/chat/completions", json=HELLO).status_code == 200


def _status(base: str, body: dict[str, Any]) -> tuple[int, httpx.Headers]:
    """Status of a request that is left alone after a second: a waiting one has none yet, and counts as 0."""
    try:
        with httpx.stream("POST", f"{base}/v1/chat/completions", json=body, timeout=1.0) as response:
            return response.status_code, response.headers
    except httpx.ReadTimeout:
        return 0, httpx.Headers()


@pytest.mark.parametrize("stream", [False, True])
def test_a_fault_of_ours_is_a_500_with_an_id_and_keeps_secrets(
    demo_server: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    async def fails(request: Any) -> Any:
        raise KeyError(request.messages[0].parts[0].text)
        yield

    monkeypatch.setattr(demo_server.engine, "stream", fails)
    body = {**HELLO, "messages": [{"role": "user", "content": "my secret"}], "stream": stream}
    with caplog.at_level(logging.DEBUG):
        response = httpx.post(f"{demo_server.url}/v1/chat/completions", json=body)
    assert response.status_code == 500 and response.json()["error"]["code"] == "internal_error"
    assert "my secret" not in response.text and "my secret" not in caplog.text
    message = response.json()["error"]["message"]
    (request_id,) = [word for word in message.replace(";", "").split() if word.startswith("chatcmpl-")]
    assert f"request {request_id} failed: KeyError" in caplog.text and "test_server_states.py" in caplog.text


def test_the_id_of_a_request_is_in_a_header(demo_server: Any) -> None:
    response = httpx.post(f"{demo_server.url}/v1/chat/completions", json=HELLO, timeout=60)
    assert response.headers["x-request-id"] == response.json()["id"]
    assert httpx.get(f"{demo_server.url}/v1/models").headers["x-request-id"].startswith("req-")
    for path, status in (("models/nobody", 404), ("requests?limit=0", 400), ("responses/nobody", 404)):
        refused = httpx.get(f"{demo_server.url}/v1/{path}")
        assert refused.status_code == status and refused.headers["x-request-id"].startswith(("req-", "resp")), path


def test_behind_a_prefix_that_a_proxy_keeps_or_strips(demo_engine: Any, serve: Callable[..., Any]) -> None:
    with serve(create_app(demo_engine, ServerConfig(root_path="/box"))) as url:
        for prefix in ("", "/box"):
            assert httpx.get(f"{url}{prefix}/v1/models").status_code == 200
            assert httpx.get(f"{url}{prefix}/health").status_code == 200
    with serve(create_app(demo_engine, ServerConfig(root_path="/box", api_keys=(("a", "b"),)))) as url:
        for prefix in ("", "/box"):
            assert httpx.get(f"{url}{prefix}/v1/models").status_code == 401


def test_the_limits_of_a_server_are_said(engine_pool: Any, serve: Callable[..., Any], clip_path: Path) -> None:
    """--limit-mm-per-prompt and --max-model-len: 400, with the number that was sent and the limit."""
    parser = argparse.ArgumentParser()
    add_engine_arguments(parser)
    args = parser.parse_args(["--limit-mm-per-prompt", "image=2,video=0", "--max-model-len", "60"])
    engine = engine_pool.borrow(engine_config(args))
    still = {"type": "image_url", "image_url": {"url": pictures.picture_url()}}
    clip = {"type": "video", "video": pictures.data_url(clip_path.read_bytes(), "video/mp4")}
    with serve(create_app(engine, ServerConfig())) as base:

        def post(*parts: Any) -> httpx.Response:
            body = {"messages": [{"role": "user", "content": [*parts, {"type": "text", "text": "?"}]}], "max_tokens": 1}
            return httpx.post(f"{base}/v1/chat/completions", json=body, timeout=60)

        assert "3 images were sent; the limit is 2" in post(still, still, still).json()["error"]["message"]
        assert "1 video was sent; the limit is 0" in post(clip).json()["error"]["message"]
        long = post({"type": "text", "text": "word " * 80})
        assert (long.status_code, long.json()["error"]["code"]) == (400, "context_length_exceeded")
        assert "this model's context is 60" in long.json()["error"]["message"]
        assert post(still).status_code == 200
