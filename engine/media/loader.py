"""The media of a request, fetched and decoded: in order, within limits, clips in their own processes.

    request ── each part ──> fetch pool: waits for the network ──> decode pool: bytes to pixels ──> Media
                             (only http(s) parts)                  (2 threads, callers take turns)

Called from any event loop; the work is done in the pools' threads, which core makes. Bytes and numpy only. The time
limits of fetching and decoding start when that work starts; waiting for a turn has a limit of its own
(queue_timeout_s).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Hashable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from engine.bounded import BoundedCache
from engine.config import EngineConfig, MediaLimits
from engine.errors import BadMedia, BadRequest, Unavailable, say_bytes
from engine.media.expected import (
    USUAL_BYTES,
    MediaSize,
    expected_size,
    in_base64,
    picture_size,
    sent_size,
)
from engine.media.fair_pool import FairPool, PoolJob
from engine.media.in_flight import MediaLoad, PoolStage, Room, at_once, caller_of
from engine.media.recent import OpenDocuments, Outlines
from engine.media.thumbnails import Thumbnails, reduced
from engine.types import FrameSampling, MediaReceipt, Part, Request

if TYPE_CHECKING:
    from engine.media.child import Decoder
    from engine.media.fetch import Content
    from engine.types.media import Media

T = TypeVar("T")

DECODED_BYTES = 128 * 1024**2
"""Decoded media that are kept for the next question about them."""

MAX_DECODED = 1024

FETCHES_PER_CALLER = 8
"""Addresses of one caller that are read at once: a few slow ones must not take every thread from the others."""

GRACE_S = 10.0
"""Fetching and decoding end themselves at their time limit, with a better message. A thread that has not ended this
long after it is given up."""


class Loader:
    """Holds what waits in the pools, and the processes that decode clips: one per thread of the pool at most.

    fetched: is told of what came over the network for a request, on its event loop.
    """

    def __init__(
        self,
        config: EngineConfig,
        decoding: Executor,
        fetching: Executor,
        fetched: Callable[[Request, Part, bytes], None] = lambda request, part, data: None,
    ) -> None:
        self._fetched = fetched
        self._limits = config.media
        self._frames = config.frames
        limits = config.media
        self._fetching = PoolStage("fetching", FairPool(fetching, FETCHES_PER_CALLER), limits.fetch_timeout_s + GRACE_S)
        self._decoding = PoolStage("decoding", FairPool(decoding), limits.decode_timeout_s + GRACE_S)
        self._num_waiting = 0
        self._decoders: list[Decoder] = []
        self._idle: deque[Decoder] = deque()
        self._decoded: BoundedCache[Hashable, Media] = BoundedCache(MAX_DECODED, DECODED_BYTES, _num_bytes)
        self._outlines = Outlines()
        self._documents = OpenDocuments()
        self._closed = False
        self.thumbnails = Thumbnails()

    async def open_documents(self, request: Request, room: Room) -> Request:
        """The request with pictures and texts in place of its documents (engine.media.document). Raises as load, and
        counts documents among the media that wait."""
        from engine.media.document import with_documents

        parts = [(index, part) for index, part in enumerate(request.media_parts) if part.kind == "document"]
        if not parts:
            return request
        load = MediaLoad(request, room, is_preflight=True, num_waiting=len(parts))
        room.clock.enter("media")
        async with self._waiting(load):
            room.expect([expected_size(part, self._limits) for part in request.media_parts])
            async with at_once(self._open_document(load, index, part) for index, part in parts) as tasks:
                return with_documents(request, [await task for task in tasks])

    async def _open_document(self, load: MediaLoad, index: int, part: Part) -> tuple[Part, ...]:
        try:
            contents = await self._fetch(load, index, part, FrameSampling())
            return await self._run(self._decoding, load, part, partial(self._read_document, load, part, contents))
        finally:
            self._waited(load, 1)

    def _read_document(self, load: MediaLoad, part: Part, contents: dict[Part, Content]) -> tuple[Part, ...]:
        """In a thread of the pool: the parts that this content was last turned into, or is now."""
        from engine.media.fetch import read_content

        content = contents.get(part) or read_content(part, self._limits)
        return self._documents.parts(load.request, part, content.data, self._limits)

    async def as_sent(self, request: Request, room: Room) -> dict[Part, bytes]:
        """The bytes of every medium as it came, of each frame of a list too: nothing is decoded. room is told what they
        take in the body of a request, which is in base64. Raises as load."""
        parts = request.media_parts
        load = MediaLoad(request, room, is_preflight=False, num_waiting=len(parts))
        works = (self._read_sent(load, index, part) for index, part in enumerate(parts))
        found: dict[Part, bytes] = {}
        async with self._waiting(load):
            room.expect([sent_size(part) for part in parts])
            async with at_once(works) as tasks:
                for part, task in zip(parts, tasks, strict=True):
                    found |= await task
                    self._check_bytes(part, sum(map(len, found.values())))
        return found

    async def _read_sent(self, load: MediaLoad, index: int, part: Part) -> dict[Part, bytes]:
        from engine.media.fetch import read_all

        load.room.clock.enter("media")
        there = await self._fetch(load, index, part, FrameSampling())
        found = await self._run(self._decoding, load, part, partial(read_all, part, there, self._limits))
        load.room.reserve(index, in_base64(sum(map(len, found.values()))))
        return found

    async def load(
        self,
        request: Request,
        room: Room,
        *,
        is_preflight: bool = False,
        takes_clips: bool = False,
        need_pixels: bool = True,
    ) -> tuple[Media, ...]:
        """The request's media, decoded, in the order of its parts. Raises BadMedia for the first that fails, BadRequest
        or Busy for more than may wait; the others are then cancelled.

        What the tenant's last requests and preflights had decoded from the same bytes is taken as it is, unless the
        request reuses nothing. room is told what the media will take, as far as that is known before they are fetched,
        and of each medium's decoded bytes once they are known, before it is decoded where its header says them; it may
        raise. is_preflight: for a preflight, which comes again with every word that
        is typed: nothing is kept for the tabs. takes_clips: whether the model does; then pictures that move become
        clips. need_pixels: False where the facts alone may do of media that this tenant sent before: nothing is decoded
        then.
        """
        parts = request.media_parts
        if not parts:
            return ()
        load = MediaLoad(
            request, room, is_preflight, takes_clips, need_pixels or not request.reuse, num_waiting=len(parts)
        )
        room.clock.enter("media")
        async with self._waiting(load):
            return await self._load_parts(load, parts)

    @asynccontextmanager
    async def _waiting(self, load: MediaLoad) -> AsyncIterator[None]:
        """Its media count as waiting until they are there, at the end of the block at the latest. Raises BadRequest or
        Busy for more than may wait, and Unavailable where the loader is closed, or meanwhile."""
        if self._closed:
            raise Unavailable("The engine was stopped.")
        self._check_number(load.num_waiting, load.room)
        self._num_waiting += load.num_waiting
        try:
            yield
        except (asyncio.CancelledError, RuntimeError):
            # close() cancels what waits; a task that is cancelled itself goes on being so.
            if self._closed:
                raise Unavailable("The engine was stopped.") from None
            raise
        finally:
            self._waited(load, load.num_waiting)

    async def _load_parts(self, load: MediaLoad, parts: list[Part]) -> tuple[Media, ...]:
        known: list[Media | None] = [None] * len(parts)
        if not load.need_pixels:
            # In two turns: if each waited for its own, that would take longer than the rest of an old picture's way.
            halves = [parts[: len(parts) // 2], parts[len(parts) // 2 :]]
            works = [partial(self._look_up, load, half) for half in halves if half]
            async with at_once(self._run(self._decoding, load, parts[0], work) for work in works) as tasks:
                found = [await task for task in tasks]
            known, load.keys = (
                [value for half in of_halves for value in half] for of_halves in zip(*found, strict=True)
            )
        none = MediaSize(0, is_exact=True)
        load.room.expect([none if k else expected_size(p, self._limits) for p, k in zip(parts, known, strict=True)])
        new = [index for index, medium in enumerate(known) if medium is None]
        self._waited(load, len(parts) - len(new))
        num_bytes = 0
        media: list[Media] = []
        async with at_once(self._load_part(load, index, parts[index]) for index in new) as tasks:
            reading = iter(tasks)
            for part, medium in zip(parts, known, strict=True):
                media.append(await next(reading) if medium is None else medium)
                num_bytes += media[-1].num_bytes
                self._check_bytes(part, num_bytes)
        return tuple(media)

    async def as_seen(
        self, request: Request, media: tuple[Media, ...], receipts: tuple[MediaReceipt, ...]
    ) -> tuple[tuple[bytes, ...], ...]:
        """PNGs of what the model saw of each medium."""
        from engine.media.resize import pngs

        work = [partial(pngs, medium, receipt.seen_px) for medium, receipt in zip(media, receipts, strict=True)]
        async with at_once(self.compute(request, one) for one in work) as tasks:
            return tuple([await task for task in tasks])

    async def compute(self, request: Request, work: Callable[[], T]) -> T:
        """What other work for a request returns, done where media are decoded when its caller's turn comes."""
        if self._closed:
            raise Unavailable("The engine was stopped.")
        job = self._decoding.pool.submit(caller_of(request), work)
        try:
            return await asyncio.wrap_future(job.result)
        except asyncio.CancelledError:
            if self._closed:  # close() cancels what waits
                raise Unavailable("The engine was stopped.") from None
            raise
        finally:
            job.cancel()

    @property
    def kept_bytes(self) -> int:
        """Of all decoded media and drawn pages that are kept. Any thread."""
        return int(self._decoded.num_bytes + self._documents.num_bytes)

    def forget(self, held: Collection[str] = ()) -> None:
        """Keep nothing of what was decoded, nor its thumbnails, but for those of these contents (sha256)."""
        self._decoded.clear()
        self._outlines.clear()
        self._documents.clear()
        self.thumbnails.retain(held)

    def close(self) -> None:
        """Cancel what waits and end the processes; what they were reading fails."""
        self._closed = True
        self._fetching.pool.close()
        self._decoding.pool.close()
        for decoder in self._decoders:
            decoder.kill()

    def _check_number(self, count: int, room: Room) -> None:
        most = self._limits.max_waiting
        if count > most:
            raise BadRequest(f"messages: {count} media were sent; at most {most} are allowed.", param="messages")
        if self._num_waiting + count > most:
            raise room.busy(f"{self._num_waiting} media are waiting to be read; the limit is {most}.")

    def _waited(self, load: MediaLoad, count: int) -> None:
        load.num_waiting -= count
        self._num_waiting -= count

    def _check_bytes(self, part: Part, num_bytes: int) -> None:
        from engine.media.medium import bad_media

        if num_bytes > (most := self._limits.max_request_bytes):
            why = f"with it the request's media have {say_bytes(num_bytes)}; at most {say_bytes(most)} are allowed"
            raise bad_media(part, f"{why} together")

    async def _load_part(self, load: MediaLoad, index: int, part: Part) -> Media:
        try:
            frames = self._frames_of(load, part)
            contents = await self._fetch(load, index, part, frames)
            medium = await self._run(self._decoding, load, part, partial(self._decode, load, index, frames, contents))
            load.room.reserve(index, _num_bytes(medium))
            return medium
        finally:
            self._waited(load, 1)

    def _frames_of(self, load: MediaLoad, part: Part) -> FrameSampling:
        # The server's own rate is for clips; of a list every frame was meant.
        default = replace(self._frames, fps=None) if part.parts else self._frames
        frames = load.request.frames.over(default)
        return part.frames.over(frames) if part.frames else frames

    def _look_up(self, load: MediaLoad, parts: list[Part]) -> tuple[list[Media | None], list[Hashable | None]]:
        """In a thread of the pool: the facts of each medium that was sent before, None for what has to be read; and
        what these are kept under."""
        keys = [self._key(load, part, None) for part in parts]
        return [self._outline(load, key) for key in keys], keys

    def _key(self, load: MediaLoad, part: Part, content: Content | None) -> Hashable | None:
        return self._outlines.key(load.request, part, (self._frames_of(load, part), load.takes_clips), content)

    async def _fetch(self, load: MediaLoad, index: int, part: Part, frames: FrameSampling) -> dict[Part, Content]:
        """The bytes of what has to come over the network, all addresses at once."""
        from engine.media.fetch import read_content
        from engine.media.read_medium import remote_parts

        contents: dict[Part, Content] = {}
        remotes = remote_parts(part, self._limits, frames)
        if not remotes:
            return contents

        async def fetch(remote: Part) -> None:
            work = partial(read_content, remote, self._limits)
            contents[remote] = content = await self._run(self._fetching, load, remote, work)
            self._fetched(load.request, remote, content.data)
            load.fetched_bytes += len(content.data)
            self._check_bytes(remote, load.fetched_bytes)
            num_bytes = sum(len(content.data) for content in contents.values())
            if num_bytes > USUAL_BYTES[part.kind]:  # as long as it waits to be decoded, it takes at least this
                load.room.reserve(index, num_bytes)

        with load.fetching():
            async with at_once(fetch(remote) for remote in remotes) as tasks:
                for task in tasks:
                    await task
        return contents

    async def _run(self, stage: PoolStage, load: MediaLoad, part: Part, work: Callable[[], T]) -> T:
        """What the work returns. Raises Busy when its turn does not come, BadMedia when it does not end in its time."""
        job = stage.pool.submit(caller_of(load.request), work)
        try:
            await self._begun(job, load, part)
            try:
                async with asyncio.timeout(stage.limit_s):
                    return await asyncio.wrap_future(job.result)
            except TimeoutError:
                why = f"{part.param}: {stage.word} it took more than {stage.limit_s:g} s."
                raise BadMedia(why, param=part.param) from None
        finally:
            job.cancel()

    async def _begun(self, job: PoolJob[T], load: MediaLoad, part: Part) -> None:
        """Wait for a job's turn. Raises Busy when meanwhile none of the request's own has had one."""
        started, limit_s = asyncio.wrap_future(job.started), self._limits.queue_timeout_s
        while True:
            before = load.num_begun
            done, _ = await asyncio.wait({started}, timeout=limit_s)
            if done:
                load.num_begun += 1
                return started.result()
            if load.num_begun == before:
                raise load.room.busy(f"{part.param}: it waited {limit_s:g} s for the media of others to be read.")

    def _decode(self, load: MediaLoad, index: int, frames: FrameSampling, contents: dict[Part, Content]) -> Media:
        """In a thread of the pool. contents: what was fetched; all else is read here."""
        from engine.media.fetch import read_content
        from engine.media.read_medium import Steps, decode_anew, load_media

        part, request = load.request.media_parts[index], load.request
        key = load.keys[index] if load.keys and part.path is None else None
        key = key or self._key(load, part, contents.get(part) if contents else None)
        if (outline := self._outline(load, key)) is not None:
            return outline

        def reserve(data: bytes) -> None:
            if part.kind == "image" and (size := picture_size(part, data, self._limits)) is not None:
                load.room.reserve(index, size.num_bytes)

        steps = Steps(
            read=lambda p, limits: (contents and contents.get(p)) or read_content(p, limits),
            check=reserve,
            decode_clip=self._decode_clip,
            known=partial(self._known, request.tenant) if request.reuse else decode_anew,
            takes_clips=load.takes_clips,
        )
        medium = load_media(part, self._limits, frames, steps)
        self._outlines.put(key, medium)
        if not load.is_preflight:
            self._keep_thumbnail(request, medium)
        return medium

    def _outline(self, load: MediaLoad, key: Hashable | None) -> Media | None:
        """The facts of a medium, where these will do and nothing else needs its pixels: no thumbnail is missing."""
        outline = None if load.need_pixels else self._outlines.get(key)
        if outline is None or (not load.is_preflight and self.thumbnails.get(outline.sha256) is None):
            return None
        return outline

    def _known(self, tenant: str, content: Hashable, decode: Callable[[], Media]) -> Media:
        """The medium that these bytes were decoded to before, if it is still kept (DECODED_BYTES); else decode it. In a
        thread of the pool."""
        return self._decoded.get_or_make((tenant, content), decode)

    def _keep_thumbnail(self, request: Request, medium: Media) -> None:
        """In a thread of the pool."""
        if medium.kind == "video":
            # Dozens of frames: the request does not wait for them, and they do not hold its pixels.
            small = reduced(medium)
            self._decoding.pool.submit(caller_of(request), partial(self.thumbnails.keep, small))
        else:
            self.thumbnails.keep(medium)

    def _decode_clip(self, part: Part, data: bytes, limits: MediaLimits, frames: FrameSampling) -> Media:
        """In a thread of the pool."""
        from engine.media.child import Decoder

        try:
            decoder = self._idle.pop()
        except IndexError:
            decoder = Decoder()
            self._decoders.append(decoder)
        try:
            return decoder.decode(part, data, limits, frames)
        finally:
            self._idle.append(decoder)


def _num_bytes(medium: Media) -> int:
    if not medium.has_pixels:
        return 0
    return medium.pixels.nbytes + medium.samples.nbytes
