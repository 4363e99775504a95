"""loading: a request's media within its limits; what one request does to the pool is its own trouble."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.config import EngineConfig, MediaLimits
from engine.errors import BadMedia, BadRequest, Busy, Unavailable
from engine.media import load
from engine.media import loader as loading
from engine.media.loader import Loader
from engine.types import FrameSampling, Message, Part, Request
from tests.engine.drive import ask, chat, part
from tests.pictures import encode, numbered_frames, picture, write_clip

RED = picture("red")
SIZE = len(encode(RED))


def loader(**limits: Any) -> Loader:
    return Loader(EngineConfig(media=MediaLimits(**limits)), ThreadPoolExecutor(2))


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
    media = await plain.load(request)
    assert [medium.decoded_px[0] for medium in media] == [16 + i for i in range(300)]


async def test_all_media_of_a_request_together() -> None:
    """Twin: one less fits."""
    made = loader(max_request_bytes=3 * SIZE)
    assert len(await made.load(numbered(3))) == 3
    with pytest.raises(BadMedia, match=r"content\[3\]: with it the request's media have .* together"):
        await made.load(numbered(4))
    made.close()


async def test_more_than_may_wait() -> None:
    pool, gate = ThreadPoolExecutor(1), threading.Event()
    made = Loader(EngineConfig(media=MediaLimits(max_waiting=5)), pool)
    with pytest.raises(BadRequest, match="6 media were sent; at most 5"):
        await made.load(numbered(6))
    pool.submit(gate.wait)
    first = asyncio.create_task(made.load(numbered(4)))
    await asyncio.sleep(0)
    with pytest.raises(Busy, match="4 media are waiting to be read; the limit is 5"):
        await made.load(numbered(2))
    gate.set()
    assert len(await first) == 4
    assert len(await made.load(numbered(5))) == 5, "nothing is left behind"
    made.close()


async def test_the_first_that_fails_is_named_and_the_rest_given_up(plain: Loader) -> None:
    good, bad = numbered(3).messages[0].parts[:2], Part("image", url="data:,x", param="content[1]")
    with pytest.raises(BadMedia, match=r"content\[1\]"):
        await plain.load(Request(messages=(Message("user", (good[0], bad, good[1])),)))
    assert len(await plain.load(numbered(2))) == 2


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Part]:
    """The parts that were decoded."""
    parts: list[Part] = []
    decode = load._decode

    def count(part: Part, *args: Any) -> Any:
        parts.append(part)
        return decode(part, *args)

    monkeypatch.setattr(load, "_decode", count)
    return parts


@pytest.mark.parametrize("is_look", [True, False])
async def test_the_same_bytes_are_decoded_once(
    plain: Loader, tmp_path: Path, decoded: list[Part], is_look: bool
) -> None:
    """Unless what is asked of them has changed; by content, so that no file's name or date deceives."""
    path = write_clip(tmp_path / "a.mp4", numbered_frames(8))
    request = chat(path, RED, "?")
    first = await plain.load(request, is_look=is_look)
    again = await plain.load(replace(request, max_tokens=5))
    assert [id(medium.pixels) for medium in first] == [id(medium.pixels) for medium in again]
    assert len(decoded) == 2
    (fewer, _) = await plain.load(replace(request, frames=FrameSampling(max_frames=2)), is_look=is_look)
    assert (len(fewer.frames), len(decoded)) == (2, 3)
    written = path.stat()
    write_clip(path, numbered_frames(8)[::-1])
    os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))
    (changed, _) = await plain.load(request, is_look=is_look)
    assert (changed.sha256 != first[0].sha256, len(decoded)) == (True, 4)


async def test_what_must_not_be_shared_is_decoded_anew(plain: Loader, decoded: list[Part]) -> None:
    """Another tenant's, whom a faster answer would tell of it; and whoever reuses nothing, as a replay."""
    request = chat(RED, "?")
    await plain.load(request)
    await plain.load(replace(request, tenant="other"))
    assert len(decoded) == 2
    await plain.load(replace(request, reuse=False))
    assert len(decoded) == 3
    await plain.load(request)
    assert len(decoded) == 3


async def test_clearing_the_cache_forgets_what_was_decoded(demo_engine: Any, decoded: list[Part]) -> None:
    request = chat(picture("red", size=(100, 60)), "?", max_tokens=1)
    await ask(demo_engine, request)
    await ask(demo_engine, request)
    assert len(decoded) == 1
    await demo_engine.clear_cache()
    await ask(demo_engine, request)
    assert len(decoded) == 2


async def test_a_look_keeps_nothing_for_the_tabs(plain: Loader) -> None:
    request = chat(RED, "?")
    (looked,) = await plain.load(request, is_look=True)
    assert plain.thumbnails.get(looked.sha256) is None
    await plain.load(request)
    assert plain.thumbnails.get(looked.sha256) is not None


async def test_what_is_kept_decoded_is_bounded(plain: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "DECODED_BYTES", 100_000)
    await plain.load(chat(*(picture("red", size=(96 + i, 96)) for i in range(20)), "?"))
    assert 1 <= len(plain._decoded) <= 3


async def test_closing_ends_what_waits() -> None:
    made = loader()
    waiting = asyncio.create_task(made.load(replace(numbered(200), reuse=False)))
    await asyncio.sleep(0.01)
    made.close()
    with pytest.raises(Unavailable):
        await waiting
    with pytest.raises(Unavailable):
        await made.load(numbered(1))


async def test_a_killed_decoder_fails_one_request_of_the_engine(demo_engine: Any, clip_path: Path) -> None:
    request = chat(clip_path, "What happens?", reuse=False)
    text = (await ask(demo_engine, request)).text
    decoders = demo_engine._media._decoders
    for pid in [pid for decoder in decoders if (pid := decoder.pid)]:
        os.kill(pid, signal.SIGSTOP)
        asyncio.get_running_loop().call_later(0.3, os.kill, pid, signal.SIGKILL)
    with pytest.raises(BadMedia, match="killed by SIGKILL"):
        await ask(demo_engine, request)
    assert (await ask(demo_engine, chat("Hello"))).text
    assert (await ask(demo_engine, request)).text == text
