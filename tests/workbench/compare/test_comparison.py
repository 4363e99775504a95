"""A comparison on the real engine: each column has the API's answer and numbers, and the answer that it gives alone."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest

from engine.access.visibility import conversation_owner
from engine.config import EngineConfig, ModelSpec, ServerConfig
from engine.errors import Conflict, ModelNotFound
from engine.request_log.record import LoggedRequest
from engine.types import Json, Message, Part, Request, StageClock, Tool
from tests import adapters
from tests.conftest import Server
from tests.pictures import data_url, picture
from workbench.chat import turns
from workbench.chat.convert import user_entries
from workbench.compare import again, columns
from workbench.compare.columns import read_column, request_of
from workbench.compare.comparison import Side, SideBySide
from workbench.compare.tab import CompareTab, Comparisons
from workbench.conversations.library import ConversationLibrary
from workbench.conversations.types import Turn
from workbench.shared import Shared

QUESTION = "What is in this image?"
GREEDY: Json = {"temperature": "0", "max_tokens": "24", "reuse": False}
SIZES = ({}, {"max_pixels": "3136"}, {"system": "Answer in one word."})
NUMBERS = ("prompt_tokens", "completion_tokens", "cached_tokens")


@pytest.fixture
def drawing(tmp_path: Any) -> Any:
    path = tmp_path / "drawing.png"
    picture("red", "circle", (256, 256)).save(path)
    return path


def side(path: Any, fields: Json, number: int = 0) -> Side:
    request = request_of(user_entries(QUESTION, [str(path)]), read_column({**GREEDY, **fields}), "page", "")
    answer = Turn(f"{number:032x}a", "assistant", state="writing")
    entries = user_entries(QUESTION, [str(path)])
    return Side(answer, replace(request, id=turns.request_id(answer.id)), draw=turns.LiveAnswer(entries))


async def compared(engine: Any, *sides: Side) -> tuple[list[Json], Any]:
    """What each column ended with, and the marked answers."""
    told = [json.loads(line) async for line in SideBySide(QUESTION, (), sides).lines(engine)]
    ends = {news["column"]: news["result"] for news in told if "result" in news}
    return [ends[place] for place in range(len(sides))], told[-1]["marked"]


async def by_api(server: Server, path: Any, fields: Json) -> Json:
    """The same request over /v1, in the fields of `result`."""
    image = {"type": "image_url", "image_url": {"url": data_url(path.read_bytes())}}
    if "max_pixels" in fields:
        image["max_pixels"] = int(fields["max_pixels"])
    system = [{"role": "system", "content": fields["system"]}] if "system" in fields else []
    body = {
        "model": "default",
        "messages": [*system, {"role": "user", "content": [image, {"type": "text", "text": QUESTION}]}],
        "temperature": 0,
        "max_tokens": 24,
        "cache_salt": f"alone {fields}",
    }
    async with httpx.AsyncClient(timeout=120) as client:
        reply = await client.post(f"{server.url}/v1/chat/completions", json=body)
    assert reply.status_code == 200, reply.text
    answer = reply.json()
    usage = answer["usage"]
    return {
        "answer": answer["choices"][0]["message"]["content"],
        "prompt_tokens": usage["prompt_tokens"],
        "completion_tokens": usage["completion_tokens"],
        "cached_tokens": usage["prompt_tokens_details"]["cached_tokens"],
        "media_tokens": [medium["tokens"] for medium in usage["media"]],
    }


def assert_same(result: Json, api: Json) -> None:
    for name, value in api.items():
        assert result[name] == value, f"{name}: {result[name]!r} is not the API's {value!r}"


async def test_a_column_has_the_answer_and_the_numbers_of_the_api(demo_server: Server, drawing: Any) -> None:
    results, _ = await compared(demo_server.engine, *(side(drawing, one, at) for at, one in enumerate(SIZES)))
    for result, fields in zip(results, SIZES, strict=True):
        assert_same(result, await by_api(demo_server, drawing, fields))
    assert results[0]["media_tokens"] != results[1]["media_tokens"], "the sizes make no difference"
    assert all(result["ttft_ms"] <= result["total_ms"] for result in results)
    async with httpx.AsyncClient(base_url=demo_server.url) as client:
        for result in results:
            listed = (await client.get(f"/v1/requests/{result['request']}")).json()
            for name in ("total_ms", "ttft_ms"):
                assert listed[name] == pytest.approx(result[name], abs=0.002), name


async def test_sabotage_a_column_whose_pixel_budget_is_forgotten(
    demo_server: Server, drawing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twin."""
    monkeypatch.setattr(columns, "within", lambda messages, max_pixels: messages)
    results, _ = await compared(demo_server.engine, side(drawing, SIZES[1]), side(drawing, {}, 1))
    with pytest.raises(AssertionError, match="is not the API's"):
        assert_same(results[0], await by_api(demo_server, drawing, SIZES[1]))


async def test_columns_together_answer_as_each_alone(demo_engine: Any, drawing: Any) -> None:
    together, _ = await compared(demo_engine, *(side(drawing, one, at) for at, one in enumerate(SIZES)))
    for at, fields in enumerate(SIZES):
        request = side(drawing, fields).request
        assert request is not None
        completion = await demo_engine.complete(replace(request, id=f"alone-{at}"))
        assert together[at]["answer"] == completion.text


async def test_a_column_that_fails_says_why_and_the_others_go_on(demo_engine: Any, drawing: Any) -> None:
    wrong = Side(Turn("f" * 32 + "a", "assistant", state="failed", error="Temperature must be a number."))
    results, marks = await compared(demo_engine, side(drawing, {}), wrong, side(drawing, {"model": "nobody"}, 1))
    assert results[0]["state"] == "done" and results[0]["answer"]
    assert (results[1]["state"], results[1]["error"]) == ("failed", "Temperature must be a number.")
    assert results[2]["state"] == "failed" and "nobody" in results[2]["error"]
    assert len(marks) == 3


def test_a_column_is_drawn_no_more_once_its_end_is_told() -> None:
    ended = Side(Turn("f" * 32 + "a", "assistant", state="failed", error="It is too large."))
    line = ended.news(3)
    assert line is not None and json.loads(line)["column"] == 3 and json.loads(line)["result"]["state"] == "failed"
    ended.draw = None  # type: ignore[assignment]  # it would fail
    assert ended.news(3) is None


async def test_an_adapter_answers_in_its_column_and_a_model_that_is_blind_refuses_in_its_own(
    engine_pool: Any, tiny_model: Any, models_dir: Any, drawing: Any
) -> None:
    seeing = ModelSpec(str(tiny_model("qwen3_vl")), name="base")
    adapter = adapters.write(Path(seeing.source), models_dir / "compared", vision=True)
    blind = ModelSpec(str(tiny_model("llama")), name="blind")
    others = (seeing.with_adapter("one", str(adapter)), blind)
    engine = engine_pool.start(EngineConfig(model=seeing, more_models=others))
    names = ("base", "base:one", "blind")
    results, _ = await compared(engine, *(side(drawing, {"model": name}, at) for at, name in enumerate(names)))
    assert results[2]["state"] == "failed" and "blind cannot take image input" in results[2]["error"]
    for name, result in zip(names[:2], results, strict=False):
        request = side(drawing, {"model": name}).request
        assert request is not None
        assert result["answer"] == (await engine.complete(replace(request, id=f"alone-{name}"))).text
    assert results[0]["answer"] != results[1]["answer"], "the adapter changes nothing"


async def test_the_cache_is_used_where_a_column_asks_for_it(demo_engine: Any, drawing: Any) -> None:
    await compared(demo_engine, side(drawing, {"reuse": True}, 7), side(drawing, {"reuse": True}, 8))
    results, _ = await compared(demo_engine, side(drawing, {"reuse": True}), side(drawing, {"reuse": False}, 1))
    assert results[0]["cached_tokens"] > 0 and results[1]["cached_tokens"] == 0
    assert results[0]["answer"] == results[1]["answer"]


async def test_one_column_is_stopped_and_the_other_ends(demo_engine: Any, drawing: Any) -> None:
    comparison = SideBySide(QUESTION, (), [side(drawing, {}, at) for at in range(2)])
    comparison.sides[0].stop()
    told = [json.loads(line) async for line in comparison.lines(demo_engine)]
    ends = {news["column"]: news["result"]["state"] for news in told if "result" in news}
    assert ends == {0: "stopped", 1: "done"}


async def test_a_request_of_the_log_is_asked_again_as_it_was_but_for_what_was_changed(
    demo_server: Server, drawing: Any
) -> None:
    image = {"type": "image_url", "image_url": {"url": data_url(drawing.read_bytes())}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello!"},
        {"role": "assistant", "content": "Show me a picture."},
        {"role": "user", "content": [image, {"type": "text", "text": QUESTION}]},
    ]
    body = {"model": "default", "messages": messages, "temperature": 0, "max_tokens": 24, "stop": ["\n\n"]}
    async with httpx.AsyncClient(timeout=120) as client:
        api = (await client.post(f"{demo_server.url}/v1/chat/completions", json=body)).json()
    log = demo_server.engine.requests
    record = log.find(api["id"])
    asked = again.asked_again(log, record)
    fields = again.fields_of(asked)
    assert fields == {
        "model": record.request.model,
        "temperature": "0",
        "max_tokens": "24",
        "fps": "",
        "max_pixels": "",
        "system": "Be brief.",
        "reuse": True,
    }
    same, smaller = (
        again.request_again(asked, read_column({**fields, **changed}), "page", "")
        for changed in ({}, {"max_pixels": "3136"})
    )
    assert (same.messages[1:], same.stop) == (record.request.messages[1:], ("\n\n",))
    assert [part.text for part in same.messages[0].parts] == ["Be brief."]
    results, _ = await compared(
        demo_server.engine,
        *(
            Side(Turn(f"{at:032x}a", "assistant", state="writing"), replace(request, id=f"again-{at}"))
            for at, request in enumerate((same, smaller))
        ),
    )
    usage = api["usage"]
    assert results[0]["answer"] == api["choices"][0]["message"]["content"]
    assert results[0]["prompt_tokens"] == usage["prompt_tokens"] > results[1]["prompt_tokens"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tools": (Tool("look"),)}, "A request with tools"),
        ({"messages": (), "prompt": "Once"}, "Only a chat"),
        ({"messages": (Message("user", (Part("image", path="/nowhere.png"),)),)}, "is not here any more"),
    ],
)
def test_a_request_that_columns_cannot_ask_is_refused(demo_engine: Any, change: Json, words: str) -> None:
    request = replace(Request(messages=(Message("user", (Part("text", "Hi"),)),)), **change)
    with pytest.raises(Conflict, match=words):
        again.asked_again(demo_engine.requests, LoggedRequest("x", request, StageClock()))


def tab_of(engine: Any, server: ServerConfig, folder: Any) -> CompareTab:
    library = ConversationLibrary(engine, server, folder)
    with gr.Blocks():
        return CompareTab(engine, Shared(folder, server=server), library, Comparisons())


async def test_a_visitor_asks_only_their_own_requests_again(demo_engine: Any, tmp_path: Any) -> None:
    server = ServerConfig(open_access=True)
    mine = Request(messages=(Message("user", (Part("text", "Hi"),)),), max_tokens=2, tenant="me", id="visited")
    await demo_engine.complete(mine)
    tab = tab_of(demo_engine, server, tmp_path)
    reply = await tab._again({"id": "visited"}, gr.Request(session_hash="me"))
    assert reply["about"]["text"] == "Hi"
    with pytest.raises(ModelNotFound):
        await tab._again({"id": "visited"}, gr.Request(session_hash="another"))


async def test_a_visitor_asks_a_row_of_their_batch_run_again(demo_engine: Any, tmp_path: Any) -> None:
    """It was sent under the name of the browser's tab, not of the page."""
    server, visitor = ServerConfig(open_access=True), "a" * 32
    words = (Message("user", (Part("text", "Hi"),)),)
    tenant = conversation_owner(server, visitor=visitor)
    await demo_engine.complete(Request(messages=words, max_tokens=2, tenant=tenant, source="batch", id="row"))
    tab, page = tab_of(demo_engine, server, tmp_path), gr.Request(session_hash="page")
    assert (await tab._again({"id": "row", "visitor": visitor}, page))["about"]["text"] == "Hi"
    begun = await tab._start({"again": "row", "columns": [{}, {}], "visitor": visitor}, page)
    assert tab._comparisons.find(begun["name"]).sides[0].request.messages == words
    for stranger in ("b" * 32, ""):
        with pytest.raises(ModelNotFound):
            await tab._again({"id": "row", "visitor": stranger}, page)
        with pytest.raises(ModelNotFound):
            await tab._start({"again": "row", "columns": [{}, {}], "visitor": stranger}, page)


async def test_columns_that_are_stopped_before_they_begin_end_at_once(demo_engine: Any, drawing: Any) -> None:
    comparison = SideBySide(QUESTION, (), [side(drawing, {}, at) for at in range(2)])
    comparison.stop()
    told = [json.loads(line) async for line in comparison.lines(demo_engine)]
    assert [news["result"]["state"] for news in told[:-1]] == ["stopped", "stopped"]
    assert [line async for line in comparison.lines(demo_engine)] == [], "one reader for one comparison"


async def test_columns_end_with_their_reader(demo_engine: Any, drawing: Any) -> None:
    comparison = SideBySide(QUESTION, (), [side(drawing, {"max_tokens": ""}, at) for at in range(2)])
    lines = comparison.lines(demo_engine)
    await anext(lines)
    await lines.aclose()  # type: ignore[attr-defined]
    for one in comparison.sides:
        assert one.run is not None
        await asyncio.wait_for(one.run.ended.wait(), 60)
    running = {row.id for row in demo_engine.snapshot().running}
    assert not running & {one.request.id for one in comparison.sides if one.request}
