"""Messages between two processes of one model: a header in JSON, then arrays as bytes. Nothing is unpickled.

4 bytes   size of the header, big-endian
header    JSON; "sizes": of the parts that follow, in bytes
parts     one behind the other
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Sequence
from typing import Any

_SIZE = struct.Struct(">I")
MOST_HEADER_BYTES = 64 * 1024**2
FIRST_HEADER_BYTES = 4096
"""Of the first message of a connection, which may be anybody's."""

Buffer = bytes | memoryview


class FrameSocket:
    """A connected socket that carries such messages. Several threads may send; one receives."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connection
        self._sending = threading.Lock()

    def fileno(self) -> int:
        """For select."""
        return self._socket.fileno()

    def send(self, header: dict[str, Any], parts: Sequence[Buffer] = ()) -> None:
        """Blocks while the other end does not read. Raises OSError."""
        packed = _packed(header, parts)
        with self._sending:
            self._socket.sendall(packed)
            for part in parts:
                self._socket.sendall(part)

    def send_now(self, header: dict[str, Any]) -> bool:
        """Send a small message, unless another thread is sending: then the other end hears from here anyway. Raises
        OSError."""
        if not self._sending.acquire(blocking=False):
            return False
        try:
            self._socket.sendall(_packed(header, ()))
        finally:
            self._sending.release()
        return True

    def receive(self) -> tuple[dict[str, Any], list[bytes]]:
        """The next message. Raises EOFError where the other end has closed, OSError, and ValueError for what is no
        message."""
        header = self._header(MOST_HEADER_BYTES, None)
        return header, [self._exactly(part) for part in header.pop("sizes", ())]

    def receive_first(self, most_s: float) -> dict[str, Any]:
        """The first message of a connection, which may be anybody's: small, without parts, and whole within most_s
        seconds, TimeoutError else. Raises as `receive`, and what reading JSON raises. Sets the socket's timeout."""
        header = self._header(FIRST_HEADER_BYTES, time.monotonic() + most_s)
        if "sizes" in header:
            raise ValueError("a first message with parts")
        return header

    def _header(self, most_bytes: int, until_s: float | None) -> dict[str, Any]:
        (size,) = _SIZE.unpack(self._exactly(_SIZE.size, until_s))
        if size > most_bytes:
            raise ValueError(f"a header of {size} bytes")
        header = json.loads(self._exactly(size, until_s))
        if not isinstance(header, dict):
            raise ValueError("a header that is no object")
        return header

    def _exactly(self, num_bytes: int, until_s: float | None = None) -> bytes:
        found = bytearray(num_bytes)
        view = memoryview(found)
        at = 0
        while at < num_bytes:
            if until_s is not None:
                if (left_s := until_s - time.monotonic()) <= 0:
                    raise TimeoutError("the other end is too slow")
                self._socket.settimeout(left_s)
            read = self._socket.recv_into(view[at:])
            if not read:
                raise EOFError("the other end has closed")
            at += read
        return bytes(found)

    def settimeout(self, timeout_s: float | None) -> None:
        """For each wait of a send or a receive from now on."""
        self._socket.settimeout(timeout_s)

    def close(self) -> None:
        self._socket.close()


def _packed(header: dict[str, Any], parts: Sequence[Buffer]) -> bytes:
    sizes = [memoryview(part).nbytes for part in parts]
    text = json.dumps({**header, "sizes": sizes} if sizes else header).encode()
    return _SIZE.pack(len(text)) + text
