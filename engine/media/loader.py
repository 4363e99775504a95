"""The media of a request, fetched and decoded in the media pool: in order, within limits, clips in their own processes.

Called from any event loop; the work is done by the pool's threads, which core makes. Bytes and numpy only.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from engine.config import EngineConfig
from engine.errors import BadMedia, BadRequest, Busy, Unavailable
from engine.media.thumbnails import Thumbnails
from engine.types import FrameSampling, MediaReceipt, Part, Request

if TYPE_CHECKING:
    from engine.media.child import Decoder
    from engine.media.load import Known
    from engine.types.media import Media


DECODED_BYTES = 128 * 1024**2
"""Decoded media that are kept for the next question about them."""


class Loader:
    """Holds what waits in the pool, and the processes that decode clips: one per thread of the pool at most."""

    def __init__(self, config: EngineConfig, pool: ThreadPoolExecutor) -> None:
        self._limits = config.media
        self._frames = config.frames
        self._pool = pool
        self._waiting: set[Future[Media]] = set()
        self._decoders: list[Decoder] = []
        self._idle: deque[Decoder] = deque()
        self._decoded: dict[Hashable, Media] = {}
        self._closed = False
        self.thumbnails = Thumbnails()

    async def load(self, request: Request, *, is_look: bool = False) -> tuple[Media, ...]:
        """Raises BadMedia for the first that fails, BadRequest or Busy for more than may wait; the rest is given up.

        What the tenant's last requests and looks had decoded from the same bytes is taken as it is, unless the request
        reuses nothing. is_look: for a preflight, which comes again with every word that is typed: nothing is kept for
        the tabs.
        """
        parts = request.media_parts
        if not parts:
            return ()
        self._check_room(len(parts))
        timeout_s = (self._limits.fetch_timeout_s + self._limits.decode_timeout_s) * len(parts)
        jobs = [self._submit(part, request, is_look) for part in parts]
        media: list[Media] = []
        try:
            async with asyncio.timeout(timeout_s):
                for part, job in zip(parts, jobs, strict=True):
                    media.append(await asyncio.wrap_future(job))
                    self._check_bytes(part, media)
        except TimeoutError as e:
            part = parts[len(media)]
            raise BadMedia(f"{part.param}: reading it took more than {timeout_s:.0f} s.", param=part.param) from e
        except (asyncio.CancelledError, RuntimeError):
            # close() cancels what waits; a task that is cancelled itself goes on being so.
            if self._closed:
                raise Unavailable("The engine was stopped.") from None
            raise
        finally:
            for job in jobs:
                job.cancel()
        return tuple(media)

    async def as_seen(
        self, media: tuple[Media, ...], receipts: tuple[MediaReceipt, ...]
    ) -> tuple[tuple[bytes, ...], ...]:
        """PNGs of what the model saw of each medium."""
        from engine.media.resize import pngs

        jobs = [self._pool.submit(pngs, m, receipt.seen_px) for m, receipt in zip(media, receipts, strict=True)]
        return tuple([await asyncio.wrap_future(job) for job in jobs])

    @property
    def kept_bytes(self) -> int:
        """Of all decoded media that are kept. Any thread."""
        return sum(_num_bytes(medium) for medium in tuple(self._decoded.values()))

    def forget(self) -> None:
        """Keep nothing of what was decoded."""
        self._decoded.clear()

    def close(self) -> None:
        """Cancel what waits and end the processes; what they were reading fails."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        for decoder in self._decoders:
            decoder.kill()

    def _check_room(self, count: int) -> None:
        most = self._limits.max_waiting
        if count > most:
            raise BadRequest(f"messages: {count} media were sent; at most {most} are allowed.", param="messages")
        if len(self._waiting) + count > most:
            raise Busy(
                f"{len(self._waiting)} media are waiting to be read; the limit is {most}. Try again in a moment."
            )

    def _check_bytes(self, part: Part, media: list[Media]) -> None:
        from engine.media.medium import refuse, say_bytes

        total, most = sum(medium.num_bytes for medium in media), self._limits.max_request_bytes
        if total > most:
            why = f"with it the request's media have {say_bytes(total)}; at most {say_bytes(most)} are allowed together"
            raise refuse(part, why)

    def _submit(self, part: Part, request: Request, is_look: bool) -> Future[Media]:
        if self._closed:
            raise Unavailable("The engine was stopped.")
        from engine.media.load import decode_anew

        # The server's own rate is for clips; of a list every frame was meant.
        default = replace(self._frames, fps=None) if part.parts else self._frames
        frames = (part.frames or FrameSampling()).over(request.frames.over(default))
        known = partial(self._known, request.tenant) if request.reuse else decode_anew
        job = self._pool.submit(self._load_one, part, frames, known, is_look)
        self._waiting.add(job)
        job.add_done_callback(self._waiting.discard)
        return job

    def _known(self, tenant: str, content: Hashable, decode: Callable[[], Media]) -> Media:
        """In a thread of the pool: what this content was decoded to, and last asked for, among DECODED_BYTES."""
        key = (tenant, content)
        medium = self._decoded.pop(key, None) or decode()
        self._decoded[key] = medium
        while sum(_num_bytes(m) for m in tuple(self._decoded.values())) > DECODED_BYTES:
            self._decoded.pop(next(iter(tuple(self._decoded))), None)
        return medium

    def _load_one(self, part: Part, frames: FrameSampling, known: Known, is_look: bool) -> Media:
        """In a thread of the pool."""
        medium = self._decode(part, frames, known)
        if is_look:
            return medium
        if medium.kind == "video":
            self._pool.submit(self.thumbnails.keep, medium)  # dozens of frames: the request does not wait for them
        else:
            self.thumbnails.keep(medium)
        return medium

    def _decode(self, part: Part, frames: FrameSampling, known: Known) -> Media:
        from engine.media.child import Decoder
        from engine.media.load import load_media

        if self._idle:
            decoder = self._idle.pop()
        else:
            decoder = Decoder()
            self._decoders.append(decoder)
        try:
            return load_media(part, self._limits, frames, decoder.decode, known)
        finally:
            self._idle.append(decoder)


def _num_bytes(medium: Media) -> int:
    return medium.pixels.nbytes + medium.samples.nbytes
