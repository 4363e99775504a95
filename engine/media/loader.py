"""The media of a request, fetched and decoded: in order, within limits, clips in their own processes.

    request ── each part ──> fetch pool: waits for the network ──> decode pool: bytes to pixels ──> Media
                             (only http(s) parts)                  (2 threads, callers take turns)

Called from any event loop; the work is done in the pools' threads, which core makes. Bytes and numpy only. The time
limits of fetching and decoding start when that work starts; waiting for a turn has a limit of its own
(queue_timeout_s).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Hashable, Iterable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from engine.bounded import BoundedCache
from engine.config import EngineConfig, MediaLimits
from engine.errors import BadMedia, BadRequest, Busy, Unavailable, say_bytes
from engine.media.expected import USUAL_BYTES, MediaSize, expected_size, picture_size
from engine.media.fair_pool import FairPool, PoolJob
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

MAX_OUTLINES = 4096
"""Media of which the facts are kept when their pixels are gone: some hundred bytes each."""

DOCUMENT_BYTES = 64 * 1024**2
"""Pages of documents, as files of pictures, that are kept for the next question about them."""

MAX_DOCUMENTS = 256

FETCHES_PER_CALLER = 8
"""Addresses of one caller that are read at once: a few slow ones must not take every thread from the others."""

GRACE_S = 10.0
"""Fetching and decoding end themselves at their time limit, with a better message. A thread that has not ended this
long after it is given up."""


class Room(Protocol):
    """Where a request's decoded media are accounted for (engine.runtime.tickets.Ticket)."""

    def reserve(self, index: int, num_bytes: int) -> None: ...
    def busy(self, message: str) -> Busy: ...


@dataclass(frozen=True, slots=True)
class _Stage:
    """Threads, and after how long one that does not come back is given up."""

    word: str
    pool: FairPool
    limit_s: float


@dataclass(eq=False)
class _Load:
    """One call of `load`. fetched_bytes: over the network, of all its media so far. num_begun: of its jobs, so far."""

    request: Request
    room: Room
    is_preflight: bool
    takes_clips: bool = False
    need_pixels: bool = True
    fetched_bytes: int = 0
    num_begun: int = 0


def caller_of(request: Request) -> Hashable:
    """Whose turn it is: a tenant's page, or all that a tenant sends by other ways."""
    return request.tenant, request.session or request.source


class Loader:
    """Holds what waits in the pools, and the processes that decode clips: one per thread of the pool at most."""

    def __init__(self, config: EngineConfig, decoding: Executor, fetching: Executor) -> None:
        self._limits = config.media
        self._frames = config.frames
        limits = config.media
        self._fetching = _Stage("fetching", FairPool(fetching, FETCHES_PER_CALLER), limits.fetch_timeout_s + GRACE_S)
        self._decoding = _Stage("decoding", FairPool(decoding), limits.decode_timeout_s + GRACE_S)
        self._waiting: set[asyncio.Task[Media]] = set()
        self._decoders: list[Decoder] = []
        self._idle: deque[Decoder] = deque()
        self._decoded: BoundedCache[Hashable, Media] = BoundedCache(MAX_DECODED, DECODED_BYTES, _num_bytes)
        self._outlines: BoundedCache[Hashable, Media] = BoundedCache(MAX_OUTLINES, MAX_OUTLINES, lambda _: 1)
        self._documents: BoundedCache[Hashable, tuple[Part, ...]] = BoundedCache(
            MAX_DOCUMENTS, DOCUMENT_BYTES, lambda parts: sum(len(part.url or part.text) for part in parts)
        )
        self._closed = False
        self.thumbnails = Thumbnails()

    def expected_sizes(self, request: Request) -> list[MediaSize]:
        """What the request's media will take decoded, as far as that is known before they are fetched."""
        return [expected_size(part, self._limits) for part in request.media_parts]

    async def open_documents(self, request: Request, room: Room) -> Request:
        """The request with pictures and texts in place of its documents (engine.media.document). Raises as load."""
        from engine.media.document import with_documents

        parts = [(index, part) for index, part in enumerate(request.media_parts) if part.kind == "document"]
        if not parts:
            return request
        if self._closed:
            raise Unavailable("The engine was stopped.")
        load = _Load(request, room, is_preflight=True)
        async with _at_once(self._open_document(load, index, part) for index, part in parts) as tasks:
            return with_documents(request, [await task for task in tasks])

    async def _open_document(self, load: _Load, index: int, part: Part) -> tuple[Part, ...]:
        contents = await self._fetch(load, index, part, FrameSampling())
        return await self._run(self._decoding, load, part, partial(self._read_document, load, part, contents))

    def _read_document(self, load: _Load, part: Part, contents: dict[Part, Content]) -> tuple[Part, ...]:
        """In a thread of the pool: the parts that this content was last turned into, or is now."""
        from engine.media.document import document_parts
        from engine.media.fetch import read_content

        data = (contents.get(part) or read_content(part, self._limits)).data
        work = partial(document_parts, part, data, self._limits)
        if not load.request.reuse:
            return work()
        key = (load.request.tenant, hashlib.sha256(data).digest(), replace(part, url=None, path=None))
        return self._documents.get_or_make(key, work)

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
        request reuses nothing. room is told of each medium's decoded bytes once they are known, before it is decoded
        where its header says them; it may raise. is_preflight: for a preflight, which comes again with every word that
        is typed: nothing is kept for the tabs. takes_clips: whether the model does; then pictures that move become
        clips. need_pixels: False where the facts alone may do of media that this tenant sent before: nothing is decoded
        then.
        """
        parts = request.media_parts
        if not parts:
            return ()
        if self._closed:
            raise Unavailable("The engine was stopped.")
        self._check_number(len(parts), room)
        load = _Load(request, room, is_preflight, takes_clips, need_pixels or not request.reuse)
        media: list[Media] = []
        try:
            async with _at_once(self._load_part(load, index, part) for index, part in enumerate(parts)) as tasks:
                for task in tasks:
                    self._waiting.add(task)
                    task.add_done_callback(self._waiting.discard)
                for part, task in zip(parts, tasks, strict=True):
                    media.append(await task)
                    self._check_bytes(part, sum(medium.num_bytes for medium in media))
        except (asyncio.CancelledError, RuntimeError):
            # close() cancels what waits; a task that is cancelled itself goes on being so.
            if self._closed:
                raise Unavailable("The engine was stopped.") from None
            raise
        return tuple(media)

    async def as_seen(
        self, request: Request, media: tuple[Media, ...], receipts: tuple[MediaReceipt, ...]
    ) -> tuple[tuple[bytes, ...], ...]:
        """PNGs of what the model saw of each medium."""
        from engine.media.resize import pngs

        work = [partial(pngs, medium, receipt.seen_px) for medium, receipt in zip(media, receipts, strict=True)]
        async with _at_once(self.compute(request, one) for one in work) as tasks:
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
        if len(self._waiting) + count > most:
            raise room.busy(f"{len(self._waiting)} media are waiting to be read; the limit is {most}.")

    def _check_bytes(self, part: Part, num_bytes: int) -> None:
        from engine.media.medium import bad_media

        if num_bytes > (most := self._limits.max_request_bytes):
            why = f"with it the request's media have {say_bytes(num_bytes)}; at most {say_bytes(most)} are allowed"
            raise bad_media(part, f"{why} together")

    async def _load_part(self, load: _Load, index: int, part: Part) -> Media:
        # The server's own rate is for clips; of a list every frame was meant.
        default = replace(self._frames, fps=None) if part.parts else self._frames
        frames = (part.frames or FrameSampling()).over(load.request.frames.over(default))
        contents = await self._fetch(load, index, part, frames)
        medium = await self._run(self._decoding, load, part, partial(self._decode, load, index, frames, contents))
        load.room.reserve(index, _num_bytes(medium))
        return medium

    async def _fetch(self, load: _Load, index: int, part: Part, frames: FrameSampling) -> dict[Part, Content]:
        """The bytes of what has to come over the network, all addresses at once."""
        from engine.media.fetch import read_content
        from engine.media.read_medium import remote_parts

        contents: dict[Part, Content] = {}

        async def fetch(remote: Part) -> None:
            work = partial(read_content, remote, self._limits)
            contents[remote] = content = await self._run(self._fetching, load, remote, work)
            load.fetched_bytes += len(content.data)
            self._check_bytes(remote, load.fetched_bytes)
            num_bytes = sum(len(content.data) for content in contents.values())
            if num_bytes > USUAL_BYTES[part.kind]:  # as long as it waits to be decoded, it takes at least this
                load.room.reserve(index, num_bytes)

        async with _at_once(fetch(remote) for remote in remote_parts(part, self._limits, frames)) as tasks:
            for task in tasks:
                await task
        return contents

    async def _run(self, stage: _Stage, load: _Load, part: Part, work: Callable[[], T]) -> T:
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

    async def _begun(self, job: PoolJob[T], load: _Load, part: Part) -> None:
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

    def _decode(self, load: _Load, index: int, frames: FrameSampling, contents: dict[Part, Content]) -> Media:
        """In a thread of the pool. contents: what was fetched; all else is read here."""
        from engine.media.fetch import read_content
        from engine.media.read_medium import Steps, decode_anew, load_media

        part, request = load.request.media_parts[index], load.request
        key = self._outline_key(load, part, frames, contents)
        if (outline := self._outline(load, key)) is not None:
            return outline

        def reserve(data: bytes) -> None:
            if part.kind == "image" and (size := picture_size(part, data, self._limits)) is not None:
                load.room.reserve(index, size.num_bytes)

        steps = Steps(
            read=lambda p, limits: contents.get(p) or read_content(p, limits),
            check=reserve,
            decode_clip=self._decode_clip,
            known=partial(self._known, request.tenant) if request.reuse else decode_anew,
            takes_clips=load.takes_clips,
        )
        medium = load_media(part, self._limits, frames, steps)
        if key is not None and medium.kind != "audio":
            self._outlines.put(key, replace(medium, fetch_ms=0.0, decode_ms=0.0).without_pixels())
        if not load.is_preflight:
            self._keep_thumbnail(request, medium)
        return medium

    def _outline_key(
        self, load: _Load, part: Part, frames: FrameSampling, contents: dict[Part, Content]
    ) -> Hashable | None:
        """What says that a part gives the same medium as before: where it is from, as it is there now, and how it is
        read. None for what is never kept."""
        from engine.media.fetch import fingerprint

        if part.parts or not load.request.reuse:
            return None
        source = fingerprint(part, contents.get(part))
        how = replace(part, url=None, path=None, param="")
        return None if source is None else (load.request.tenant, source, how, frames, load.takes_clips)

    def _outline(self, load: _Load, key: Hashable | None) -> Media | None:
        """The facts of a medium, where these will do and nothing else needs its pixels: no thumbnail is missing."""
        outline = None if load.need_pixels or key is None else self._outlines.get(key)
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


@asynccontextmanager
async def _at_once(coroutines: Iterable[Coroutine[Any, Any, T]]) -> AsyncIterator[list[asyncio.Task[T]]]:
    """All of them as tasks. At the end of the block what still runs is cancelled."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _num_bytes(medium: Media) -> int:
    if not medium.has_pixels:
        return 0
    return medium.pixels.nbytes + medium.samples.nbytes
