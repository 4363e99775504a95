"""Servers that answer otherwise: refusals, redirects, streams that break off, nothing told, no stream at all."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from engine.errors import BadGateway, BadRequest, Busy, EngineError, ModelNotFound, TooLarge, Unavailable
from engine.remote.connection import MAX_LIST_BYTES, listed_models
from engine.types import Completion, RemoteServer
from tests.engine.drive import chat
from tests.engine.remote.conftest import EngineAt
from tests.pictures import picture
from tests.waiting import wait_until

KEY = "the-planted-key-1234"
MODELS = {"data": [{"id": "odd", "max_model_len": 4096}]}


class StandIn:
    """A server that answers as it is told. asked: the bodies that came, and paths: where to; headers: theirs."""

    def __init__(self) -> None:
        self.answer: Response = JSONResponse({})
        self.models: Response = JSONResponse(MODELS)
        self.asked: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/v1/models")
        async def models() -> Response:
            return self.models

        @app.post("/{path:path}")
        async def answer(path: str, request: Request) -> Response:
            self.paths.append(path)
            self.asked.append(await request.json())
            self.headers.append(dict(request.headers))
            return self.answer

        return app


@pytest.fixture
def odd(serve: Callable[..., Any], engine_at: EngineAt) -> Iterator[Any]:
    """with odd() as (stand_in, ask): ask(request) gives the Completion. models: the answer to who asks for its list,
    which is asked for from the start on. Other keywords go to the engine."""

    @contextmanager
    def made(models: Response | None = None, **settings: Any) -> Iterator[Any]:
        stand_in = StandIn()
        stand_in.models = models or stand_in.models
        with serve(stand_in.app()) as url:
            engine = engine_at(url, KEY, settings.pop("model", None), **settings)

            def ask(request: Any) -> Completion:
                return asyncio.run(engine.complete(request))

            yield stand_in, ask

    return made


def events(*chunks: Any, mark: bool = True) -> StreamingResponse:
    """Server-sent events of these objects, with the mark of the end."""
    lines = [f"data: {chunk if isinstance(chunk, str) else json.dumps(chunk)}\r\n\r\n" for chunk in chunks]
    return StreamingResponse(iter([*lines, "data: [DONE]\n\n"] if mark else lines), media_type="text/event-stream")


def piece(text: str = "", reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text, **delta}, "finish_reason": reason}]}


@pytest.mark.parametrize(
    ("status", "body", "error", "code", "words"),
    [
        (
            400,
            {"error": {"message": "top_k: no", "param": "top_k", "code": "odd"}},
            BadRequest,
            "odd",
            "400: top_k: no",
        ),
        (422, {"detail": [{"loc": ["body"]}]}, BadRequest, "invalid_value", '422: [{"loc": ["body"]}]'),
        (401, {"error": {"message": f"wrong: {KEY}"}}, BadGateway, "server_key_refused", "wrong: [secret]"),
        (403, "no", BadGateway, "server_refused", "answered 403: no"),
        (404, {"error": "no such model"}, ModelNotFound, "model_not_found", "404: no such model"),
        (413, "", TooLarge, "request_too_large", "413: nothing more"),
        (500, "a\n\n  trace" + "x" * 9000, BadGateway, "server_failed", "500: a trace"),
        (503, {"message": "busy"}, Unavailable, "server_unavailable", "503: busy"),
        (418, "tea", BadRequest, "invalid_value", "418: tea"),
    ],
)
def test_a_refusal_says_who_and_what(
    odd: Any, status: int, body: Any, error: type[EngineError], code: str, words: str
) -> None:
    with odd() as (stand_in, ask):
        stand_in.answer = Response(body if isinstance(body, str) else json.dumps(body), status)
        with pytest.raises(error) as refused:
            ask(chat("a"))
    message = refused.value.message
    assert refused.value.code == code and words in message and "127.0.0.1:" in message
    assert KEY not in message and len(message) < 700 and "\n" not in message


def test_no_field_of_an_error_tells_the_key(odd: Any) -> None:
    said = {"message": f"no {KEY}", "code": f"bad {KEY}", "param": f"{'x' * 90}{KEY}"}
    with odd() as (stand_in, ask):
        stand_in.answer = JSONResponse({"error": said}, 400)
        with pytest.raises(BadRequest) as refused:
            ask(chat("a"))
    told = json.dumps(refused.value.to_openai())
    assert "[secret]" in told and KEY[:10] not in told


def test_one_refused_request_is_not_a_server_that_is_away(serve: Any, engine_at: EngineAt) -> None:
    stand_in = StandIn()
    with serve(stand_in.app()) as url:
        engine = engine_at(url, KEY)
        wait_until(lambda: engine.models()[0].stage == "ready", "it is never reached")
        stand_in.answer = Response("not this", 403)
        with pytest.raises(BadGateway, match="not this"):
            asyncio.run(engine.complete(chat("a")))
        assert engine.models()[0].stage == "ready"


def test_a_busy_server_says_when_to_come_back(odd: Any) -> None:
    with odd() as (stand_in, ask):
        stand_in.answer = Response("later", 429, headers={"Retry-After": "17"})
        with pytest.raises(Busy, match="answered 429: later") as refused:
            ask(chat("a"))
    assert refused.value.retry_after_s == 17


def test_nothing_is_sent_on_to_another_address(odd: Any, serve: Any) -> None:
    other = StandIn()
    with odd() as (stand_in, ask), serve(other.app()) as elsewhere:
        stand_in.answer = Response("", 307, headers={"Location": f"{elsewhere}/v1/chat/completions"})
        with pytest.raises(BadGateway, match="which is not followed"):
            ask(chat("a"))
    assert not other.asked and stand_in.headers[-1]["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda: events(piece("Hel"), mark=False), "broke off"),
        (lambda: events(piece("Hel"), piece("", "abort")), "gave the answer up"),
        (
            lambda: events(piece("Hel"), {"error": {"message": f"lost {KEY}"}}),
            r"stopped with an error: lost \[secret\]",
        ),
        (lambda: events(piece("Hel"), "{no json"), "cannot be read"),
        (lambda: events({"choices": [{"delta": {"content": 5}}]}), "cannot be read"),
        (lambda: events({"choices": 7}), "cannot be read"),
        (lambda: events({"choices": [{"index": -3, "delta": {"content": "a"}}]}), "cannot be read"),
        (lambda: events({"choices": [{"index": 1, "delta": {"content": "a"}}]}), "cannot be read"),
        (lambda: events('{"choices": [{"index": 1e999, "delta": {"content": "a"}}]}'), "cannot be read"),
        (lambda: events('{"choices": [], "usage": {"media": [{"duration": NaN}]}}'), "cannot be read"),
        (lambda: events("[" * 100_000), "cannot be read"),
        (lambda: Response("<html>", media_type="text/html"), "cannot be read"),
        (lambda: JSONResponse({"error": {"message": "in a 200"}}), "in a 200"),
    ],
)
def test_an_answer_that_is_none(odd: Any, answer: Callable[[], Response], words: str) -> None:
    with odd() as (stand_in, ask):
        stand_in.answer = answer()
        with pytest.raises(BadGateway, match=words) as failed:
            ask(chat("a"))
    assert KEY not in failed.value.message


def test_what_a_server_does_not_tell_is_not_made_up(odd: Any) -> None:
    """Neither tokens nor receipts; the end is known by its mark alone. Line ends within JSON are none."""
    text = "Hello\u2028there\x85"
    with odd() as (stand_in, ask):
        stand_in.answer = events(json.dumps(piece(text), ensure_ascii=False))
        done = ask(chat(picture(), "What is it?"))
    by = done.done.served_by
    assert (done.text, done.done.finish_reason) == (text, "stop")
    assert by is not None and (by.model, by.tells_usage, by.tells_media, by.num_media) == ("odd", False, False, 1)
    assert done.done.media == () and done.done.trace is None
    [body] = stand_in.asked
    assert body["model"] == "odd" and body["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/png")
    assert body["stream_options"] == {"include_usage": True} and "top_k" not in body and body["temperature"] == 0.0


def test_reasoning_calls_and_usage_of_other_servers(odd: Any) -> None:
    """As vLLM and others write them: `reasoning`, calls whose ids come late or never, a whole answer."""
    call = {"function": {"name": "paint", "arguments": '{"a"'}}
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": None, "media": "odd", "cache": 3}
    with odd() as (stand_in, ask):
        stand_in.answer = events(
            piece(reasoning="hm"),
            {"choices": [{"delta": {"tool_calls": [{"index": 0, **call}]}}]},
            {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]}}]},
            piece("", "tool_calls"),
            {"choices": [], "usage": usage},
            mark=False,
        )
        done = ask(chat("a"))
        message = {"content": "Hi", "reasoning_content": "hm", "tool_calls": [{"id": "c1", **call}]}
        choices = [{"index": 0, "message": message, "finish_reason": "length"}]
        stand_in.answer = JSONResponse({"choices": choices, "usage": usage})
        whole = ask(chat("a"))
    assert done.choices[0].reasoning == "hm" and done.tool_calls[0].arguments == '{"a": 1}' and done.tool_calls[0].id
    assert (done.done.usage.prompt_tokens, done.done.usage.completion_tokens) == (5, 7)
    assert done.done.media == () and done.done.trace is None and done.done.finish_reason == "tool_calls"
    assert (whole.text, whole.choices[0].reasoning, whole.tool_calls[0].id) == ("Hi", "hm", "c1")
    assert whole.done.finish_reason == "length"


@pytest.mark.parametrize(
    "logprobs",
    [
        {"tokens": ["a", "b"], "token_logprobs": [-1.0]},
        {"content": [{"token": "a", "logprob": -1.0, "bytes": 2_000_000_000}]},
        {"content": [{"token": "a", "logprob": "nan"}]},
    ],
)
def test_probabilities_in_another_form(odd: Any, logprobs: Any) -> None:
    with odd() as (stand_in, ask):
        stand_in.answer = events({"choices": [{"delta": {"content": "a"}, "logprobs": logprobs}]}, piece("", "stop"))
        with pytest.raises(BadGateway, match="cannot be read"):
            ask(replace(chat("a"), logprobs=0))


def test_half_of_an_emoji_is_text_all_the_same(odd: Any) -> None:
    with odd() as (stand_in, ask):
        stand_in.answer = events(piece("Hi \ud83d"), piece("\ude00 \U0001f600", "stop"))
        assert ask(chat("a")).text == "Hi \ufffd\ufffd \U0001f600"


def test_half_of_an_emoji_far_inside_is_no_fault(odd: Any) -> None:
    with odd() as (stand_in, ask):
        deep = "[" * 600 + "]" * 600
        stand_in.answer = events(f'{{"choices": [], "other": ["\\ud83d", {deep}]}}', piece("Hi", "stop"))
        assert ask(chat("a")).text == "Hi"


def test_calls_without_a_number_are_told_apart(odd: Any) -> None:
    """Each in a chunk of its own; what has no id belongs to the call before it."""

    def call(arguments: str, **more: Any) -> Any:
        return piece(tool_calls=[{"function": {"name": more.pop("name", ""), "arguments": arguments}, **more}])

    with odd() as (stand_in, ask):
        stand_in.answer = events(
            call("{", id="a", name="f"),
            call("}"),
            call('{"x"', id="b", name="g"),
            call(": 1}"),
            piece("", "tool_calls"),
        )
        calls = ask(chat("a")).tool_calls
    assert [(one.id, one.name, one.arguments) for one in calls] == [("a", "f", "{}"), ("b", "g", '{"x": 1}')]


def test_a_server_without_a_list_of_models(odd: Any) -> None:
    with odd(models=Response("", 404)) as (stand_in, ask):
        stand_in.answer = events(piece("Hi", "stop"))
        with pytest.raises(BadGateway, match="name one") as refused:
            ask(chat("a"))
        assert refused.value.code == "server_model_unknown"
    with odd(models=Response("", 404), model="named") as (stand_in, ask):
        stand_in.answer = events(piece("Hi", "stop"))
        assert ask(chat("a")).text == "Hi" and stand_in.asked[0]["model"] == "named"


def test_a_list_that_does_not_end(serve: Any) -> None:
    stand_in = StandIn()
    stand_in.models = StreamingResponse(iter(["x" * 2**20] * (MAX_LIST_BYTES // 2**20 + 2)))
    with serve(stand_in.app()) as url, pytest.raises(BadGateway, match="does not end"):
        listed_models(RemoteServer.at(url))


def test_what_cannot_be_reached_says_why(engine_at: EngineAt) -> None:
    engine = engine_at("http://127.0.0.1:9", KEY)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9 cannot be reached: connection refused") as refused:
        asyncio.run(engine.complete(chat("a")))
    assert refused.value.code == "server_unreachable"
    wait_until(lambda: engine.models()[0].stage == "failed", "it seems to be there")
    assert engine.snapshot().state == "ready", "the engine waits for it"
    engine = engine_at("http://no-such-host.invalid", KEY)
    with pytest.raises(Unavailable, match=r"no-such-host\.invalid cannot be reached"):
        asyncio.run(engine.complete(chat("a")))


def test_a_server_without_tls(serve: Any, engine_at: EngineAt) -> None:
    with serve(StandIn().app()) as url:
        engine = engine_at(url.replace("http:", "https:"), KEY)
        with pytest.raises(Unavailable, match="TLS failed"):
            asyncio.run(engine.complete(chat("a")))
    assert ssl.OPENSSL_VERSION


def test_an_answer_has_its_time(odd: Any) -> None:
    """--timeout counts there, too."""

    async def slow() -> Any:
        yield f"data: {json.dumps(piece('Hi'))}\n\n"
        await asyncio.sleep(60)

    with odd(request_timeout_s=1.0) as (stand_in, ask):
        stand_in.answer = StreamingResponse(slow(), media_type="text/event-stream")
        with pytest.raises(EngineError, match="--timeout") as late:
            ask(chat("a"))
    assert late.value.code == "request_timeout"
