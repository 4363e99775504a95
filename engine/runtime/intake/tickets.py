"""The ticket office: whether a request may come in, and how much memory its media may take: decoded, or as they are
sent to another server. No I/O; any thread.

    Engine.stream ── take ──> a place ── expect ──> room for its media ── reserve: what they came to ──> release
                      └─ 429, with an estimate of when to come back, wherever there is too little

A place, and a guess of the bytes, are asked for before anything is fetched; the real bytes as soon as they are known.
Requests come from any event loop and media are measured in pool threads, so a lock guards the books.

Each model of another server has a line of its own beside that of the models in this process: places, and a share of the
bytes. However long such a server takes, it keeps nobody from the other models.
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
    """How many may be in at once. Of the requests, num_seqs are worked on and the others wait; media of all requests
    and preflights together have max_media_bytes. of_servers: as num_seqs, of each model of another server by its name.
    """

    num_seqs: int
    max_queue: int
    max_media_bytes: int
    max_preflights: int = MAX_PREFLIGHTS
    of_servers: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, config: EngineConfig) -> Places:
        here = [config.of(spec).max_at_once for spec in config.models if spec.server is None]
        num_seqs = sum(sorted(here, reverse=True)[: config.max_loaded_models]) or config.max_at_once  # for those added
        there = {spec.served_name: config.of(spec).max_at_once for spec in config.models if spec.server is not None}
        return cls(num_seqs, config.max_queue, config.max_waiting_media_bytes, of_servers=there)

    @property
    def server_media_bytes(self) -> int:
        """The most that the media of one model of another server may take: as many shares as there are such models, and
        one for all models in this process."""
        return self.max_media_bytes // (len(self.of_servers) + 1)

    @property
    def here_expected_bytes(self) -> int:
        """What is left for the models in this process when those of other servers have all their shares."""
        return self.max_media_bytes - len(self.of_servers) * self.server_media_bytes


@dataclass(eq=False)
class WaitingLine:
    """Those who wait for the same: the models in this process, or one of another server. max_media_bytes: the most that
    the media of its tickets take together, max_expected_bytes: the most that is kept for one before its size is known;
    held_bytes: what they take now."""

    num_seqs: int
    max_media_bytes: int
    max_expected_bytes: int
    num_requests: int = 0
    num_preflights: int = 0
    held_bytes: int = 0
    busy_since_s: float = 0.0
    endings_s: deque[float] = field(default_factory=deque)


@dataclass(eq=False)
class Ticket:
    """A place and the bytes that go with it, until `release`; a context manager that does so. Any thread. clock: of the
    request, which whoever has it tells of each stage as it begins."""

    office: TicketOffice
    line: WaitingLine
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
        return self.office.busy(self.line, message)

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
        share = places.server_media_bytes
        self._here = WaitingLine(places.num_seqs, places.max_media_bytes, places.here_expected_bytes)
        self._there = {name: WaitingLine(num, share, share) for name, num in places.of_servers.items()}
        self._closed_for: ClosedFor | None = None

    @property
    def num_requests(self) -> int:
        """Requests that have a place, preflights apart."""
        return sum(line.num_requests for line in self._lines())

    @property
    def held_bytes(self) -> int:
        """What the media of all requests and preflights take."""
        return sum(line.held_bytes for line in self._lines())

    @property
    def closed(self) -> Unavailable | None:
        """Why there are no more places, as an error; None where there are."""
        return None if self._closed_for is None else Unavailable(CLOSED[self._closed_for], code=self._closed_for)

    def close(self, why: ClosedFor) -> None:
        """Give out no more places, for good."""
        self._closed_for = why

    def take(self, clock: StageClock | None = None, *, server: str | None = None, is_preflight: bool = False) -> Ticket:
        """A place. clock: of the request. server: the name of a model of another server, which has places of its own.
        Raises Busy when none is free, and Unavailable when the office is closed."""
        if (closed := self.closed) is not None:
            raise closed
        line = self._here if server is None else self._there[server]
        with self._lock:
            self._check_places(line, is_preflight)
            if is_preflight:
                line.num_preflights += 1
            else:
                if not line.num_requests:
                    line.busy_since_s = self._clock()
                    line.endings_s.clear()
                line.num_requests += 1
            return Ticket(self, line, is_preflight, clock=clock or StageClock())

    def reserve(self, ticket: Ticket, sizes: dict[int, MediaSize]) -> None:
        """See Ticket.expect and Ticket.reserve. sizes: of media, by their place in the request."""
        with self._lock:
            if ticket.is_open:
                ticket.sizes.update(sizes)
                self._hold(ticket)

    def give_back(self, ticket: Ticket, *, keeps_place: bool) -> None:
        """See Ticket.release and Ticket.release_media."""
        line = ticket.line
        with self._lock:
            if not ticket.is_open:
                return
            line.held_bytes -= ticket.held_bytes
            ticket.held_bytes, ticket.sizes = 0, {}
            if keeps_place:
                return
            ticket.is_open = False
            if ticket.is_preflight:
                line.num_preflights -= 1
            else:
                line.num_requests -= 1
                if not ticket.is_refused:  # those say nothing about how fast requests are answered
                    line.endings_s.append(self._clock())

    def busy(self, line: WaitingLine, message: str) -> Busy:
        """Busy with the seconds after which it makes sense to try again."""
        with self._lock:
            return self._busy(line, message)

    def _lines(self) -> tuple[WaitingLine, ...]:
        return (self._here, *self._there.values())

    def _check_places(self, line: WaitingLine, is_preflight: bool) -> None:
        max_preflights, max_queue = self._places.max_preflights, self._places.max_queue
        if is_preflight and line.num_preflights >= max_preflights:
            raise self._busy(line, f"{line.num_preflights} preflights are waiting, and no more may.")
        if not is_preflight and line.num_requests >= line.num_seqs + max_queue:
            raise self._busy(line, f"The queue is full: {max_queue} requests are waiting, and no more may.")

    def _hold(self, ticket: Ticket) -> None:
        """Book what the ticket's media need now. What is only expected never asks for more than what no other server
        can hold: it may turn out smaller."""
        ticket.is_refused = True  # unless it comes to the end
        line, limit = ticket.line, ticket.line.max_media_bytes
        exact = sum(size.num_bytes for size in ticket.sizes.values() if size.is_exact)
        if exact > limit:
            raise TooLarge(
                f"messages: {self._as_held(line)}, this request's media have {say_bytes(exact)}; the server keeps at "
                f"most {say_bytes(limit)} of such media (--max-waiting-media-mb). Send fewer or smaller ones.",
                param="messages",
            )
        expected = min(line.max_expected_bytes, sum(size.num_bytes for size in ticket.sizes.values()))
        needed = max(exact, expected)
        for others, most in (
            (line.held_bytes - ticket.held_bytes, limit),
            (self.held_bytes - ticket.held_bytes, self._places.max_media_bytes),
        ):
            if needed > ticket.held_bytes and others + needed > most:
                raise self._busy(
                    line,
                    f"Media of other requests that wait fill {say_bytes(others)} of {say_bytes(most)}, and this "
                    f"request's need {say_bytes(needed)}.",
                )
        line.held_bytes += needed - ticket.held_bytes
        ticket.held_bytes, ticket.is_refused = needed, False

    def _as_held(self, line: WaitingLine) -> str:
        return "decoded" if line is self._here else "as they are sent"

    def _busy(self, line: WaitingLine, message: str) -> Busy:
        retry_after_s = self._retry_after_s(line)
        return Busy(f"{message} Try again in {retry_after_s} s.", retry_after_s=retry_after_s)

    def _retry_after_s(self, line: WaitingLine) -> int:
        """Until those who wait have had their turn, at the rate at which requests ended lately: 1 to MAX_RETRY_S.

        As long as nothing ends, the rate falls with the time that passes; so a server that hangs is asked less often.
        """
        now = self._clock()
        while line.endings_s and line.endings_s[0] < now - _WINDOW_S:
            line.endings_s.popleft()
        span_s = min(_WINDOW_S, now - line.busy_since_s) if line.num_requests else 0.0
        num_waiting = max(1, line.num_requests - line.num_seqs)
        return max(1, min(MAX_RETRY_S, math.ceil(num_waiting * span_s / (len(line.endings_s) + 1))))
