"""Bodies on their way in: one that stalls is ended, and all of them together have a bound."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from engine.api.app import create_app
from engine.api.http.uploads import LEAST_BYTES_PER_S
from engine.config import ServerConfig
from tests.waiting import wait_until

LIMITS = {"upload_stall_s": 1.0, "max_uploads_bytes": 1_000_000, "max_upload_bytes": 900_000}


@pytest.fixture(scope="module")
def url(demo_engine: Any, serve: Callable[..., Any]) -> Iterator[str]:
    with serve(create_app(demo_engine, ServerConfig(**LIMITS))) as base:  # type: ignore[arg-type]
        yield base


class Upload:
    """A POST by hand, of which some bytes come and the rest does not."""

    def __init__(self, url: str, path: str, declared: int, kind: str = "application/json") -> None:
        host, port = url.removeprefix("http://").split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=20)
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {declared}\r\n\r\n"
        self.socket.sendall(head.encode())

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> tuple[int, str, dict[str, Any]]:
        """Status, head and body of what comes back."""
        said = b""
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            while b"\r\n\r\n" not in said or not said.rstrip().endswith(b"}"):
                piece = self.socket.recv(65536)
                if not piece:
                    break
                said += piece
        head, _, body = said.partition(b"\r\n\r\n")
        return int(head.split()[1]), head.decode(), json.loads(body)

    def close(self) -> None:
        self.socket.close()


def test_a_body_that_stalls_is_ended(url: str) -> None:
    upload = Upload(url, "/v1/chat/completions", 5000)
    upload.send(b'{"messages"')
    began_s = time.monotonic()
    status, head, body = upload.answer()
    assert status == 408 and 0.5 < time.monotonic() - began_s < 10
    assert body["error"]["code"] == "slow_upload" and "1 s" in body["error"]["message"]
    assert "connection: close" in head.lower()
    upload.close()


def test_a_body_that_trickles_is_ended(url: str) -> None:
    """Each byte in time, and all of them together much too slow."""
    upload = Upload(url, "/v1/chat/completions", 5000)
    began_s = time.monotonic()
    stop = threading.Event()

    def trickle() -> None:
        with contextlib.suppress(OSError):
            while not stop.wait(0.2):
                upload.send(b" ")

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        assert upload.answer()[0] == 408 and time.monotonic() - began_s < 10
    finally:
        stop.set()
        thread.join()
        upload.close()


def test_a_slow_body_that_goes_on_is_read(url: str) -> None:
    """Two seconds and a half in all, which is more than the limit, at twice the least pace."""
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}).encode()
    num_pieces = 25
    padded = body + b" " * (num_pieces * LEAST_BYTES_PER_S // 5 - len(body))
    upload = Upload(url, "/v1/chat/completions", len(padded))
    size = len(padded) // num_pieces
    for start in range(0, len(padded), size):
        upload.send(padded[start : start + size])
        time.sleep(0.1)
    assert upload.answer()[0] == 200
    upload.close()


def test_all_uploads_together_have_a_bound(url: str) -> None:
    """Two that are under way hold most of it: a third that declares too much is refused before any of it has come, one
    that does not declare it when it is too much; and when they are gone there is room again."""
    held = [Upload(url, "/v1/chat/completions", 500_000) for _ in range(2)]
    stop = threading.Event()

    def feed() -> None:
        with contextlib.suppress(OSError):
            while not stop.wait(0.1):
                for upload in held:
                    upload.send(b" " * 4000)

    for upload in held:
        upload.send(b" " * 400_000)
    thread = threading.Thread(target=feed)
    thread.start()
    try:
        declared = Upload(url, "/v1/chat/completions", 700_000)
        status, head, body = declared.answer()
        assert status == 429 and body["error"]["code"] == "uploads_full" and "retry-after: 5" in head.lower()
        assert "1,000,000" in body["error"]["message"]
        declared.close()
        chunks = (b" " * 50_000 for _ in range(16))
        refused = httpx.post(f"{url}/v1/chat/completions", content=chunks, timeout=20)
        assert refused.status_code == 429 and refused.json()["error"]["code"] == "uploads_full"
        assert httpx.get(f"{url}/health", timeout=20).status_code == 200
    finally:
        stop.set()
        thread.join()
        for upload in held:
            upload.close()

    def fits() -> bool:
        body = b'{"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}' + b" " * 800_000
        kind = {"Content-Type": "application/json"}
        return httpx.post(f"{url}/v1/chat/completions", content=body, headers=kind, timeout=60).status_code == 200

    wait_until(fits, "room for another upload")
