"""Streams that go wrong, with made-up events: what the client is sent, and that the source is always closed."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from engine.api.answering import sse
from engine.api.answering.envelope import Envelope
from engine.api.answering.sse import (
    DONE,
    KEEPALIVE,
    EventStream,
    OpenAIStream,
    Opening,
    chunks,
    open_stream,
    unless_gone,
)
from engine.api.chat.answers import ChatAnswer
from engine.errors import Busy, EngineError, Internal
from engine.types import Delta, Done, Event, FinishReason, Timing, Usage

ANSWER = ChatAnswer(Envelope("id", 0, "demo", "fp"))
FORM = OpenAIStream(ANSWER, include_usage=False)


class Source:
    """Gives what it is told to: events, exceptions to raise, or floats of seconds to wait."""

    def __init__(self, *script: Event | Exception | float) -> None:
        self.script = script
        self.closed = False

    async def events(self) -> AsyncGenerator[Event, None]:
        try:
            for step in self.script:
                if isinstance(step, float):
                    await asyncio.sleep(step)
                elif isinstance(step, Exception):
                    raise step
                else:
                    yield step
        finally:
            self.closed = True


def done(reason: FinishReason = "stop") -> Done:
    return Done(reason, Usage(3, 2), Timing())


async def never_gone() -> Any:
    await asyncio.Event().wait()


async def gone() -> Any:
    return {"type": "http.disconnect"}


async def gone_soon() -> Any:
    await asyncio.sleep(0.05)
    return {"type": "http.disconnect"}


async def streamed(source: Source, *, include_usage: bool = False) -> list[str]:
    opening = Opening(source.events())
    return [text async for text in chunks(opening, OpenAIStream(ANSWER, include_usage), "id")]


def last_error(texts: list[str]) -> dict[str, Any]:
    assert texts[-1] != DONE, "an error is not the end of an answer"
    return json.loads(texts[-1].removeprefix("data: "))["error"]


async def test_a_whole_stream() -> None:
    source = Source(Delta("a"), Delta("b", finish_reason="stop"), done())
    texts = await streamed(source, include_usage=True)
    assert texts[-1] == DONE and len(texts) == 6 and source.closed
    assert all(text.startswith("data: ") and text.endswith("\n\n") for text in texts)


async def test_an_answer_without_text() -> None:
    assert len(await streamed(Source(Delta("", finish_reason="stop"), done()))) == 3


async def test_an_error_on_the_way_is_the_last_event() -> None:
    source = Source(Delta("a"), Busy("too much to do"), Delta("b"))
    texts = await streamed(source)
    assert last_error(texts)["message"] == "too much to do" and last_error(texts)["code"] == "queue_full"
    assert not any('"b"' in text for text in texts) and source.closed


async def test_a_fault_of_ours_tells_nobody_what_a_user_wrote(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        texts = await streamed(Source(Delta("a"), ValueError("the user's secret")))
    assert last_error(texts)["code"] == "internal_error"
    assert "secret" not in "".join(texts) and "secret" not in caplog.text
    assert "ValueError" in caplog.text and "test_sse.py" in caplog.text, "but where it happened is logged"


async def test_a_cancelled_answer_is_no_whole_answer() -> None:
    assert last_error(await streamed(Source(Delta("a"), done("cancelled"))))["code"] == "cancelled"


async def test_a_long_prefill_keeps_the_line_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "KEEPALIVE_S", 0.02)
    texts = await streamed(Source(0.1, Delta("a"), done()))
    assert texts.count(KEEPALIVE) >= 2 and texts[-1] == DONE
    assert texts.index(KEEPALIVE) == 1, "after the role, before the text"


async def test_leaving_a_stream_closes_its_source() -> None:
    for script in ((Delta("a"), Delta("b"), done()), (Delta("a"), 60.0, done()), (60.0, done())):
        source = Source(*script)
        stream = chunks(Opening(source.events()), FORM, "id")
        await anext(stream)
        await asyncio.sleep(0)
        await stream.aclose()  # type: ignore[attr-defined]
        assert source.closed


async def test_an_early_error_is_raised_before_anything_is_sent() -> None:
    source = Source(Busy("later"))
    with pytest.raises(Busy):
        await open_stream(source.events(), never_gone)
    assert source.closed


async def test_a_slow_first_event_does_not_hold_the_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "FIRST_EVENT_S", 0.02)
    source = Source(0.2, Busy("later"))
    opening = await open_stream(source.events(), never_gone)
    assert opening is not None
    texts = [text async for text in chunks(opening, FORM, "id")]
    assert last_error(texts)["code"] == "queue_full"


async def test_a_client_gone_before_the_first_event() -> None:
    source = Source(60.0, done())
    assert await open_stream(source.events(), gone_soon) is None
    assert source.closed


async def collected(events: AsyncGenerator[Event, None]) -> list[Event]:
    """Reads a stream to its end, as Engine.complete does."""
    async with aclosing(events):
        return [event async for event in events]


async def test_a_client_gone_while_a_whole_answer_is_read() -> None:
    source = Source(Delta("a"), 60.0, done())
    assert await unless_gone(collected(source.events()), gone_soon) is None
    assert source.closed
    quick = Source(Delta("a"), done())
    assert await unless_gone(collected(quick.events()), never_gone) == [Delta("a"), done()]


async def test_errors_of_the_work_are_raised() -> None:
    with pytest.raises(EngineError):
        await unless_gone(collected(Source(Internal("x")).events()), never_gone)


@pytest.mark.parametrize("script", [(60.0, done()), (Delta("a"), 60.0, done())])
async def test_a_client_gone_while_nothing_is_sent(script: tuple[Any, ...]) -> None:
    source = Source(*script)
    response = EventStream(chunks(Opening(source.events()), FORM, "id"))
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await asyncio.wait_for(response({"type": "http"}, gone_soon, send), 5)
    assert source.closed and sent[0]["status"] == 200


async def test_a_client_that_does_not_read() -> None:
    """The socket's buffer is full: send waits. Going away then still closes the source."""
    source = Source(*[Delta("a")] * 1000, done())
    response = EventStream(chunks(Opening(source.events()), FORM, "id"))

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    await asyncio.wait_for(response({"type": "http"}, gone_soon, send), 5)
    assert source.closed
