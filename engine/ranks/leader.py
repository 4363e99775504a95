"""Rank 0's end of its connections to the other ranks: what they are told, what they say of themselves, and which of
them is lost. Pure Python.

    engine thread ── tell ──> every other rank, in one order
    thread "ranks" <── memory, every second; what went wrong ── every other rank
"""

from __future__ import annotations

import hmac
import logging
import secrets
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from engine.errors import EngineError, Unavailable
from engine.ranks.frames import Buffer, FrameSocket
from engine.ranks.place import RankPlace
from engine.types import RankMemory
from engine.version import PROJECT, installed_version, version

log = logging.getLogger(__name__)

BEAT_S = 1.0
"""How often each side says that it is there."""

LOST_S = 8.0
"""A rank that has said nothing for so long is lost."""

JOIN_S = 60.0
"""How long the other ranks may take to connect, once all have found each other."""

FIRST_S = 2.0
"""How long a connection may take to say who it is: the ranks say it at once, and meanwhile nobody else is heard."""

CLOSE_S = 5.0
"""How long they may take to end: after that they leave, whatever they wait for."""

PASS_S = 60.0
"""A pass that takes longer will not end: some rank is stuck, or what carries the sums is broken where rank 0's own
connections are not. One pass reads a chunk of a prompt at most, which takes seconds; loading does not count."""

TOKEN_BYTES = 32
_BACKLOG = 128
"""Connections that may wait, those of strangers among them."""


class LeaderLine:
    """Made in any thread; `open`, `tell` and `close` are the engine thread's. on_lost: called once, on the thread
    "ranks" or on the engine thread, when a rank is lost or has failed."""

    def __init__(self, place: RankPlace, on_lost: Callable[[EngineError], None]) -> None:
        self.place = place
        self.lost: EngineError | None = None
        self._on_lost = on_lost
        self._token = secrets.token_bytes(TOKEN_BYTES)
        self._listener: socket.socket | None = None
        self._others: dict[int, FrameSocket] = {}
        self._heard_s: dict[int, float] = {}
        self._memory: dict[int, RankMemory] = {}
        self._answers: dict[int, dict[str, Any]] = {}
        self._asked = 0
        self._gone: deque[int] = deque()
        self._watching: threading.Thread | None = None
        self._is_closed = False
        self._losing = threading.Lock()
        self._is_told = threading.Event()
        self._waits_since_s: float | None = None

    @property
    def has_joined(self) -> bool:
        """Whether all ranks have come. Any thread."""
        return self._watching is not None

    def open(self) -> bytes:
        """Listen where the other ranks reach this one. Returns what they must be told to connect: the port, 2 bytes,
        and a secret. Raises Unavailable."""
        try:
            self._listener = socket.create_server((self.place.host, 0), backlog=_BACKLOG)
        except OSError as error:
            why = f"rank 0 cannot listen on {self.place.host} for the other ranks: {error.strerror or error}"
            raise Unavailable(f"{why}.", code="rank_lost") from None
        port: int = self._listener.getsockname()[1]
        return port.to_bytes(2, "big") + self._token

    def join(self) -> None:
        """Wait for the others, then watch over them. Raises Unavailable where one does not come, or is of another
        version."""
        listener, until_s = self._listener, time.monotonic() + JOIN_S
        assert listener is not None, "open() first"
        try:
            while len(self._others) < self.place.size - 1:
                if (left_s := until_s - time.monotonic()) <= 0:
                    raise TimeoutError
                listener.settimeout(left_s)
                connection, _ = listener.accept()
                self._admit(connection)
        except TimeoutError:
            missing = sorted(set(range(1, self.place.size)) - set(self._others))
            why = f"of {self.place.size} ranks these have not come within {JOIN_S:g} s: {missing}"
            raise Unavailable(f"{why}.", code="rank_lost") from None
        finally:
            listener.close()
        self._watching = threading.Thread(target=self._watch, name="ranks", daemon=True)
        self._watching.start()

    def _admit(self, connection: socket.socket) -> None:
        """Take a connection that knows the secret and says which rank it is; any other one is closed."""
        try:
            other = FrameSocket(connection)
            first = other.receive_first(FIRST_S)
            rank, token = int(first["rank"]), bytes.fromhex(first["token"])
        except Exception:  # whatever a stranger may think of
            rank, token = -1, b""
        if not hmac.compare_digest(token, self._token) or rank in self._others or not 0 < rank < self.place.size:
            log.warning("a connection to the port of the ranks was refused: it is none of them")
            connection.close()
            return
        other.settimeout(None)
        self._check_version(rank, first.get("version"))
        self._others[rank] = other
        self._heard_s[rank] = time.monotonic()

    @staticmethod
    def _check_version(rank: int, theirs: Any) -> None:
        if theirs != (mine := rank_version()):
            why = f"rank {rank} is {theirs or 'of an unknown version'}, rank 0 is {mine}"
            raise Unavailable(f"All ranks must have the same version: {why}.", code="rank_lost")

    # What they are told.

    def tell(self, message: dict[str, Any], parts: Sequence[Buffer] = ()) -> None:
        """Send a message to every other rank. Raises Unavailable where one is lost."""
        if self.lost is not None:
            self._is_told.wait(BEAT_S)  # who waits for an answer learns the reason first
            raise self.lost
        if gone := self._take_gone():
            message = {**message, "gone": gone}
        for rank, other in self._others.items():
            try:
                other.send(message, parts)
            except OSError as error:
                self._lose(rank, error.strerror or str(error))
                assert self.lost is not None
                raise self.lost from None

    def release(self, name: int) -> None:
        """Let the others forget what has this name, with the next message. Any thread, also from a garbage
        collector."""
        self._gone.append(name)

    def tell_released(self) -> None:
        """Now, where nothing else is told. Raises as `tell`."""
        if self._gone and self.lost is None:
            self.tell({"do": "release"})

    def _take_gone(self) -> list[int]:
        gone = []
        while self._gone:
            gone.append(self._gone.popleft())
        return gone

    def answers(self) -> dict[int, dict[str, Any]] | None:
        """What all other ranks have answered to the last question, by rank; None before all have. Raises Unavailable
        where one has failed or is lost."""
        if self.lost is not None:
            raise self.lost
        return dict(self._answers) if len(self._answers) == self.place.size - 1 else None

    def ask(self, message: dict[str, Any]) -> None:
        """Tell them something that each answers; see `answers`. An answer to an earlier question counts no more."""
        self._asked += 1
        self._answers.clear()
        self.tell({**message, "question": self._asked})

    @property
    def memory(self) -> tuple[RankMemory, ...]:
        """What each other rank has said last of its memory. Any thread."""
        return tuple(memory for _, memory in sorted(self._memory.items()))

    def close(self) -> None:
        """Tell them to end in order, and wait until they have: where this end closes first, they may not hear it."""
        if self.lost is None and not self._is_closed:
            self._is_closed = True
            for other in list(self._others.values()):
                with suppress(OSError):  # it had ended already, or does not read
                    other.settimeout(CLOSE_S)
                    other.send({"do": "end"})
            if self._watching is not None:
                self._watching.join(CLOSE_S + BEAT_S)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While the engine thread waits for what all ranks do together: longer than PASS_S, it waits in vain."""
        before_s, self._waits_since_s = self._waits_since_s, time.monotonic()
        try:
            yield
        finally:
            self._waits_since_s = before_s

    def fail(self, error: BaseException) -> None:
        """Rank 0 itself cannot do what it has told the others to do, so the ranks are apart. Returns when all who wait
        know it. Engine thread."""
        # MLX fails here, too, where another rank is gone: the thread "ranks" will see in a moment which one.
        if not self._is_told.wait(BEAT_S):
            self._end(self._failed(error))
            self._is_told.wait(BEAT_S)  # that thread may have been quicker

    def _failed(self, error: BaseException) -> str:
        return f"Rank 0 of {self.place.size} is lost: {type(error).__name__}: {error}."

    # Thread "ranks".

    def _watch(self) -> None:
        try:
            self._watch_all()
        except Exception as error:  # unwatched, a rank that is lost would be waited for
            log.exception("the ranks are not watched any more")
            self._end(self._failed(error))

    def _watch_all(self) -> None:
        beaten_s = 0.0
        while self.lost is None and self._others:
            readable, _, _ = select.select(list(self._others.values()), [], [], BEAT_S / 2)
            for rank, other in list(self._others.items()):
                if other in readable:
                    self._hear(rank, other)
            now_s = time.monotonic()
            for rank in list(self._others):
                if now_s - self._heard_s[rank] > LOST_S:
                    self._lose(rank, f"it has said nothing for {LOST_S:g} s")
            since_s = self._waits_since_s
            if since_s is not None and now_s - since_s > PASS_S:
                self._end(f"The {self.place.size} ranks are stuck: a pass of the model has not ended for {PASS_S:g} s.")
            if now_s - beaten_s > BEAT_S and not self._is_closed:
                beaten_s = now_s
                self._beat()

    def _hear(self, rank: int, other: FrameSocket) -> None:
        try:
            said, _ = other.receive()
            if (memory := said.get("memory")) is not None:
                self._memory[rank] = RankMemory(rank, **memory)
            if (answer := said.get("answer")) is not None and said["to"] == self._asked:
                self._answers[rank] = answer
        except Exception as error:  # its end, or a message that is none
            if self._is_closed:
                self._others.pop(rank).close()
            else:
                self._lose(rank, str(error) if isinstance(error, OSError | EOFError) else repr(error))
            return
        self._heard_s[rank] = time.monotonic()
        if (failed := said.get("failed")) is not None:
            self._lose(rank, str(failed))

    def _beat(self) -> None:
        """Say that rank 0 is there. A socket whose buffer is full would block: who does not read is lost soon."""
        _, writable, _ = select.select([], list(self._others.values()), [], 0)
        for rank, other in self._others.items():
            if other in writable:
                try:
                    other.send_now({"do": "beat"})
                except OSError as error:
                    self._lose(rank, error.strerror or str(error))

    def _lose(self, rank: int, why: str) -> None:
        self._end(f"Rank {rank} of {self.place.size} is lost: {why}.")

    def _end(self, why: str) -> None:
        """Once, and not for who leaves because it was told to. Any thread."""
        with self._losing:
            if self.lost is not None or self._is_closed:
                return
            self.lost = lost = Unavailable(why, code="rank_lost")
        log.error("%s The model cannot go on without it, so this server ends.", lost.message)
        self._on_lost(lost)
        self._is_told.set()


def rank_version() -> str:
    """Of what must be the same on all ranks."""
    return f"{PROJECT} {version()} with mlx {installed_version('mlx')} and mlx-lm {installed_version('mlx-lm')}"
