"""The open connections of a server: how many there may be, and how long one may say nothing.

uvicorn closes a kept-alive connection that is silent after an answer, and nothing else. Here the head of a request,
which may trickle in, has HEAD_S seconds. Between an answer and the next request a connection may be silent for as long
as --keep-alive says, since clients keep pools of connections. One whose client reads less of its answer than
LEAST_READ_BYTES_PER_S is closed after SEND_S. When all places are taken, the connection that has waited longest gives
its place to the new one, as in nginx; when none waits, the new one is told 503. Event loop only.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from engine.errors import BadRequest, EngineError, TooLarge, Unavailable

log = logging.getLogger(__name__)

HEAD_S = 10.0
"""From the opening of a connection, or the first byte of a later request, until its whole head must have come."""

SEND_S = 60.0
"""How long a client may read too little while something waits to be sent to it."""

LEAST_READ_BYTES_PER_S = 1024
MAX_HEAD_BYTES = 64 * 1024
"""Of the method, the path and all headers together; more is 431."""
HEAD_PIECE_BYTES = 8 * 1024

LEAST_CONNECTIONS = 8


class Connections:
    """What the connections of one server share. `protocol` is what uvicorn calls for a new one."""

    def __init__(self, most: int, head_s: float = HEAD_S, send_s: float = SEND_S, idle_s: float = HEAD_S) -> None:
        self.most = most
        self.head_s = head_s
        self.idle_s = idle_s
        self.send_s = send_s
        self.waiting: dict[BoundedProtocol, None] = {}
        """Those that wait for a request, longest first."""

    def protocol(self, **of_uvicorn: Any) -> BoundedProtocol:
        return BoundedProtocol(self, **of_uvicorn)

    def make_room(self) -> bool:
        """Close the connection that has waited longest for a request. False when none waits."""
        if not self.waiting:
            return False
        log.warning("all %d connections are open; the one that waited longest for a request is closed", self.most)
        next(iter(self.waiting)).drop()
        return True


def most_connections(asked: int | None, num_files: int) -> int:
    """How many connections may be open at once: what was asked for, or half of the files that may be open.

    num_files: the process's limit of open files; the other half is for the model, the media and their processes. Raises
    BadRequest when more was asked for than that.
    """
    room = max(LEAST_CONNECTIONS, num_files // 2)
    if asked is not None and asked > room:
        why = f"--max-connections {asked} is more than half of the {num_files} files that may be open (ulimit -n)."
        raise BadRequest(why, param="max_connections")
    return asked or room


def accept_at_once(num_files: int) -> int:
    """How many new connections asyncio may accept in one turn of its loop, before it asks us about the first."""
    return max(LEAST_CONNECTIONS, min(2048, num_files // 16))


class BoundedProtocol(H11Protocol):
    """uvicorn's own protocol with time limits and a place among the open connections."""

    def __init__(self, shared: Connections, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self._shared = shared
        self._head_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None
        self._unsent_bytes = 0
        self._is_idle = False
        """Whether it has had an answer, and nothing of another request has come."""
        self._is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self.connections) >= self._shared.most and not self._shared.make_room():
            self.transport = transport
            log.warning("all %d connections are busy; a new one was refused", self._shared.most)
            transport.write(_refusal())
            transport.close()
            self._follow()
            return
        super().connection_made(transport)
        self._follow()

    def data_received(self, data: bytes) -> None:
        if self._is_idle:
            self._is_idle = False
            self._stop_waiting()
        while data and not self._is_refused:
            # h11 looks at the size of a head only while it is incomplete, and asyncio reads more than that at once.
            in_head = self.conn.their_state is h11.IDLE
            size = HEAD_PIECE_BYTES if in_head else len(data)
            super().data_received(data[:size])
            data = data[size:]
        self._follow()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._is_idle = self.cycle.response_complete and not self.conn.trailing_data[0]
        self._follow()

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn for what is no HTTP, in the place where h11 says why: in our words and with its status."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # in the middle of an answer
            self.transport.close()
            return
        error = sys.exc_info()[1]
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        body = json.dumps(_head_refusal(status).to_openai()).encode()
        head = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        answer = h11.Response(status_code=status, headers=head, reason=HTTPStatus(status).phrase.encode())
        for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        # To close now would throw away what the client still sends, and with it, in TCP, the answer.
        self._is_refused = True
        self.transport.write_eof()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._follow()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_send_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._stop_send_timer()
        super().connection_lost(exc)

    def drop(self) -> None:
        """Close it now, whatever is still to be sent, and count it no more."""
        self._stop_waiting()
        self.connections.discard(self)
        self.transport.abort()

    def _follow(self) -> None:
        """See in which state the connection is, and let the clock of that state run."""
        if self.transport.is_closing():
            self._stop_waiting()
            self._await_reader()
        elif self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self not in self._shared.waiting:
            self._shared.waiting[self] = None
            limit_s = self._shared.idle_s if self._is_idle else self._shared.head_s
            self._head_timer = self.loop.call_later(limit_s, self._head_is_late)

    def _stop_waiting(self) -> None:
        self._shared.waiting.pop(self, None)
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self.transport.close()  # what an earlier answer has left to send goes out first
        self._follow()

    def _await_reader(self) -> None:
        if self._send_timer is None:
            self._unsent_bytes = self.transport.get_write_buffer_size()
            self._send_timer = self.loop.call_later(self._shared.send_s, self._reader_is_late)

    def _reader_is_late(self) -> None:
        self._send_timer = None
        num_read = self._unsent_bytes - self.transport.get_write_buffer_size()
        if num_read >= min(self._unsent_bytes, LEAST_READ_BYTES_PER_S * self._shared.send_s):
            self._await_reader()  # slow, but it reads
        else:
            self.drop()

    def _stop_send_timer(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None


def _head_refusal(status: int) -> EngineError:
    """Why a request's head was not read."""
    if status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
        why = f"The request's head is too large; at most {MAX_HEAD_BYTES:,} bytes are allowed."
        return TooLarge(why, code="head_too_large")
    if status == HTTPStatus.NOT_IMPLEMENTED:
        return BadRequest("Of transfer encodings only 'chunked' is read here.", code="unsupported_encoding")
    return BadRequest("This is not a valid HTTP/1.1 request.", code="invalid_http")


def _refusal() -> bytes:
    """A whole answer, for a connection that gets no place."""
    body = json.dumps(Unavailable("Too many connections are open.", code="too_many_connections").to_openai()).encode()
    head = (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
