"""A comparison on the real engine: each column has the API's answer and numbers, and the answer that it gives alone."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import httpx
import pytest

from engine.types import Json
from tests.conftest import Server
from tests.pictures import data_url, picture
from workbench.chat import turns
from workbench.chat.convert import user_entries
from workbench.compare import columns
from workbench.compare.columns import read_column, request_of
from workbench.compare.comparison import Side, SideBySide
from workbench.conversations.types import Turn

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


async def test_sabotage_a_column_whose_pixel_budget_is_forgotten(
    demo_server: Server, drawing: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twin."""
    monkeypatch.setattr(columns, "_within", lambda part, max_pixels: part)
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
