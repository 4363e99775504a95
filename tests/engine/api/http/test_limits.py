"""Requests per minute, and what a line of a stream may hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from engine.api.app import create_app
from engine.api.http.limits import RateLimits
from engine.api.http.lines import one_line
from engine.config import ServerConfig
from engine.errors import Busy

HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}


def test_a_bucket_fills_evenly() -> None:
    now = [0.0]
    limits = RateLimits(6, clock=lambda: now[0])
    for _ in range(6):
        limits.take("a")
    with pytest.raises(Busy, match="6 requests per minute") as refused:
        limits.take("a")
    assert (refused.value.retry_after_s, refused.value.code) == (10, "rate_limit_exceeded")
    limits.take("b")
    now[0] = 9.9
    with pytest.raises(Busy):
        limits.take("a")
    now[0] = 10.1
    limits.take("a")
    now[0] = 1e6
    assert limits.headers("a") == {"X-RateLimit-Limit-Requests": "6", "X-RateLimit-Remaining-Requests": "6"}


def test_no_limit() -> None:
    limits = RateLimits(None)
    for _ in range(1000):
        limits.take("a")
    assert limits.headers("a") == {}


def test_each_key_has_its_own(demo_engine: Any, serve: Callable[[Any], Any]) -> None:
    config = ServerConfig(api_keys=(("a", "ka"), ("b", "kb")), requests_per_minute=2)
    with serve(create_app(demo_engine, config)) as url, httpx.Client(base_url=url, timeout=60) as http:

        def post(key: str) -> httpx.Response:
            return http.post("/v1/chat/completions", json=HELLO, headers={"Authorization": f"Bearer {key}"})

        first = post("ka")
        assert first.status_code == 200 and first.headers["x-ratelimit-remaining-requests"] == "1"
        assert post("ka").status_code == 200
        refused = post("ka")
        assert refused.status_code == 429 and 1 <= int(refused.headers["retry-after"]) <= 30
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert post("kb").status_code == 200, "the other key has its own"
        assert [post("wrong").status_code for _ in range(4)] == [401] * 4, "and a wrong one none"
        models = http.get("/v1/models", headers={"Authorization": "Bearer ka"})
        assert models.status_code == 200, "to look costs nothing"


@pytest.mark.parametrize("character", list("\u0085\u2028\u2029\x0b\x0c\x1c\x1d\x1e\r\nü😀"))
def test_a_line_is_one_line_for_every_reader(character: str) -> None:
    value = {"text": f"a{character}b", character: [character]}
    line = one_line(value)
    assert len(line.splitlines()) == 1 and json.loads(line) == value
    assert list(httpx._decoders.LineDecoder().decode(line + "\n")) == [line]
