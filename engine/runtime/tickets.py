"""The ticket office: whether a request may come in, and how much memory its decoded media may take. No I/O; any thread.

    Engine.stream ── take ──> a place ── expect ──> room for decoded media ── reserve: what they came to ──> release
                      └─ 429, with an estimate of when to come back, wherever there is too little

A place, and a guess of the bytes, are asked for before anything is fetched; the real bytes as soon as they are known.
Requests come from any event loop and media are measured in pool threads, so a lock guards the books.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal

from engine.config import EngineConfig
from engine.errors import Busy, TooLarge, Unavailable, say_bytes
from engine.media.expected import MediaSize
from engine.types import StageClock

ClosedFor = Literal["shutting_down", "restarting"]

MAX_PREFLIGHTS = 32
"""Preflights at once: each is a call of the processor on the engine thread."""

MAX_RETRY_S = 120
CLOSED: Mapping[ClosedFor, str] = {
    "shutting_down": "The server is shutting down and takes no more requests.",
    "restarting": "The server is being restarted, and takes no requests until it is there again.",
}
_WINDOW_S = 60.0


@dataclass(frozen=True, slots=True)
class Places:
    """How many may be in at once. Of the requests, num_seqs are worked on and the others wait; decoded media of all
    requests and preflights together have max_media_bytes."""

    num_seqs: int
    max_queue: int
    max_media_bytes: int
    max_preflights: int = MAX_PREFLIGHTS

    @classmethod
    def of(cls, config: EngineConfig) -> Places:
        at_once = sorted((config.of(spec).max_at_once for spec in config.models), reverse=True)
        num_seqs = sum(at_once[: config.max_loaded_models])
        return cls(num_seqs, config.max_queue, config.max_waiting_media_bytes)


@dataclass(eq=False)
class Ticket:
    """A place and the bytes that go with it, until `release`; a context manager that does so. Any thread. clock: of the
    request, which whoever has it tells of each stage as it begins."""

    office: TicketOffice
    is_preflight: bool
    sizes: dict[int, MediaSize] = field(default_factory=dict)
    held_bytes: int = 0
    is_open: bool = True
    is_refused: bool = False
    clock: StageClock = field(default_factory=StageClock)

    def expect(self, sizes: Sequence[MediaSize]) -> None:
        """What the request's media will take, as far as is known before they are fetched. Raises as `reserve`."""
        self.office.reserve(self, dict(enumerate(sizes)))

    def reserve(self, index: int, num_bytes: int) -> None:
        """The bytes of the request's index-th medium are known now. Raises Busy or TooLarge where they do not fit; the
        ticket is then to be released."""
        self.office.reserve(self, {index: MediaSize(num_bytes, is_exact=True)})

    def release_media(self) -> None:
        """The media are gone from memory; the place is kept."""
        self.office.give_back(self, keeps_place=True)

    def release(self) -> None:
        """The request has ended, however. Idempotent."""
        self.office.give_back(self, keeps_place=False)

    def busy(self, message: str) -> Busy:
        """The error for a request that has to be given up after all because others are in its way."""
        return self.office.busy(message)

    def __enter__(self) -> Ticket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class TicketOffice:
    """Counts places and bytes. clock: seconds, monotonic."""

    def __init__(self, places: Places, clock: Callable[[], float] = time.monotonic) -> None:
        self._places = places
        self._clock = clock
        self._lock = threading.Lock()
        self._num_requests = self._num_preflights = self._held_bytes = 0
        self._endings_s: deque[float] = deque()
        self._busy_since_s = 0.0
        self._closed_for: ClosedFor | None = None

    @property
    def num_requests(self) -> int:
        """Requests that have a place, preflights apart."""
        return self._num_requests

    @property
    def closed(self) -> Unavailable | None:
        """Why there are no more places, as an error; None where there are."""
        return None if self._closed_for is None else Unavailable(CLOSED[self._closed_for], code=self._closed_for)

    def close(self, why: ClosedFor) -> None:
        """Give out no more places, for good."""
        self._closed_for = why

    def take(self, clock: StageClock | None = None, *, is_preflight: bool = False) -> Ticket:
        """A place. clock: of the request. Raises Busy when none is free, and Unavailable when the office is closed."""
        if (closed := self.closed) is not None:
            raise closed
        with self._lock:
            self._check_places(is_preflight)
            if is_preflight:
                self._num_preflights += 1
            else:
                if not self._num_requests:
                    self._busy_since_s = self._clock()
                    self._endings_s.clear()
                self._num_requests += 1
            return Ticket(self, is_preflight, clock=clock or StageClock())

    def reserve(self, ticket: Ticket, sizes: dict[int, MediaSize]) -> None:
        """See Ticket.expect and Ticket.reserve. sizes: of media, by their place in the request."""
        with self._lock:
            if ticket.is_open:
                ticket.sizes.update(sizes)
                self._hold(ticket)

    def give_back(self, ticket: Ticket, *, keeps_place: bool) -> None:
        """See Ticket.release and Ticket.release_media."""
        with self._lock:
            if not ticket.is_open:
                return
            self._held_bytes -= ticket.held_bytes
            ticket.held_bytes, ticket.sizes = 0, {}
            if keeps_place:
                return
            ticket.is_open = False
            if ticket.is_preflight:
                self._num_preflights -= 1
            else:
                self._num_requests -= 1
                if not ticket.is_refused:  # those say nothing about how fast requests are answered
                    self._endings_s.append(self._clock())

    def busy(self, message: str) -> Busy:
        """Busy with the seconds after which it makes sense to try again."""
        with self._lock:
            return self._busy(message)

    def _check_places(self, is_preflight: bool) -> None:
        places = self._places
        if is_preflight and self._num_preflights >= places.max_preflights:
            raise self._busy(f"{self._num_preflights} preflights are waiting, and no more may.")
        if not is_preflight and self._num_requests >= places.num_seqs + places.max_queue:
            raise self._busy(f"The queue is full: {places.max_queue} requests are waiting, and no more may.")

    def _hold(self, ticket: Ticket) -> None:
        """Book what the ticket's media need now. What is only expected never asks for more than all there is: it may
        turn out smaller."""
        ticket.is_refused = True  # unless it comes to the end
        limit = self._places.max_media_bytes
        exact = sum(size.num_bytes for size in ticket.sizes.values() if size.is_exact)
        if exact > limit:
            raise TooLarge(
                f"messages: decoded, this request's media have {say_bytes(exact)}; the server keeps at most "
                f"{say_bytes(limit)} of decoded media (--max-waiting-media-mb). Send fewer or smaller ones.",
                param="messages",
            )
        needed = min(limit, sum(size.num_bytes for size in ticket.sizes.values()))
        others = self._held_bytes - ticket.held_bytes
        if needed > ticket.held_bytes and others + needed > limit:
            raise self._busy(
                f"Decoded media of other requests fill {say_bytes(others)} of {say_bytes(limit)}, and this request's "
                f"need {say_bytes(needed)}."
            )
        self._held_bytes = others + needed
        ticket.held_bytes, ticket.is_refused = needed, False

    def _busy(self, message: str) -> Busy:
        retry_after_s = self._retry_after_s()
        return Busy(f"{message} Try again in {retry_after_s} s.", retry_after_s=retry_after_s)

    def _retry_after_s(self) -> int:
        """Until those who wait have had their turn, at the rate at which requests ended lately: 1 to MAX_RETRY_S.

        As long as nothing ends, the rate falls with the time that passes; so a server that hangs is asked less often.
        """
        now = self._clock()
        while self._endings_s and self._endings_s[0] < now - _WINDOW_S:
            self._endings_s.popleft()
        span_s = min(_WINDOW_S, now - self._busy_since_s) if self._num_requests else 0.0
        num_waiting = max(1, self._num_requests - self._places.num_seqs)
        return max(1, min(MAX_RETRY_S, math.ceil(num_waiting * span_s / (len(self._endings_s) + 1))))
