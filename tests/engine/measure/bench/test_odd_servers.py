"""A benchmark of a server that answers otherwise: plain words, and its key in none of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import Response

from engine.errors import BadRequest, EngineError
from engine.measure import openai_client
from engine.measure.bench.events import Finished
from engine.measure.bench.plan import BenchSettings
from engine.measure.bench.questions import Question
from engine.measure.bench.remote import HttpTarget, Server
from engine.measure.bench.run import Run
from engine.measure.bench.suites import SUITES
from engine.measure.openai_client import ERROR_CHARS, MAX_ANSWER_BYTES
from tests.engine.remote.test_odd_servers import StandIn, events, piece

KEY = "the-planted-key-1234"
READING = Question("7 river stone", 8)
USAGE = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}


def good() -> Response:
    return events(piece("red"), piece(" sea", "stop"), USAGE)


@pytest.fixture
def odd(serve: Callable[..., Any]) -> Any:
    """(a server that answers as it is told, a target that measures it with KEY)."""
    server = StandIn()
    with serve(server.app()) as url:
        yield server, HttpTarget(url, Server(api_key=KEY, model="odd"))


@pytest.mark.parametrize(
    "answer",
    [
        lambda: Response(json.dumps({"message": f"bad key Bearer {KEY}"}), 401),
        lambda: Response("x" * (ERROR_CHARS - len(KEY) // 2) + KEY, 500),
        lambda: events(piece("red"), {"error": {"message": f"lost {KEY}"}}),
        lambda: Response(f"[{KEY!r}", media_type="application/json"),
    ],
    ids=["refused", "cut", "in the middle", "no JSON"],
)
async def test_no_message_holds_the_key(odd: Any, answer: Callable[[], Response]) -> None:
    server, target = odd
    server.answer = answer()
    with pytest.raises(EngineError) as streamed:
        await target.ask(READING)
    with pytest.raises(EngineError) as whole:
        await target._client.request("POST", "/v1/chat/completions", {})
    await target.close()
    assert KEY[:8] not in streamed.value.message + whole.value.message


async def test_no_result_holds_the_key(odd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where some answers came before it was refused, the rows tell why."""
    server, target = odd
    refused = Response(json.dumps({"message": f"bad key Bearer {KEY}"}), 401)
    ask, asked = target.ask, 0

    async def sometimes(*args: Any) -> Any:
        nonlocal asked
        asked += 1
        server.answer = good() if asked <= 1 else refused
        return await ask(*args)

    monkeypatch.setattr(target, "ask", sometimes)
    run = Run([SUITES["text"]], [target], BenchSettings(prompts=2, max_tokens=4, warmup=0, quick=True))
    found = [event async for event in run.events()]
    await target.close()
    assert isinstance(found[-1], Finished)
    told = json.dumps(found[-1].result.json()) + repr(found)
    assert "bad key Bearer [secret]" in told and KEY not in told


@pytest.mark.parametrize(
    "chunk",
    [
        {"choices": [1]},
        {"choices": 7},
        {"choices": [{"delta": 3}]},
        {"usage": {"completion_tokens": "x"}},
        {"usage": {"completion_tokens": 1, "media": [1]}},
        '{"choices": ' + "[" * 50_000 + "]" * 50_000 + "}",
    ],
)
async def test_an_answer_in_another_form_is_an_error_of_that_server(odd: Any, chunk: Any) -> None:
    server, target = odd
    server.answer = events(chunk)
    with pytest.raises(BadRequest, match=r"in another form|cannot be read"):
        await target.ask(READING)
    await target.close()


async def test_half_of_an_emoji_is_measured(odd: Any) -> None:
    server, target = odd
    server.answer = events(piece("Hi \ud83d"), piece("", "stop"), USAGE)
    assert (await target.ask(READING)).completion_tokens == 2
    server.answer = events({"error": "x\ud83d"})
    with pytest.raises(BadRequest, match="stopped with an error: x\ufffd"):
        await target.ask(READING)
    await target.close()


async def test_an_answer_has_an_end(odd: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server, target = odd
    assert MAX_ANSWER_BYTES > 2**20
    monkeypatch.setattr(openai_client, "MAX_ANSWER_BYTES", 1000)
    server.answer = Response(b" " * 2000, 500)
    with pytest.raises(BadRequest, match="answered more than 1000 bytes"):
        await target.ask(READING)
    with pytest.raises(BadRequest, match="answered more than 1000 bytes"):
        await target._client.request("POST", "/v1/x", {})
    server.answer = events(*[piece("red")] * 30)
    with pytest.raises(BadRequest, match="answered more than 1000 bytes"):
        await target.ask(READING)
    server.answer = Response(b" " * 2000)
    assert await target._client.optional("POST", "/v1/x", {}) == {}
    await target.close()
