"""The events of the Requests tab: all first, then what has changed, and only what the pass's owner may see."""

from __future__ import annotations

import json
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

import pytest

from engine.access.visibility import Caller
from engine.config import LogLimits, MediaLimits
from engine.errors import Unauthorized
from engine.request_log.log import RequestLog
from engine.types import Request, StageClock
from workbench.requests.live import Passes, events


def engine_of(log: RequestLog) -> Any:
    return SimpleNamespace(requests=log, is_draining=False, snapshot=lambda: SimpleNamespace(state="ready"))


async def heard(stream: Any) -> dict[str, Any]:
    """The next event that says something."""
    async for piece in stream:
        if piece.startswith("data: "):
            return dict(json.loads(piece.removeprefix("data: ")))
    raise AssertionError("the events have ended")


async def test_all_first_and_then_what_has_changed() -> None:
    log = RequestLog(LogLimits(2), MediaLimits())
    engine = engine_of(log)
    with log.open(Request(id="old"), StageClock()):
        pass
    async with aclosing(events(engine, Caller())) as stream:
        first = await heard(stream)
        assert first["kept"] == ["old"] and [row["status"] for row in first["rows"]] == ["cancelled"]
        with log.open(Request(id="new"), StageClock()) as record:
            begun = await heard(stream)
            assert begun["kept"] == ["new", "old"] and [row["id"] for row in begun["rows"]] == ["new"]
            record.clock.enter("decode")
            grown = await heard(stream)
            assert "kept" not in grown and grown["rows"][0]["stage"] == "decode"
        ended = await heard(stream)
        assert [(row["id"], row["status"]) for row in ended["rows"]] == [("new", "cancelled")]
        engine.is_draining = True
        assert [piece async for piece in stream] == []


async def test_a_visitor_hears_of_their_own_only() -> None:
    log = RequestLog(LogLimits(), MediaLimits())
    for name in ("mine", "theirs"):
        with log.open(Request(id=name, tenant=name), StageClock()):
            pass
    async with aclosing(events(engine_of(log), Caller("mine", operator=False))) as stream:
        first = await heard(stream)
    assert first["kept"] == ["mine"] and [row["id"] for row in first["rows"]] == ["mine"]


def test_a_pass_is_a_secret_of_who_asked_for_it() -> None:
    passes = Passes()
    one, two = passes.give(Caller("one", operator=False)), passes.give(Caller("two", operator=False))
    assert one != two and passes.caller(two).owner == "two"
    with pytest.raises(Unauthorized, match="no pass"):
        passes.caller("")
