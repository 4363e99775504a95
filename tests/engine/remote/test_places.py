"""A server that hangs keeps nobody from other models: places, memory for media, and threads are its own."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from engine import core
from engine.access.visibility import Caller
from engine.config import EngineConfig, MediaLimits, ModelSpec
from engine.core import Engine
from engine.errors import Busy, TooLarge, Unavailable
from engine.media.expected import MediaSize, in_base64
from engine.runtime.intake.tickets import Places, TicketOffice
from engine.types import Message, Part, RemoteServer
from engine.types import Request as Generation
from tests.engine.drive import chat
from tests.engine.remote.conftest import EngineAt
from tests.engine.remote.test_odd_servers import events, piece
from tests.pictures import encode, picture
from tests.waiting import until

QUESTION = "What is in this image?"
OPEN = MediaLimits(allow_private_urls=True)


class Stalling:
    """A server that takes a request and waits until `go`, answers a first token, and waits until `end`. lists: its list
    of models comes at once, not never. bodies: what came. /red.png is a picture."""

    def __init__(self, *, lists: bool = True) -> None:
        self.lists = lists
        self.bodies: list[dict[str, Any]] = []
        self.go, self.end, self.over = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.loop: asyncio.AbstractEventLoop | None = None

    def set(self, event: asyncio.Event) -> None:
        """From the thread of a test."""
        if self.loop is not None:
            self.loop.call_soon_threadsafe(event.set)

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/red.png")
        async def red() -> Response:
            return Response(encode(picture("red")), media_type="image/png")

        @app.get("/v1/models")
        async def models() -> Response:
            self.loop = asyncio.get_running_loop()
            if not self.lists:
                await self.over.wait()
            return JSONResponse({"data": [{"id": "slow"}]})

        @app.post("/v1/chat/completions")
        async def answer(request: Request) -> Response:
            self.loop = asyncio.get_running_loop()
            self.bodies.append(await request.json())
            await self.go.wait()

            async def lines() -> Any:
                begun = events(piece("Hi"), mark=False).body_iterator
                async for line in begun:
                    yield line
                await self.end.wait()
                async for line in events(piece("", "stop")).body_iterator:
                    yield line

            return StreamingResponse(lines(), media_type="text/event-stream")

        return app


@pytest.fixture
def stalling(serve: Callable[..., Any]) -> Any:
    """stalling(**how) -> (the server, its URL); at the end all that waits there goes on."""
    opened: list[tuple[Stalling, Any]] = []

    def start(**how: Any) -> tuple[Stalling, str]:
        server = Stalling(**how)
        context = serve(server.app())
        url = context.__enter__()
        opened.append((server, context))
        return server, url

    yield start
    for server, context in opened:
        for event in (server.go, server.end, server.over):
            server.set(event)
        context.__exit__(None, None, None)


async def test_one_that_hangs_takes_no_place_of_a_model_here(stalling: Any) -> None:
    server, url = stalling()
    far = ModelSpec.remote(RemoteServer.at(url, model="slow"), "far")
    engine = Engine(EngineConfig(model=ModelSpec(name="near"), more_models=(far,), max_num_seqs=2, max_queue=1))
    engine.start()
    try:
        asked = replace(chat("Hello", max_tokens=4), model="far")
        waiting = [asyncio.create_task(engine.complete(asked)) for _ in range(3)]
        await until(lambda: len(server.bodies) == 3, "they are not sent")
        with pytest.raises(Busy, match="The queue is full"):
            async with asyncio.timeout(20):
                await engine.complete(asked)
        near = await asyncio.gather(*(engine.complete(chat("Hello", max_tokens=4)) for _ in range(3)))
        assert all(done.text for done in near) and engine.num_open == 3
        server.set(server.go), server.set(server.end)
        assert {(await one).text for one in waiting} == {"Hi"} and engine.num_open == 0
    finally:
        engine.finish_imports()
        engine.stop()


def test_each_has_places_of_its_own() -> None:
    far = tuple(ModelSpec.remote(RemoteServer.at("http://far", model=name), name) for name in ("a", "b"))
    alone = EngineConfig(max_num_seqs=3, max_queue=1)
    places = Places.of(replace(alone, more_models=far))
    assert (places.num_seqs, dict(places.of_servers)) == (3, {"a": 3, "b": 3}) and Places.of(alone).num_seqs == 3
    office = TicketOffice(replace(places, max_media_bytes=90))
    tickets = [office.take(server="a") for _ in range(4)]
    with pytest.raises(Busy):
        office.take(server="a")
    other, near = office.take(server="b"), office.take()
    tickets[0].reserve(0, 30)
    with pytest.raises(Busy, match="30 bytes of 30 bytes"):
        tickets[1].reserve(0, 1)
    with pytest.raises(
        TooLarge, match="as they are sent, this request's media have 31 bytes; the server keeps at most"
    ):
        other.reserve(0, 31)
    near.reserve(0, 60)
    with pytest.raises(Busy, match="90 bytes of 90 bytes"):
        other.reserve(0, 1)
    for ticket in (*tickets, other, near):
        ticket.release()
    assert (office.num_requests, office.held_bytes) == (0, 0)


def test_what_is_only_expected_here_leaves_the_shares_of_servers() -> None:
    """However little a server that hangs holds, a local request that may be as large as all there is comes in."""
    office = TicketOffice(Places(1, 1, 90, of_servers={"a": 1, "b": 1}))
    hanging, near = office.take(server="a"), office.take()
    hanging.reserve(0, 1)
    near.expect([MediaSize(1000, is_exact=False)])
    assert office.held_bytes == 31
    near.reserve(0, 89)
    assert office.held_bytes == 90
    with pytest.raises(Busy, match="1 bytes of 90 bytes"):
        near.reserve(0, 90)
    alone = TicketOffice(Places(1, 1, 90)).take()
    alone.expect([MediaSize(1000, is_exact=False)])
    assert alone.held_bytes == 90


async def test_media_count_until_the_server_begins_to_answer(stalling: Any, engine_at: EngineAt) -> None:
    server, url = stalling()
    size = in_base64(len(encode(picture("red"))))
    engine = engine_at(url, model="slow", max_waiting_media_bytes=2 * (2 * size - 1))
    office, asked = engine._tickets, chat(picture("red"), QUESTION)
    first = asyncio.create_task(engine.complete(asked))
    await until(lambda: bool(server.bodies), "it is not sent")
    assert office.held_bytes == size
    with pytest.raises(Busy, match="Media of other requests that wait fill"):
        async with asyncio.timeout(20):
            await engine.complete(asked)
    assert office.held_bytes == size
    server.set(server.go)
    await until(lambda: bool(engine._remote.running()) and engine._remote.running()[0].stage == "decode", "it waits on")
    assert office.held_bytes == 0 and engine.num_open == 1
    server.set(server.end)
    [body] = server.bodies
    sent = body["messages"][0]["content"][0]["image_url"]["url"]
    assert (await first).text == "Hi" and sent.startswith("data:image/png") and len(sent) >= size


async def test_whoever_looks_at_a_server_takes_no_thread_from_media(
    stalling: Any, engine_at: EngineAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one thread that reads addresses, one is read while a list of models is waited for."""
    monkeypatch.setattr(core, "_FETCH_THREADS", 1)
    server, url = stalling(lists=False)
    engine = engine_at(url, model="slow", media=OPEN)
    await until(lambda: server.loop is not None, "nobody looks")
    server.set(server.go), server.set(server.end)
    parts = (Part("image", url=f"{url}/red.png"), Part("text", text=QUESTION))
    done = await engine.complete(Generation(messages=(Message("user", parts),)))
    [link] = engine._remote._links.values()
    assert done.text == "Hi" and link.probe is not None, "the look at it was over"


async def test_a_salt_goes_along_but_not_its_words(stalling: Any, engine_at: EngineAt) -> None:
    """Two with one salt share there, and nobody else does; without one, nothing is said."""
    server, url = stalling()
    engine = engine_at(url, model="slow")
    await until(lambda: server.loop is not None, "nobody looks")
    server.set(server.go), server.set(server.end)
    for owner, salt in (("", "pepper"), ("", "pepper"), ("ann", "pepper"), ("", "other"), ("ann", "")):
        await engine.complete(replace(chat("Hello"), tenant=Caller(owner).tenant(salt)))
    first, second, *others, none = [body.get("cache_salt") for body in server.bodies]
    assert first == second and len({first, *others}) == 3 and none is None
    plain = {Caller(owner).tenant("pepper").partition("\0")[2] for owner in ("", "ann")}
    assert not plain & {first, *others}, "the hash of the salt alone tells that others send the same"
    assert all(re.fullmatch("[0-9a-f]{64}", one) for one in (first, *others))


async def test_nobody_looks_after_the_end(stalling: Any, engine_at: EngineAt) -> None:
    _, url = stalling()
    engine = engine_at(url, model="slow")
    assert (await engine.reached()).stage == "ready"
    engine.stop()
    with pytest.raises(Unavailable, match="The engine was stopped"):
        await engine.reached()
