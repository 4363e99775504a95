"""A server of this project behind another: the same answers, pictures, receipts, cancelling, loss and return."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import httpx
import pytest

from engine.access.visibility import caller
from engine.api.app import create_app
from engine.config import EngineConfig, LogLimits, ModelSpec, ServerConfig
from engine.core import Engine
from engine.errors import BadRequest, EngineError
from engine.request_log.archive import packed
from engine.request_log.body import request_body
from engine.types import Completion, Delta, Grammar, Part, Request, Tool, ToolChoice, ToolMode
from tests.commands import Running
from tests.endless import endless_request
from tests.engine.api.http.test_openapi import check
from tests.engine.drive import ask, chat
from tests.engine.remote.conftest import EngineAt
from tests.pictures import data_url, encode, picture
from tests.waiting import until, wait_until

QUESTION = "What is in this image?"
KEY = "the-planted-key-1234"
SHAPE = json.dumps({"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"]})


async def whole(engine: Engine, request: Request) -> Completion:
    async with asyncio.timeout(60):
        return await engine.complete(request)


async def reached(engine: Engine) -> None:
    """Until the model's card says what that server says of it."""
    await until(lambda: (card := engine.snapshot().model) is not None and card.takes_known, "it is never reached")


async def test_the_same_answer_as_there(demo_engine: Any, demo_server: Any, engine_at: EngineAt) -> None:
    await demo_engine.ready()
    far = engine_at(demo_server.url)
    for request in (chat("Hello", max_tokens=30), chat(picture("red"), QUESTION, max_tokens=30)):
        here = await ask(demo_engine, request)
        there = await whole(far, request)
        assert there.text == here.text and there.text
        assert there.done.finish_reason == here.done.finish_reason
        assert there.done.usage.prompt_tokens == here.done.usage.prompt_tokens
        assert there.done.usage.completion_tokens == here.done.usage.completion_tokens
        assert there.done.served_by is not None and there.done.served_by.tells_usage
        assert 0 < there.done.timing.ttft_ms <= there.done.timing.total_ms
    assert "red" in there.text
    seen, told = here.done.media[0], there.done.media[0]
    assert (told.seen_px, told.tokens, told.sha256, told.param) == (seen.seen_px, seen.tokens, seen.sha256, seen.param)
    assert there.done.trace is not None and there.done.trace.reused_tokens == there.done.usage.cached_tokens > 0


async def test_it_comes_in_pieces(demo_engine: Any, demo_server: Any, engine_at: EngineAt) -> None:
    await demo_engine.ready()
    far = engine_at(demo_server.url)
    deltas = []
    async with aclosing(far.stream(chat("Hello", max_tokens=30))) as events:
        async for event in events:
            deltas.append(event)
            if len(deltas) == 3:
                assert [row.stage for row in far.snapshot().running] == ["decode"]
                assert far.models()[0].num_requests == 1
    assert sum(isinstance(event, Delta) and bool(event.text) for event in deltas) > 5
    assert not far.snapshot().running and far.models()[0].num_requests == 0


async def test_files_clips_and_several_answers(
    demo_engine: Any, demo_server: Any, engine_at: EngineAt, tmp_path: Any, clip_path: Any
) -> None:
    """A medium that lies on this machine goes there as it is."""
    await demo_engine.ready()
    (file := tmp_path / "shape.png").write_bytes(encode(picture("blue", "square")))
    far = engine_at(demo_server.url)
    asked = chat(QUESTION, max_tokens=20)
    local = replace(
        asked.messages[0], parts=(Part("image", path=str(file), param="shape.png"), *asked.messages[0].parts)
    )
    done = await whole(far, replace(asked, messages=(local,), n=2))
    assert [choice.text for choice in done.choices] == [done.text] * 2 and "blue" in done.text
    assert done.done.media[0].param == "shape.png"
    clip = await whole(far, chat(clip_path, "What moves?", max_tokens=10))
    assert clip.done.media[0].kind == "video" and len(clip.done.media[0].frames) > 1


async def test_calls_and_schemas_pass_through(demo_engine: Any, demo_server: Any, engine_at: EngineAt) -> None:
    await demo_engine.ready()
    far = engine_at(demo_server.url)
    held = await whole(far, chat("Which colour?", max_tokens=40, grammar=Grammar("json_schema", SHAPE)))
    assert json.loads(held.text)["colour"] in ("red", "blue")
    mode: ToolMode = "required"
    tool = Tool("paint", "Paints.", json.loads(SHAPE))
    asked = chat("Paint it", max_tokens=60, tools=(tool,), tool_choice=ToolChoice(mode))
    here, there = await ask(demo_engine, asked), await whole(far, asked)
    [call] = there.tool_calls
    assert call.id and (call.name, json.loads(call.arguments)["colour"] in ("red", "blue")) == ("paint", True)
    assert (call.name, call.arguments) == (here.completion.tool_calls[0].name, here.completion.tool_calls[0].arguments)
    assert there.done.finish_reason == here.done.finish_reason


async def test_probabilities_come_with_their_texts(demo_engine: Any, demo_server: Any, engine_at: EngineAt) -> None:
    await demo_engine.ready()
    far = engine_at(demo_server.url)
    asked = chat("Hello", max_tokens=8, logprobs=2)
    here, there = await ask(demo_engine, asked), await whole(far, asked)
    text_of, own = await far.token_texts(), await demo_engine.token_texts()
    shown = [token for token in here.tokens if own(token.id).raw is not None]
    assert [text_of(token.id) for token in there.tokens] == [own(token.id) for token in shown] and shown
    for one, other in zip(there.tokens, shown, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-3)
        assert [text_of(id).text for id, _ in one.top] == [own(id).text for id, _ in other.top]


async def test_what_its_operator_said_goes_along(demo_engine: Any, demo_server: Any, engine_at: EngineAt) -> None:
    """--temperature holds for requests that leave it open, here too."""
    await demo_engine.ready()
    sampling = chat("").sampling
    far = engine_at(demo_server.url, sampling=sampling)
    open_request = replace(chat("Hello", max_tokens=20), sampling=replace(sampling, temperature=None))
    texts = {(await whole(far, open_request)).text for _ in range(3)}
    assert texts == {(await ask(demo_engine, chat("Hello", max_tokens=20))).text}


async def test_what_needs_the_model_here_says_so(demo_engine: Any, demo_server: Any, engine_at: EngineAt) -> None:
    await demo_engine.ready()
    far = engine_at(demo_server.url)
    host = demo_server.url.partition("://")[2]
    for work in (
        far.preflight(chat(picture(), "a"), pictures=True),
        far.load_model("far"),
        far.unload_model("far"),
        far.check_grammar(Grammar("json_object")),
        far.likelihood(chat("a"), (1, 2)),
        whole(far, replace(chat("a"), reuse=False)),
    ):
        with pytest.raises(BadRequest, match=f"far is served by {host}") as refused:
            await work
        assert refused.value.code == "remote_model"
    assert far.snapshot().state == "ready" and not far.snapshot().models


async def test_its_card_is_what_that_server_says(demo_engine: Any, demo_server: Any, engine_at: EngineAt) -> None:
    there = await demo_engine.ready()
    far = engine_at(demo_server.url)
    await reached(far)
    card = await far.ready()
    assert (card.id, card.server) == ("far", demo_server.url.partition("://")[2])
    assert (card.context_tokens, card.vision, card.video, card.audio) == (
        there.context_tokens,
        there.vision,
        there.video,
        there.audio,
    )
    with pytest.raises(BadRequest, match="cannot take audio"):
        await whole(far, chat(b"RIFF", "What is said?"))


def test_leaving_reaches_the_other_server(
    demo_engine: Any, demo_server: Any, engine_at: EngineAt, serve: Callable[..., Any]
) -> None:
    far = engine_at(demo_server.url)
    body = {**endless_request(), "stream": True}
    with serve(create_app(far, ServerConfig())) as url:
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as response:
            lines = response.iter_lines()
            while '"content":"' not in (line := next(lines)) or '"content":""' in line:
                pass
            assert httpx.get(f"{demo_server.url}/health").json()["running"] == 1
            assert httpx.get(f"{url}/health").json()["running"] == 1
        wait_until(lambda: httpx.get(f"{demo_server.url}/health").json()["running"] == 0, "it runs on there")
        wait_until(lambda: httpx.get(f"{url}/health").json()["running"] == 0, "it runs on here")


async def test_the_end_of_the_engine_ends_its_answers(demo_engine: Any, demo_server: Any, engine_at: EngineAt) -> None:
    await demo_engine.ready()
    far = engine_at(demo_server.url)
    bias = tuple((int(id), float(value)) for id, value in endless_request()["logit_bias"].items())
    asked = chat("hi", max_tokens=2000)
    asked = replace(asked, sampling=replace(asked.sampling, logit_bias=bias))
    with pytest.raises(EngineError, match="The engine was stopped"):
        async with aclosing(far.stream(asked)) as events:
            await anext(events)
            far.stop()
            async for _ in events:
                pass
    await until(lambda: not demo_engine.snapshot().running, "it runs on there")


def test_a_server_that_dies_in_the_middle_and_comes_back(
    engine_at: EngineAt, serve: Callable[..., Any], started: list[Running]
) -> None:
    first = Running()
    started.append(first)
    first.line()
    port = first.url.rpartition(":")[2]
    far = engine_at(first.url)
    with serve(create_app(far, ServerConfig())) as url, httpx.Client(base_url=url, timeout=60) as http:
        wait_until(lambda: http.get("/v1/models").json()["data"][0]["max_model_len"], "it is never reached")
        body = {**endless_request(), "stream": True}
        with http.stream("POST", "/v1/chat/completions", json=body) as response:
            lines = response.iter_lines()
            while '"content":"' not in (line := next(lines)) or '"content":""' in line:
                pass
            first.kill()
            *_, last = [line for line in lines if line]
        error = json.loads(last.removeprefix("data: "))["error"]
        assert error["code"] == "server_broke_off" and f"127.0.0.1:{port} broke off" in error["message"]
        wait_until(lambda: http.get("/v1/models").json()["data"][0]["state"] == "unreachable", "it seems to be there")
        health = http.get("/health").json()
        assert (health["status"], health["models"][0]["state"]) == ("ok", "unreachable")
        assert "connection refused" in health["models"][0]["error"]
        refused = http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "a"}]})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "server_unreachable")
        second = Running("--port", port)
        started.append(second)
        wait_until(lambda: http.get("/v1/models").json()["data"][0]["state"] == "ready", "it is not seen again")
        again = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5}
        assert http.post("/v1/chat/completions", json=again).status_code == 200


def test_a_key_is_sent_and_shown_nowhere(
    demo_engine: Any, engine_at: EngineAt, serve: Callable[..., Any], tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The planted key is in no log, no answer, no error, no file and no zip; and without it nothing is answered."""
    caplog.set_level("DEBUG")
    file = tmp_path / "requests.jsonl"
    limits = LogLimits(file=file)
    config = ServerConfig(api_keys=(("user", KEY),))
    said = ""
    with serve(create_app(demo_engine, config)) as behind:
        for key in (KEY, "another-key-5678", None):
            far = engine_at(behind, key, request_log=limits)
            with serve(create_app(far, ServerConfig())) as url, httpx.Client(base_url=url, timeout=60) as http:
                body = {"messages": [{"role": "user", "content": f"Is {key} a word?"}], "max_tokens": 4}
                reply = http.post("/v1/chat/completions", json=body)
                state = http.get("/v1/models").json()["data"][0]
                said += reply.text + json.dumps(state) + http.get("/health").text + http.get("/v1/requests").text
                said += repr(far.config) + repr(far.snapshot()) + repr(far.models())
                if key == KEY:
                    assert reply.status_code == 200 and state["state"] == "ready"
                    record = far.requests.records()[0]
                    told = asyncio.run(far.logged(record, caller(ServerConfig(), "", "")))
                    archive = packed(request_body(far.requests, record), told)
                    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
                        said += "".join(opened.read(name).decode(errors="replace") for name in opened.namelist())
                    continue
                error = reply.json()["error"]
                assert (reply.status_code, error["code"]) == (502, "server_key_refused")
                assert ("asks for a key" if key is None else "does not accept the key") in error["message"]
                assert state["state"] == "unreachable"
                assert key is None or key not in said
    for engine_log in (file.read_text(), caplog.text, said):
        assert KEY not in engine_log and "another-key" not in engine_log
    assert "[secret]" in file.read_text(), "the test sees nothing"


async def test_a_model_here_beside_one_there(demo_engine: Any, demo_server: Any) -> None:
    """One is the default, the other is asked for by name; only the one here is ever loaded."""
    from engine.types import RemoteServer

    far = ModelSpec.remote(RemoteServer.at(demo_server.url), "far")
    engine = Engine(EngineConfig(model=ModelSpec(name="near"), more_models=(far,)))
    engine.start()
    try:
        asked = chat(picture("green", "triangle"), QUESTION, max_tokens=20)
        near = await whole(engine, asked)
        far_one = await whole(engine, replace(asked, model="far"))
        assert near.text == far_one.text and near.done.served_by is None and far_one.done.served_by is not None
        assert [card.id for card in engine.snapshot().models] == ["near"]
        assert [(state.name, state.server != "") for state in engine.models()] == [("near", False), ("far", True)]
    finally:
        engine.stop()


def test_every_protocol_is_answered(demo_engine: Any, demo_server: Any, engine_at: EngineAt, serve: Any) -> None:
    far = engine_at(demo_server.url)
    image = data_url(encode(picture("red")))
    said = [{"role": "user", "content": "Hello"}]
    with serve(create_app(far, ServerConfig())) as url, httpx.Client(base_url=url, timeout=60) as http:
        chat_body = {"messages": said, "max_tokens": 5, "temperature": 0}
        chat_text = http.post("/v1/chat/completions", json=chat_body).json()["choices"][0]["message"]["content"]
        message = http.post("/v1/messages", json={**chat_body, "model": "far"}).json()
        assert message["content"][0]["text"] == chat_text
        assert http.post("/api/chat", json={"model": "far", "messages": said, "stream": False}).status_code == 200
        raw = {"prompt": "Hello", "max_tokens": 5, "temperature": 0}
        here = httpx.post(f"{demo_server.url}/v1/completions", json=raw, timeout=60).json()["choices"][0]["text"]
        assert http.post("/v1/completions", json=raw).json()["choices"][0]["text"] == here
        seen = http.post("/v1/responses", json={"model": "far", "input": [{"role": "user", "content": [
            {"type": "input_image", "image_url": image}, {"type": "input_text", "text": QUESTION}]}]})  # fmt: skip
        assert "red" in seen.text and seen.json()["usage"]["media"][0]["tokens"] > 0
        asked = {"input": said, "questions": [{"type": "predicate", "instructions": "Is it a greeting?"}]}
        for path, body in (
            ("/v1/decisions", asked),
            ("/v1/systemone", {"state": "Hi", "questions": {"a": {"type": "noul", "instructions": "A greeting?"}}}),
            ("/v1/tokenize", {"prompt": "Hello", "add_special_tokens": False}),
            ("/tokenize", {"messages": said}),
            ("/detokenize", {"tokens": [70, 71]}),
            ("/v1/messages/count_tokens", {"messages": said}),
            ("/v1/responses/input_tokens", {"input": "Hello"}),
        ):
            found = http.post(path, json=body)
            wanted = httpx.post(f"{demo_server.url}{path}", json={"model": "default", **body}, timeout=60)
            assert found.status_code == wanted.status_code == 200, found.text + wanted.text
            assert _compared(found.json()) == _compared(wanted.json())
        for path, body in (("embeddings", {"input": "a"}), ("tokenize", {"prompt": "a", "return_token_strs": True})):
            refused = http.post(f"/v1/{path}", json={"model": "far", **body})
            assert (refused.status_code, refused.json()["error"]["code"]) == (400, "remote_model"), refused.text


def _compared(answer: Any) -> Any:
    """Of an answer, what is the same whoever passes it on, and however much of its prompt was cached."""
    kept = {name: value for name, value in answer.items() if name not in ("model", "usage", "ttft_ms", "cached_tokens")}
    return json.loads(json.dumps(kept), parse_float=lambda written: round(float(written), 4))


def test_its_answers_are_as_they_are_described(
    demo_engine: Any, demo_server: Any, engine_at: EngineAt, serve: Callable[..., Any]
) -> None:
    """Also of a server that cannot be reached, and of one that asks for a key."""
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3}
    chat_path, one = "/v1/chat/completions", "/v1/requests/{request_id}"
    with serve(create_app(demo_engine, ServerConfig(api_keys=(("user", KEY),)))) as locked:
        for there, status in ((demo_server.url, 200), ("http://127.0.0.1:9", 503), (locked, 502)):
            far = engine_at(there)
            with serve(create_app(far, ServerConfig())) as url, httpx.Client(base_url=url, timeout=60) as http:
                document = http.get("/openapi.json").json()
                wait_until(lambda: http.get("/health").json()["models"][0]["state"] != "connecting", "nobody looks")
                for path in ("/health", "/v1/models", "/v1/requests"):
                    check(document, "get", path, http.get(path))
                reply = http.post(chat_path, json=body)
                assert reply.status_code == status, reply.text
                check(document, "post", chat_path, reply)
                id = http.get("/v1/requests").json()["data"][0]["id"]
                check(document, "get", one, http.get(f"/v1/requests/{id}"))
                assert http.get("/health/ready").status_code == (200 if status == 200 else 503)
