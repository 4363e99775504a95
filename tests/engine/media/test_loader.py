"""loading: a request's media within its limits; what one request does to the pool is its own trouble."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL.PngImagePlugin import PngImageFile

from engine.config import EngineConfig, MediaLimits
from engine.errors import BadMedia, BadRequest, Busy, Unavailable
from engine.media import child, read_medium
from engine.media import loader as loading
from engine.media.loader import Loader
from engine.runtime.intake.tickets import Places, Ticket, TicketOffice
from engine.types import FrameSampling, Message, Part, Request
from engine.types.media import Media
from tests.engine.drive import ask, chat, part
from tests.pictures import encode, numbered_frames, picture, write_clip

RED = picture("red")
SIZE = len(encode(RED))


OPEN = {"allow_private_urls": True}


def loader(decoding: ThreadPoolExecutor | None = None, **limits: Any) -> Loader:
    decoding = decoding or ThreadPoolExecutor(2)
    return Loader(EngineConfig(media=MediaLimits(**limits)), decoding, ThreadPoolExecutor(32))


def room(max_media_bytes: int = 1 << 40) -> Ticket:
    """A ticket for a request of any number of media."""
    return TicketOffice(Places(1, 0, max_media_bytes)).take()


async def media_of(made: Loader, request: Request, **more: Any) -> tuple[Media, ...]:
    return await made.load(request, room(), **more)


@pytest.fixture
def plain() -> Iterator[Loader]:
    made = loader()
    yield made
    made.close()


def numbered(count: int) -> Request:
    parts = [replace(part(RED), param=f"content[{i}]") for i in range(count)]
    return Request(messages=(Message("user", tuple(parts)),))


async def test_three_hundred_pictures_come_in_order(plain: Loader) -> None:
    request = chat(*(picture("red", size=(16 + i, 16)) for i in range(300)), "?")
    media = await media_of(plain, request)
    assert [medium.decoded_px[0] for medium in media] == [16 + i for i in range(300)]


async def test_all_media_of_a_request_together() -> None:
    """Twin: one less fits."""
    made = loader(max_request_bytes=3 * SIZE)
    assert len(await media_of(made, numbered(3))) == 3
    with pytest.raises(BadMedia, match=r"content\[3\]: with it the request's media have .* together"):
        await media_of(made, numbered(4))
    made.close()


async def test_more_than_may_wait() -> None:
    pool, gate = ThreadPoolExecutor(1), threading.Event()
    made = loader(pool, max_waiting=5)
    with pytest.raises(BadRequest, match="6 media were sent; at most 5"):
        await media_of(made, numbered(6))
    pool.submit(gate.wait)
    first = asyncio.create_task(media_of(made, numbered(4)))
    await asyncio.sleep(0.01)
    with pytest.raises(Busy, match="4 media are waiting to be read; the limit is 5"):
        await media_of(made, numbered(2))
    gate.set()
    assert len(await first) == 4
    assert len(await media_of(made, numbered(5))) == 5, "nothing is left behind"
    made.close()


def documents(count: int) -> Request:
    parts = [Part("document", url=f"data:text/plain,{i}", param=f"content[{i}]") for i in range(count)]
    return Request(messages=(Message("user", tuple(parts)),), reuse=False)


async def until_waiting(made: Loader, count: int) -> None:
    async with asyncio.timeout(20):
        while made._num_waiting != count:
            await asyncio.sleep(0.001)


async def test_more_documents_than_may_wait() -> None:
    """They count with all that waits: pictures behind documents, and documents behind pictures."""
    pool, gate = ThreadPoolExecutor(1), threading.Event()
    made = loader(pool, max_waiting=5)
    with pytest.raises(BadRequest, match="6 media were sent; at most 5"):
        await made.open_documents(documents(6), room())
    pool.submit(gate.wait)
    first = asyncio.create_task(made.open_documents(documents(3), room()))
    await until_waiting(made, 3)
    second = asyncio.create_task(media_of(made, numbered(1)))
    await until_waiting(made, 4)
    with pytest.raises(Busy, match="4 media are waiting to be read; the limit is 5"):
        await made.open_documents(documents(2), room())
    with pytest.raises(Busy, match="4 media are waiting to be read; the limit is 5"):
        await media_of(made, numbered(2))
    gate.set()
    assert [part.text for part in (await first).messages[0].parts] == [f"File:\n{i}" for i in range(3)]
    assert len(await second) == 1
    with pytest.raises(BadMedia):
        await made.open_documents(Request(messages=(Message("user", (Part("document", url="data:,%ff"),)),)), room())
    assert made._num_waiting == 0, "nothing is left behind"
    made.close()


async def test_the_first_that_fails_is_named_and_the_rest_given_up(plain: Loader) -> None:
    good, bad = numbered(3).messages[0].parts[:2], Part("image", url="data:,x", param="content[1]")
    with pytest.raises(BadMedia, match=r"content\[1\]"):
        await media_of(plain, Request(messages=(Message("user", (good[0], bad, good[1])),)))
    assert len(await media_of(plain, numbered(2))) == 2


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Part]:
    """The parts that were decoded."""
    parts: list[Part] = []
    decode = read_medium._decode

    def count(part: Part, *args: Any) -> Any:
        parts.append(part)
        return decode(part, *args)

    monkeypatch.setattr(read_medium, "_decode", count)
    return parts


@pytest.mark.parametrize("is_preflight", [True, False])
async def test_the_same_bytes_are_decoded_once(
    plain: Loader, tmp_path: Path, decoded: list[Part], is_preflight: bool
) -> None:
    """Unless what is asked of them has changed; by content, so that no file's name or date deceives."""
    path = write_clip(tmp_path / "a.mp4", numbered_frames(8))
    request = chat(path, RED, "?")
    first = await media_of(plain, request, is_preflight=is_preflight)
    again = await media_of(plain, replace(request, max_tokens=5))
    assert [id(medium.pixels) for medium in first] == [id(medium.pixels) for medium in again]
    assert len(decoded) == 2
    (fewer, _) = await media_of(plain, replace(request, frames=FrameSampling(max_frames=2)), is_preflight=is_preflight)
    assert (len(fewer.frames), len(decoded)) == (2, 3)
    written = path.stat()
    write_clip(path, numbered_frames(8)[::-1])
    os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))
    (changed, _) = await media_of(plain, request, is_preflight=is_preflight)
    assert (changed.sha256 != first[0].sha256, len(decoded)) == (True, 4)


async def test_what_must_not_be_shared_is_decoded_anew(plain: Loader, decoded: list[Part]) -> None:
    """Another tenant's, whom a faster answer would tell of it; and whoever reuses nothing, as a replay."""
    request = chat(RED, "?")
    await media_of(plain, request)
    await media_of(plain, replace(request, tenant="other"))
    assert len(decoded) == 2
    await media_of(plain, replace(request, reuse=False))
    assert len(decoded) == 3
    await media_of(plain, request)
    assert len(decoded) == 3


async def test_clearing_the_cache_forgets_what_was_decoded(demo_engine: Any, decoded: list[Part]) -> None:
    request = chat(picture("red", size=(100, 60)), "?", max_tokens=1)
    await ask(demo_engine, request)
    await ask(demo_engine, request)
    assert len(decoded) == 1
    (receipt,) = (await ask(demo_engine, request)).done.media
    assert demo_engine.thumbnail(receipt.sha256) is not None
    await demo_engine.cache.clear()
    assert demo_engine.thumbnail(receipt.sha256) is None
    await ask(demo_engine, request)
    assert len(decoded) == 2


async def test_a_look_keeps_nothing_for_the_tabs(plain: Loader) -> None:
    request = chat(RED, "?")
    (looked,) = await media_of(plain, request, is_preflight=True)
    assert plain.thumbnails.get(looked.sha256) is None
    await media_of(plain, request)
    assert plain.thumbnails.get(looked.sha256) is not None


async def test_what_is_kept_decoded_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "DECODED_BYTES", 100_000)
    made = loader()
    await media_of(made, chat(*(picture("red", size=(96 + i, 96)) for i in range(20)), "?"))
    assert 1 <= len(made._decoded) <= 3 and made._decoded.num_bytes <= 100_000
    made.close()


async def test_closing_ends_what_waits() -> None:
    made = loader()
    waiting = asyncio.create_task(media_of(made, replace(numbered(200), reuse=False)))
    await asyncio.sleep(0.01)
    made.close()
    with pytest.raises(Unavailable):
        await waiting
    with pytest.raises(Unavailable):
        await media_of(made, numbered(1))


async def test_closing_ends_documents_that_wait() -> None:
    pool, gate = ThreadPoolExecutor(1), threading.Event()
    made = loader(pool)
    pool.submit(gate.wait)
    waiting = asyncio.create_task(made.open_documents(documents(5), room()))
    await until_waiting(made, 5)
    made.close()
    with pytest.raises(Unavailable, match="The engine was stopped"):
        await waiting
    with pytest.raises(Unavailable):
        await made.open_documents(documents(1), room())
    gate.set()
    assert made._num_waiting == 0, "nothing is left behind"


async def test_one_who_gives_up_on_documents_is_cancelled() -> None:
    """Twin: without close it stays what it is."""
    pool, gate = ThreadPoolExecutor(1), threading.Event()
    made = loader(pool)
    pool.submit(gate.wait)
    waiting = asyncio.create_task(made.open_documents(documents(5), room()))
    await until_waiting(made, 5)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()
    assert made._num_waiting == 0
    made.close()


async def test_a_killed_decoder_fails_one_request_of_the_engine(
    demo_engine: Any, clip_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = chat(clip_path, "What happens?", reuse=False)
    text = (await ask(demo_engine, request)).text
    decoders = demo_engine._media._decoders
    stopped = [pid for decoder in decoders if (pid := decoder.pid)]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    received = child._received

    def received_of_the_dead(*args: Any) -> Media:
        for pid in stopped:
            os.kill(pid, signal.SIGKILL)
        return received(*args)

    with monkeypatch.context() as patch:
        patch.setattr(child, "_received", received_of_the_dead)
        with pytest.raises(BadMedia, match="killed by SIGKILL"):
            await ask(demo_engine, request)
    assert (await ask(demo_engine, chat("Hello"))).text
    assert (await ask(demo_engine, request)).text == text


# -- the same content at once ------------------------------------------------------------------------------------------


@pytest.fixture
def slow_png(monkeypatch: pytest.MonkeyPatch) -> Slow:
    """Pillow takes its time for the pixels of a PNG, and may fail: behind the fence, inside the library."""
    slow, decode = Slow(), PngImageFile.load

    def load_slowly(image: Any) -> Any:
        slow.count += 1
        slow.begun.set()
        slow.go_on.wait(slow.seconds)
        if slow.count <= slow.failures:
            raise MemoryError
        return decode(image)

    monkeypatch.setattr(PngImageFile, "load", load_slowly)
    return slow


@dataclass
class Slow:
    """seconds: how long it takes, unless `go_on` ends it."""

    seconds: float = 60.0
    failures: int = 0
    count: int = 0
    begun: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)


async def test_twice_at_once_is_decoded_once(plain: Loader, decoded: list[Part], slow_png: Slow) -> None:
    both = [asyncio.create_task(media_of(plain, chat(RED, words))) for words in "ab"]
    await asyncio.to_thread(slow_png.begun.wait, 60)
    await asyncio.sleep(0.3)  # the second has asked for it by now
    slow_png.go_on.set()
    (one,), (two,) = await asyncio.gather(*both)
    assert one.pixels is two.pixels and len(decoded) == 1


async def test_the_first_that_fails_does_not_poison_the_second(plain: Loader, slow_png: Slow) -> None:
    slow_png.failures = 1
    first = asyncio.create_task(media_of(plain, chat(RED, "a")))
    await asyncio.to_thread(slow_png.begun.wait, 10)
    second = asyncio.create_task(media_of(plain, chat(RED, "b")))
    await asyncio.sleep(0.3)  # it has asked by now
    slow_png.go_on.set()
    with pytest.raises(BadMedia, match="does not fit in memory"):
        await first
    assert len(await second) == 1


async def test_the_first_that_is_cancelled_does_not_cancel_the_second(
    plain: Loader, decoded: list[Part], slow_png: Slow
) -> None:
    first = asyncio.create_task(media_of(plain, chat(RED, "a")))
    await asyncio.to_thread(slow_png.begun.wait, 10)
    second = asyncio.create_task(media_of(plain, chat(RED, "b")))
    await asyncio.sleep(0.3)  # it has asked by now
    first.cancel()
    await asyncio.sleep(0)
    slow_png.go_on.set()
    assert len(await second) == 1 and len(decoded) == 1
    assert first.cancelled()


# -- the clock of a medium ---------------------------------------------------------------------------------------------


@pytest.fixture
def no_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "GRACE_S", 0.0)


@pytest.mark.usefixtures("no_grace")
async def test_a_medium_that_waits_longer_than_its_own_limit_is_served() -> None:
    pool, gate = ThreadPoolExecutor(1), threading.Event()
    made = loader(pool, decode_timeout_s=1.0, fetch_timeout_s=1.0)
    pool.submit(gate.wait)
    waiting = asyncio.create_task(media_of(made, numbered(3)))
    await asyncio.sleep(1.5)
    assert not waiting.done()
    gate.set()
    assert len(await waiting) == 3
    made.close()


@pytest.mark.usefixtures("no_grace")
async def test_sabotage_one_whose_own_work_takes_longer_is_refused(slow_png: Slow) -> None:
    """Twin: then it is the medium's fault, and the error says so."""
    slow_png.seconds = 1.0
    made = loader(decode_timeout_s=0.2)
    with pytest.raises(BadMedia, match=r"content\[0\]: decoding it took more than 0\.2 s"):
        await media_of(made, numbered(1))
    made.close()


async def test_one_that_waits_too_long_for_others_is_busy_not_bad() -> None:
    pool, gate = ThreadPoolExecutor(1), threading.Event()
    made = loader(pool, queue_timeout_s=0.2)
    pool.submit(gate.wait)
    with pytest.raises(Busy, match=r"content\[0\]: it waited 0\.2 s for the media of others") as caught:
        await media_of(made, numbered(2))
    assert caught.value.status == 429 and caught.value.retry_after_s >= 1
    gate.set()
    assert len(await media_of(made, numbered(2))) == 2, "nothing is left behind"
    made.close()


# -- fair between callers ----------------------------------------------------------------------------------------------


class SlowSite(BaseHTTPRequestHandler):
    """/stall answers nothing until the test is over; all else is RED at once."""

    def do_GET(self) -> None:
        if self.path.startswith("/stall"):
            self.server.stalled.release()  # type: ignore[attr-defined]
            self.server.over.wait(60)  # type: ignore[attr-defined]
            return
        body = encode(RED)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def slow_site() -> Iterator[Any]:
    """The server; `url`, and `stalled`, a semaphore of the addresses that it keeps waiting."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), SlowSite)
    server.daemon_threads, server.request_queue_size = True, 128
    server.over, server.stalled = threading.Event(), threading.Semaphore(0)
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


def addresses(*urls: str, **more: Any) -> Request:
    return Request(messages=(Message("user", tuple(Part("image", url=url) for url in urls)),), **more)


async def seconds(work: Any) -> float:
    began_s = time.perf_counter()
    await work
    return time.perf_counter() - began_s


async def test_slow_addresses_of_one_keep_nobody_elses_picture_waiting(slow_site: Any) -> None:
    """Neither a data: picture nor one from an address that answers: at most 1.2 times alone and one decode."""
    made = loader(**OPEN, fetch_timeout_s=30.0)
    large = picture("blue", size=(2000, 1500))
    data = chat(large, "?", session="other", reuse=False)
    url = addresses(f"{slow_site.url}/red", session="other", reuse=False)
    await media_of(made, data)  # imports
    alone_s = [sorted([await seconds(media_of(made, request)) for _ in range(3)])[1] for request in (data, url)]
    slow = addresses(*(f"{slow_site.url}/stall{i}" for i in range(40)), session="slow")
    waiting = asyncio.create_task(media_of(made, slow))
    for _ in range(loading.FETCHES_PER_CALLER):
        assert await asyncio.to_thread(slow_site.stalled.acquire, timeout=10)
    beside_s = [sorted([await seconds(media_of(made, request)) for _ in range(3)])[1] for request in (data, url)]
    assert not waiting.done()
    for alone, beside in zip(alone_s, beside_s, strict=True):
        assert beside < 1.2 * alone + alone_s[0] + 0.1, "a decode, and a moment for a machine that is not idle"
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    made.close()


async def test_sabotage_without_a_share_for_each_caller_others_wait(
    slow_site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twin: all threads wait for the slow addresses of one."""
    monkeypatch.setattr(loading, "FETCHES_PER_CALLER", None)
    made = loader(**OPEN, fetch_timeout_s=30.0)
    slow = addresses(*(f"{slow_site.url}/stall{i}" for i in range(40)), session="slow")
    waiting = asyncio.create_task(media_of(made, slow))
    for _ in range(32):
        assert await asyncio.to_thread(slow_site.stalled.acquire, timeout=10)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0):
            await media_of(made, addresses(f"{slow_site.url}/red", session="other"))
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    made.close()


async def test_many_pictures_of_one_let_another_s_go_between(slow_png: Slow, decoded: list[Part]) -> None:
    slow_png.seconds = 0.05
    made = loader()
    many = asyncio.create_task(media_of(made, replace(numbered(60), reuse=False, session="many")))
    await asyncio.to_thread(slow_png.begun.wait, 10)
    await media_of(made, replace(numbered(1), reuse=False, session="one"))
    assert len(decoded) < 10, "it had to wait for those that ran, not for all that waited"
    assert len(await many) == 60
    made.close()


async def test_a_list_of_frames_is_fetched_at_once_and_in_order(slow_site: Any) -> None:
    made = loader(**OPEN)
    frames = tuple(Part("image", url=f"{slow_site.url}/{i}", param=f"frame[{i}]") for i in range(5))
    (clip,) = await media_of(made, Request(messages=(Message("user", (Part("video", parts=frames),)),)))
    assert (clip.pixels.shape[0], clip.fetch_ms > 0) == (6, True)
    broken = (*frames[:3], Part("image", url=f"{slow_site.url}/stall", param="frame[3]"))
    quick = loader(**OPEN, fetch_timeout_s=0.3)
    with pytest.raises(BadMedia, match=r"frame\[3\]: fetching took longer than 0\.3 s"):
        await media_of(quick, Request(messages=(Message("user", (Part("video", parts=broken),)),)))
    made.close()
    quick.close()


async def test_what_is_fetched_is_bounded_before_it_is_decoded(slow_site: Any) -> None:
    made = loader(**OPEN, max_request_bytes=3 * SIZE)
    urls = [f"{slow_site.url}/{i}" for i in range(4)]
    assert len(await media_of(made, addresses(*urls[:3]))) == 3
    with pytest.raises(BadMedia, match=r"at most .* are allowed together"):
        await media_of(made, addresses(*urls))
    made.close()
