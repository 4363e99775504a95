"""tickets: places and bytes are counted at the door, before any work; whoever is refused learns when to come back."""

from __future__ import annotations

import asyncio
import secrets
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.config import EngineConfig, MediaLimits, ModelSpec
from engine.core import Engine
from engine.errors import BadMedia, Busy, EngineError, TooLarge
from engine.media import fetch, read_medium
from engine.media.expected import USUAL_BYTES, MediaSize, expected_size
from engine.runtime.intake.tickets import MAX_PREFLIGHTS, MAX_RETRY_S, Places, Ticket, TicketOffice
from engine.types import Done, Message, Part, Request
from tests.conftest import EngineFor
from tests.engine.drive import GREEDY, ask, chat, part
from tests.pictures import data_url, encode, picture

MIB = 1024**2


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def office(num_seqs: int = 2, max_queue: int = 1, max_media_bytes: int = 100, clock: Any = None) -> TicketOffice:
    return TicketOffice(Places(num_seqs, max_queue, max_media_bytes), clock or Clock())


def known(*sizes: int) -> list[MediaSize]:
    return [MediaSize(size, is_exact=True) for size in sizes]


def guessed(*sizes: int) -> list[MediaSize]:
    return [MediaSize(size) for size in sizes]


def ticket_for(door: TicketOffice, sizes: list[MediaSize], *, is_preflight: bool = False) -> Ticket:
    """A ticket for a request with such media; a refused one is given back, as Engine.stream does."""
    ticket = door.take(is_preflight=is_preflight)
    try:
        ticket.expect(sizes)
    except EngineError:
        ticket.release()
        raise
    return ticket


# -- places ------------------------------------------------------------------------------------------------------------


def test_free_places_count_and_a_place_comes_back_once() -> None:
    door = office()
    tickets = [door.take() for _ in range(3)]
    with pytest.raises(Busy, match="1 requests are waiting") as caught:
        door.take()
    assert caught.value.status == 429
    tickets[0].release()
    tickets[0].release()
    door.take()
    with pytest.raises(Busy):
        door.take()


def test_the_end_gives_it_back_however_it_comes() -> None:
    door = office(num_seqs=1, max_queue=0)
    with suppress(KeyError), ticket_for(door, known(100)):
        raise KeyError
    with ticket_for(door, known(100)):
        pass
    ticket_for(door, known(100))


def test_preflights_have_places_of_their_own() -> None:
    door = office(num_seqs=1, max_queue=0)
    door.take()
    looks = [door.take(is_preflight=True) for _ in range(MAX_PREFLIGHTS)]
    with pytest.raises(Busy, match=f"{MAX_PREFLIGHTS} preflights"):
        door.take(is_preflight=True)
    looks[0].release()
    door.take(is_preflight=True)


def test_what_the_scheduler_works_on_at_once_counts() -> None:
    assert Places.of(EngineConfig(max_num_seqs=8, max_queue=1)).num_seqs == 8
    batch = EngineConfig(max_num_seqs=256, completion_batch_size=32, prefill_batch_size=8)
    assert Places.of(batch).num_seqs == 40


# -- bytes -------------------------------------------------------------------------------------------------------------


def test_bytes_of_all_together() -> None:
    door = office(num_seqs=9)
    first = ticket_for(door, known(60))
    door.take()  # a text has room anyway
    with pytest.raises(Busy, match="60 bytes of 100 bytes"):
        ticket_for(door, known(41))
    ticket_for(door, known(40)).release()
    first.release_media()
    ticket_for(door, known(100))


def test_a_refused_one_leaves_nothing_behind() -> None:
    door = office(num_seqs=9, max_queue=0)
    first = ticket_for(door, known(60))
    for _ in range(20):
        with pytest.raises(Busy):
            ticket_for(door, known(60))
    first.release()
    ticket_for(door, known(100))


def test_a_guess_is_corrected_both_ways() -> None:
    door = office(num_seqs=9)
    first = ticket_for(door, guessed(50, 10))
    first.reserve(0, 5)
    second = ticket_for(door, known(85))
    with pytest.raises(Busy, match="85 bytes of 100 bytes"):
        first.reserve(1, 11)
    second.release()
    first.reserve(1, 95)
    with pytest.raises(TooLarge, match=r"101 bytes.*at most 100 bytes") as caught:
        first.reserve(1, 96)
    assert (caught.value.status, caught.value.param) == (413, "messages")
    first.release()
    first.reserve(0, 1000)  # a thread that comes late books nothing
    ticket_for(door, known(100))


def test_a_guess_alone_refuses_nobody_for_ever() -> None:
    door = office()
    ticket = ticket_for(door, guessed(80, 80))
    ticket.reserve(0, 10)
    ticket.reserve(1, 10)
    ticket_for(door, known(80))
    with pytest.raises(TooLarge):
        ticket_for(door, known(80, 21))


def test_threads_lose_no_byte_and_no_place() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    door = TicketOffice(Places(3, 0, 100))

    def work(number: int) -> None:
        for i in range(2000):
            with suppress(Busy), ticket_for(door, guessed(number * 10)) as ticket:
                ticket.reserve(0, i % 60)

    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
    finally:
        sys.setswitchinterval(interval)
    assert (door.held_bytes, door.num_requests) == (0, 0)


# -- when to come back -------------------------------------------------------------------------------------------------


def retry_s(door: TicketOffice) -> int:
    with pytest.raises(Busy) as caught:
        for _ in range(1000):
            door.take()
    assert f"again in {caught.value.retry_after_s} s" in caught.value.message
    return caught.value.retry_after_s


@pytest.mark.parametrize(
    ("max_queue", "each_s", "expected_s"), [(1, 0.5, 1), (4, 5.0, 17), (40, 1.0, 34), (90, 9.0, 120)]
)
def test_it_grows_with_the_queue_and_with_the_time_that_each_takes(
    max_queue: int, each_s: float, expected_s: int
) -> None:
    clock = Clock()
    door = office(1, max_queue, clock=clock)
    tickets = [door.take() for _ in range(max_queue + 1)]
    for _ in range(5):
        clock.now_s += each_s
        tickets.pop(0).release()
        tickets.append(door.take())
    assert retry_s(door) == expected_s


def test_it_grows_while_nothing_ends_and_is_bounded() -> None:
    clock = Clock()
    door = office(1, 3, clock=clock)
    waits = []
    for _ in range(10):
        waits.append(retry_s(door))
        clock.now_s += 9
    assert waits == sorted(waits) and waits[0] == 1 and waits[3] > 60 and waits[-1] == MAX_RETRY_S


def test_those_who_are_refused_say_nothing_about_the_rate() -> None:
    clock = Clock()
    door = office(9, 9, clock=clock)
    ticket_for(door, known(100))
    for _ in range(200):
        clock.now_s += 0.1
        with pytest.raises(Busy) as caught:
            ticket_for(door, known(1))
    assert caught.value.retry_after_s == 20, "nothing has ended for 20 s"


def test_an_idle_hour_says_nothing_about_the_rate() -> None:
    clock = Clock()
    door = office(1, 0, clock=clock)
    door.take().release()
    clock.now_s += 3600
    assert retry_s(door) == 1


# -- what a medium will take -------------------------------------------------------------------------------------------


def sent(image: Any, kind: str = "PNG") -> Part:
    return Part("image", url=data_url(encode(image, kind), "image/any"), param="p")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP"])
def test_a_picture_says_it_in_its_header(kind: str) -> None:
    assert expected_size(sent(picture(size=(700, 300)), kind), MediaLimits()) == (700 * 300 * 3, True)


def test_what_does_not_say_it_counts_as_a_usual_one() -> None:
    limits = MediaLimits(max_pixels=100 * 100)
    others = [Part("image", url="https://example.org/a.png"), Part("image", path="/a"), Part("image", url="data:,x")]
    others += [Part("image", url="data:image/png;base64,%%%"), Part("image"), sent(picture(size=(101, 100)))]
    assert {expected_size(other, limits) for other in others} == {(USUAL_BYTES["image"], False)}
    assert expected_size(part(b"RIFF"), limits) == (USUAL_BYTES["audio"], False)
    assert expected_size(Part("video", path="/a"), limits) == (USUAL_BYTES["video"], False)


# -- the engine --------------------------------------------------------------------------------------------------------


async def ended(engine: Engine, request: Any) -> str:
    try:
        return "done" if (await ask(engine, request)).done else ""
    except EngineError as error:
        return error.code


async def test_an_idle_server_answers_as_many_as_it_works_on_and_queues_one(
    engine_for: EngineFor, tiny_model: Any
) -> None:
    engine = await engine_for(tiny_model("llama"), max_num_seqs=8, max_queue=1)
    requests = [chat(f"Request {i}", max_tokens=40, sampling=GREEDY) for i in range(12)]
    results = await asyncio.gather(*(ended(engine, request) for request in requests))
    assert results == ["done"] * 9 + ["queue_full"] * 3
    assert await asyncio.gather(*(ended(engine, request) for request in requests[:9])) == ["done"] * 9, "all came back"


async def narrow(engine_for: EngineFor, **more: Any) -> Engine:
    """One request at a time, and room for two pictures of 400 x 300 pixels."""
    return await engine_for("demo", max_num_seqs=1, max_queue=0, max_waiting_media_bytes=2 * 400 * 300 * 3, **more)


async def test_a_place_comes_back_after_an_error_a_cancel_and_at_the_last_event(engine_for: EngineFor) -> None:
    engine = await narrow(engine_for)
    long = chat(picture(), "Go on.", max_tokens=200)
    for _ in range(3):
        with pytest.raises(BadMedia):
            await ask(engine, Request(messages=(Message("user", (Part("image", url="data:,nothing", param="here"),)),)))
        stream = engine.stream(long)
        await anext(stream)
        with pytest.raises(Busy):
            await ask(engine, chat("Hello"))
        await stream.aclose()
        fetching = asyncio.create_task(ask(engine, long))
        await asyncio.sleep(0)
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)
        stream = engine.stream(chat("Hello", max_tokens=2))
        while not isinstance(await anext(stream), Done):
            pass
        assert (await ask(engine, chat("Next", max_tokens=1))).done, "before the reader has left"
    assert (engine._tickets.held_bytes, engine._tickets.num_requests) == (0, 0)


async def test_too_full_is_429_before_anything_is_fetched(
    engine_for: EngineFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And never a 400 about the medium; a text is answered meanwhile. Twin: one byte less and it is served."""
    num_bytes = 400 * 300 * 3
    engine = await narrow(engine_for)
    read: list[Part] = []
    monkeypatch.setattr(fetch, "read_part", lambda part, limits: read.append(part))
    with ticket_for(engine._tickets, known(num_bytes + 1), is_preflight=True):
        for request in (
            chat(picture(size=(400, 300)), "?"),
            Request(messages=(Message("user", (Part("image", url="https://example.org/a.png"),)),)),
        ):
            with pytest.raises(Busy, match="Media of other requests that wait fill") as caught:
                await ask(engine, request)
            assert caught.value.status == 429 and caught.value.retry_after_s >= 1
            with pytest.raises(Busy):
                await engine.preflight(request)
        assert (await ask(engine, chat("Hello", max_tokens=1))).done
    assert read == []
    monkeypatch.undo()
    with ticket_for(engine._tickets, known(num_bytes), is_preflight=True):
        assert (await ask(engine, chat(picture(size=(400, 300)), "?", max_tokens=1))).done
    with pytest.raises(TooLarge, match="--max-waiting-media-mb"):
        await ask(engine, chat(*[picture(size=(400, 300))] * 3, "?", max_tokens=1))


async def test_a_file_is_measured_before_it_is_decoded(
    engine_for: EngineFor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its size was a guess; the header is looked at in the pool, and refuses it there."""
    engine = await narrow(engine_for)
    path = tmp_path / "large.png"
    path.write_bytes(encode(picture(size=(3000, 2500))))
    monkeypatch.setattr(read_medium, "_decode", lambda *_: pytest.fail("it was decoded"))
    request = Request(messages=(Message("user", (Part("image", path=str(path)),)),))
    with pytest.raises(TooLarge, match=r"21\.46 MiB"):
        await ask(engine, request)


async def test_the_bytes_come_back_with_the_first_token(engine_for: EngineFor, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = await narrow(engine_for, request_timeout_s=60.0)
    held: list[int] = []
    reserve = TicketOffice.reserve

    def recorded(office: TicketOffice, ticket: Ticket, sizes: dict[int, MediaSize]) -> None:
        reserve(office, ticket, sizes)
        held.append(office.held_bytes)

    monkeypatch.setattr(TicketOffice, "reserve", recorded)
    unique = picture("purple", size=(400, 300))
    unique.putpixel((0, 0), tuple(secrets.token_bytes(3)))  # not one that was sent before, of which facts would do
    stream = engine.stream(chat(unique, "Go on.", max_tokens=50))
    await anext(stream)
    assert held and set(held) == {400 * 300 * 3}
    assert (engine._tickets.held_bytes, engine._tickets.num_requests) == (0, 1)
    await stream.aclose()


def test_each_model_that_may_be_loaded_has_its_places() -> None:
    many = EngineConfig(max_num_seqs=4, more_models=(ModelSpec("org/a", max_seqs=2), ModelSpec("org/b", max_seqs=3)))
    assert Places.of(EngineConfig(max_num_seqs=4)).num_seqs == 4
    assert Places.of(many).num_seqs == 9
    assert Places.of(replace(many, max_loaded_models=2)).num_seqs == 7
