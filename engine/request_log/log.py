"""RequestLog: the requests that run, and the last ones that have ended.

Engine.stream ── open ──> LoggedRequest ── events ──> end ──> memory (the last N, bounded in bytes)
                                                          ├─> a line of the file, where there is one
                                                          └─> spans, where there is a collector
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from engine.bounded import BoundedCache
from engine.config import LogLimits, MediaLimits
from engine.errors import BadMedia, EngineError, ModelNotFound
from engine.request_log.record import Failure, LoggedRequest, MediumRef
from engine.request_log.redact import Redactor
from engine.types import Part, Request, StageClock

if TYPE_CHECKING:
    from engine.request_log.file import LogFile
    from engine.request_log.otlp import SpanExport

_MEDIA_SHARE = 4
"""The media of one request may take a fourth of what all may take; of a larger one only the facts are kept."""

REPLAY = "replay"
"""Request.source of what nobody sent (engine.runtime.replay)."""


class RequestLog:
    """Any event loop, any thread. limits: how much is kept. media: what of a medium is read at most. spans: where the
    records go as spans, too.

    number changes whenever a request begins or ends.
    """

    def __init__(self, limits: LogLimits, media: MediaLimits, spans: SpanExport | None = None) -> None:
        self.limits = limits
        self._spans = spans
        self.redactor = Redactor()
        self.number = 0
        self._media_limits = media
        self._lock = threading.Lock()
        self._running: dict[str, LoggedRequest] = {}
        ended_bytes = limits.max_bytes // 2
        self._ended: BoundedCache[str, LoggedRequest] = BoundedCache(
            limits.num_requests, ended_bytes, lambda record: record.num_bytes
        )
        self._fetched: BoundedCache[tuple[str, str], bytes] = BoundedCache(
            4 * limits.num_requests, limits.max_bytes - ended_bytes, len
        )
        self._file = self._log_file() if self.is_on and limits.file is not None else None

    @property
    def is_on(self) -> bool:
        return self.limits.num_requests > 0

    def _log_file(self) -> LogFile:
        from engine.request_log.file import LogFile

        return LogFile(self.limits, self)

    def hide(self, secrets: tuple[str, ...]) -> None:
        """From now on, take these out of whatever is shown or written."""
        self.redactor = Redactor(tuple(dict.fromkeys((*self.redactor.secrets, *secrets))))

    @contextmanager
    def open(self, request: Request, clock: StageClock) -> Iterator[LoggedRequest]:
        """The record of a request that runs inside the block, and ends with it."""
        record = LoggedRequest(request.id, request, clock)
        record.is_kept = self.is_on and request.source != REPLAY
        if not record.is_kept:
            yield record
            return
        self._begin(record)
        try:
            yield record
        except EngineError as error:
            record.failure = Failure.of(error)
            raise
        finally:
            clock.end()
            self._end(record)

    def refused(self, request: Request, error: EngineError) -> None:
        """A request that the engine never saw: the routes refused it."""
        clock = StageClock()
        clock.end()
        record = LoggedRequest(request.id, request, clock, failure=Failure.of(error))
        if self.is_on:
            self._begin(record)
            self._end(record)

    def fetched(self, request: Request, part: Part, data: bytes) -> None:
        """What came over the network for a request that is open. Kept beside the log: an address may give something
        else the next time, or nothing."""
        if request.id in self._running and len(data) * _MEDIA_SHARE <= self.limits.max_bytes:
            self._fetched.put((request.id, part.url or ""), data)

    def records(self) -> list[LoggedRequest]:
        """All that are kept, the newest first."""
        with self._lock:
            running = list(self._running.values())
        ids = {record.id for record in running}
        ended = [record for record in self._ended.values() if record.id not in ids]
        return sorted([*running, *ended], key=lambda record: (record.created_s, record.clock.accepted_s), reverse=True)

    def find(self, id: str) -> LoggedRequest:
        """The record of this id. Raises ModelNotFound for one that is not kept, or not any more."""
        with self._lock:
            running = self._running.get(id)
        record = running or self._ended.get(id)
        if record is None:
            raise unknown_request(id)
        return record

    def has(self, id: str) -> bool:
        """Whether a request of this id is kept."""
        with self._lock:
            return id in self._running or self._ended.get(id) is not None

    def media(self, record: LoggedRequest) -> dict[Part, MediumRef]:
        """What is known of each medium of a request. Reads and hashes them: not for an event loop."""
        if record.media is not None:
            return record.media
        found = {}
        for part in single_parts(record.request):
            if (data := self.content(record, part)) is not None:
                found[part] = medium_ref(data)
        if record.has_ended and not record.is_cut:
            record.media = found
        return found

    def content(self, record: LoggedRequest, part: Part) -> bytes | None:
        """The bytes of a medium as they came; None where they are not here any more. Not for an event loop."""
        from engine.media.fetch import is_remote, read_part

        if is_remote(part):
            return self._fetched.get((record.id, part.url or ""))
        if record.is_cut and part.path is None:
            return None
        try:
            return read_part(part, self._media_limits)
        except BadMedia:
            return None

    def close(self) -> None:
        """Write what is still to be written."""
        if self._file is not None:
            self._file.close()
        if self._spans is not None:
            self._spans.close()

    def _begin(self, record: LoggedRequest) -> None:
        with self._lock:
            number, label = 1, record.id
            while record.id in self._running or self._ended.get(record.id) is not None:
                number += 1
                record.id = f"{label}.{number}"  # ids are labels that may repeat
            self.number += 1
            record.changed = self.number
            self._running[record.id] = record

    def _end(self, record: LoggedRequest) -> None:
        record.end()
        with self._lock:
            self.number += 1
            record.changed = self.number
        if self._spans is not None:
            self._spans.send(record, self.redactor)
        if self._file is None or not self._file.write(record, lambda: self._keep(record)):
            self._keep(record)

    def _keep(self, record: LoggedRequest) -> None:
        """From those that run to those that have ended: once its media need not be written any more."""
        if record.num_bytes * _MEDIA_SHARE > self.limits.max_bytes:
            record.without_media()
        self._ended.put(record.id, record)
        with self._lock:
            self._running.pop(record.id, None)


def unknown_request(id: str) -> ModelNotFound:
    """The error for a request that is not kept, or that is not the asker's: nobody learns which."""
    why = f"There is no request {id[:200]!r} among the last ones."
    return ModelNotFound(why, code="request_not_found", param="request_id")


def single_parts(request: Request) -> Iterator[Part]:
    """Every medium of a request that is a file of its own: the frames of a list, too."""
    instructions = (part for question in request.questions for part in question.instructions if part.kind != "text")
    for part in (*request.media_parts, *instructions):
        yield from part.parts or (part,)


def medium_ref(data: bytes) -> MediumRef:
    from engine.media.sniff import media_type

    return MediumRef(hashlib.sha256(data).hexdigest(), len(data), media_type(data))
