"""Errors of servers whose texts could not be written on, or that are in another form: through this one's routes."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from fastapi import Response
from fastapi.responses import JSONResponse

from engine.api.app import create_app
from engine.config import ServerConfig
from tests.engine.remote.conftest import EngineAt
from tests.engine.remote.test_odd_servers import StandIn
from tests.waiting import wait_until

SAID = [{"role": "user", "content": "Hello"}]
QUESTIONS = [{"type": "predicate", "instructions": "Is it a greeting?"}]
HALF = r'{"error": {"message": "x\ud83d", "code": "c\ud83d", "param": "\ude00", "n\ud83d": "\ud83d"}}'
DEEP = '{"error": ' + "[" * 20_000 + "]" * 20_000 + "}"
BODIES = {
    "/v1/chat/completions": {"messages": SAID},
    "/v1/decisions": {"input": SAID, "questions": QUESTIONS},
    "/v1/tokenize": {"prompt": "Hello", "add_special_tokens": False},
    "/v1/detokenize": {"tokens": [5]},
}


@pytest.fixture
def far(serve: Any, engine_at: EngineAt) -> Any:
    """far(models=None) -> (the server behind, a client of this one before it)."""
    opened: list[Any] = []

    def start(models: Response | None = None) -> tuple[StandIn, httpx.Client]:
        behind = StandIn()
        behind.models = models or behind.models
        for app in (behind.app, lambda: create_app(engine_at(opened[0][1], model="odd"), ServerConfig())):
            context = serve(app())
            opened.append((context, context.__enter__()))
        http = httpx.Client(base_url=opened[1][1], timeout=60)
        opened.append((http, http.__enter__()))
        return behind, http

    yield start
    for context, _ in reversed(opened):
        context.__exit__(None, None, None)


@pytest.mark.parametrize("said", [HALF, DEEP], ids=["half a surrogate pair", "deep"])
def test_a_refusal_can_always_be_written(far: Any, said: str) -> None:
    """And the list of requests, for everybody, after it."""
    behind, http = far()
    behind.answer = Response(said, 400)
    for path, body in BODIES.items():
        reply = http.post(path, json={"model": "far", **body})
        assert reply.status_code == 400 and "answered 400" in reply.json()["error"]["message"], (path, reply.text)
    records = http.get("/v1/requests")
    assert records.status_code == 200 and len(records.json()["data"]) == 2, "one of the chat, one of the decisions"


@pytest.mark.parametrize("said", [HALF, DEEP], ids=["half a surrogate pair", "deep"])
def test_so_can_what_keeps_it_from_being_reached(far: Any, said: str) -> None:
    _, http = far(Response(said, 500))
    wait_until(lambda: http.get("/health").json()["models"][0]["state"] == "unreachable", "it seems to be there")
    for path in ("/health", "/v1/models"):
        assert http.get(path).status_code == 200 and "answered 500" in http.get(path).text


@pytest.mark.parametrize("depth", range(850, 1000, 7))
def test_an_error_that_can_be_read_but_hardly_be_written(depth: int) -> None:
    from engine.remote.failures import refusal
    from engine.types import RemoteServer

    body = b'{"error": ' + b"[" * depth + b"]" * depth + b"}"
    assert "answered 400" in refusal(RemoteServer.at("http://far"), 400, {}, body).message


@pytest.mark.parametrize(
    ("fault", "is_lacking"),
    [
        ("value_error", False),
        ("string_too_long", False),
        (None, False),
        ("missing", True),
        ("dict_type", True),
        ("int_parsing", True),
    ],
)
def test_a_refused_value_is_no_route_of_other_fields(far: Any, fault: str | None, is_lacking: bool) -> None:
    """One bad request takes the route from nobody."""
    behind, http = far()
    entry = {"loc": ["body", "questions"], "msg": "not so", **({"type": fault} if fault else {})}
    behind.answer = JSONResponse({"detail": [entry]}, 422)
    for _ in range(2):
        reply = http.post("/v1/decisions", json=BODIES["/v1/decisions"])
        assert reply.status_code in (400, 422) and "not so" in reply.text
        assert (reply.json()["error"]["code"] == "remote_model") == is_lacking
    assert len(behind.asked) == (1 if is_lacking else 2)


@pytest.mark.parametrize(
    "error",
    [
        {"message": "The model `x` does not exist.", "param": None},
        {"object": "error", "message": "The model `x` does not exist.", "type": "NotFoundError", "code": 404},
        {"message": "no", "code": "model_not_found"},
        {"error": {"message": "model 'x' not found, try pulling it first"}},
    ],
)
def test_a_model_that_is_not_there_is_no_route_that_is_not(far: Any, error: Any) -> None:
    behind, http = far()
    behind.answer = JSONResponse(error, 404)
    for _ in range(2):
        reply = http.post("/v1/tokenize", json=BODIES["/v1/tokenize"])
        assert reply.status_code == 404 and "does not have" not in reply.text
        assert json.loads(reply.text)["error"]["param"] == "model"
    assert len(behind.asked) == 2
