"""Connections that say nothing, trickle or read nothing: they end after a while, and never keep others out."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from engine.api.http.connections import Connections, accept_at_once, most_connections
from engine.api.server import WATCH_S, uvicorn_config
from engine.config import ServerConfig
from engine.errors import BadRequest
from tests.conftest import ROOT
from tests.waiting import TIMEOUT_S, until, wait_until

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = b"x" * 32_000_000
NEVER_S = 3600.0
"""A limit that ends nothing in a test: what ends nevertheless ends for another reason, however long it takes."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    """/large answers with what no socket buffer holds, all else at once."""
    if scope["type"] != "http":
        return
    body = LARGE if scope["path"] == "/large" else b"hello"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


class Small:
    """The app behind our connections, with limits of a fraction of a second; /slow answers once `go_on` is set."""

    def __init__(self, most: int = 4, head_s: float = 0.5, send_s: float = 0.5, idle_s: float = NEVER_S) -> None:
        import uvicorn

        self.connections = Connections(most, head_s=head_s, send_s=send_s, idle_s=idle_s)
        self.go_on = threading.Event()

        async def waiting_app(scope: Any, receive: Any, send: Any) -> None:
            if scope.get("path") == "/slow":
                await until(self.go_on.is_set)
            await app(scope, receive, send)

        config = uvicorn_config(waiting_app, ServerConfig())
        config.http = self.connections.protocol  # type: ignore[assignment]
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True)
        self._thread.start()
        wait_until(lambda: self._server.started, "the server did not start")

    def __enter__(self) -> Small:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def open(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=TIMEOUT_S)

    @property
    def num_open(self) -> int:
        return len(self._server.server_state.connections)

    @property
    def num_busy(self) -> int:
        """Requests that the app has and has not answered."""
        return len(self._server.server_state.tasks)

    def stop(self) -> None:
        self.go_on.set()
        self._server.should_exit = True
        self._thread.join(timeout=20)


@pytest.fixture
def small() -> Iterator[Small]:
    with Small() as server:
        yield server


@pytest.fixture
def patient() -> Iterator[Small]:
    """The same with all the time there is for a head."""
    with Small(head_s=NEVER_S) as server:
        yield server


def answer_of(connection: socket.socket) -> bytes:
    """One whole answer, which may come in pieces."""
    data = b""
    while not data.endswith(b"hello"):
        piece = connection.recv(65536)
        assert piece, data
        data += piece
    return data


def ends_after(connection: socket.socket) -> float:
    """Seconds until the other side closes; what it sends meanwhile is read. Raises TimeoutError where it does not."""
    began_s = time.monotonic()
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(65536):
            pass
    return time.monotonic() - began_s


def test_a_silent_connection_is_closed_after_its_time(small: Small) -> None:
    with small.open() as silent:
        assert ends_after(silent) > 0.3


def test_a_head_that_trickles_is_no_sign_of_life(small: Small) -> None:
    with small.open() as slow:
        slow.settimeout(0.05)

        def is_closed() -> bool:
            """Sends one more byte of a head that never ends."""
            try:
                slow.send(b"G")
                return not slow.recv(1)
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        wait_until(is_closed, "it went on to be read")


def test_the_next_request_may_not_trickle_either(small: Small) -> None:
    with small.open() as kept:
        kept.sendall(GET)
        assert answer_of(kept).startswith(b"HTTP/1.1 200")
        kept.sendall(b"GET / HT")
        ends_after(kept)


def test_a_kept_connection_may_wait_longer_for_its_next_request() -> None:
    """As pools of clients keep them; but its head may then trickle no longer than any other."""
    with Small() as small, small.open() as kept:
        for _ in range(2):
            kept.sendall(GET)
            assert answer_of(kept).startswith(b"HTTP/1.1 200")
            time.sleep(1.0)  # twice the time of a head
        kept.sendall(b"GET")
        ends_after(kept)


def test_a_kept_connection_is_closed_when_nothing_more_comes() -> None:
    with Small(head_s=NEVER_S, idle_s=2.0) as small, small.open() as kept:
        began_s = time.monotonic()
        kept.sendall(GET)
        assert answer_of(kept).startswith(b"HTTP/1.1 200")
        ends_after(kept)
        assert time.monotonic() - began_s > 1.0


def test_pools_find_their_connections_open() -> None:
    config = ServerConfig()
    uvicorns = uvicorn_config(app, config)
    assert config.keep_alive_s == 75 and uvicorns.timeout_keep_alive == 75
    assert uvicorn_config(app, ServerConfig(keep_alive_s=1.5)).timeout_keep_alive == 2


def test_kept_connections_keep_nobody_out(small: Small) -> None:
    kept = [small.open() for _ in range(4)]
    for connection in kept:
        connection.sendall(GET)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    assert httpx.get(f"http://127.0.0.1:{small.address[1]}/", timeout=TIMEOUT_S).text == "hello"
    for connection in kept:
        connection.close()


def answer_to(small: Small, data: bytes) -> bytes:
    with small.open() as line, contextlib.suppress(ConnectionError):
        line.sendall(data)
        line.settimeout(TIMEOUT_S)
        return b"".join(iter(lambda: line.recv(65536), b""))
    return b""


HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (HEAD + b"A: " + b"x" * 74_000 + b"\r\n\r\n", 431, b"head_too_large"),
        (b"GET /" + b"x" * 74_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431, b"head_too_large"),
        (HEAD + b"A: b\r\n" * 13_000 + b"\r\n", 431, b"head_too_large"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, b"invalid_http"),  # TLS
        (b"GET / HTTP/1.1\r\n\r\n", 400, b"invalid_http"),  # no Host
        (HEAD + b"Host: y\r\n\r\n", 400, b"invalid_http"),
        (HEAD + b"Content-Length: x\r\n\r\n", 400, b"invalid_http"),
        (HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, b"invalid_http"),
        (HEAD + b"Content-Length: -1\r\n\r\n", 400, b"invalid_http"),
        (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 501, b"unsupported_encoding"),
        (HEAD + b"a b: c\r\n\r\n", 400, b"invalid_http"),
        (HEAD + b"a: \x00\r\n\r\n", 400, b"invalid_http"),
        (HEAD + b" folded\r\n\r\n", 200, b"hello"),
        (HEAD + b"a: \xff\xfe\r\n\r\n", 200, b"hello"),
    ],
)
def test_what_is_no_request_is_told_so_in_json(small: Small, data: bytes, status: int, code: bytes) -> None:
    if status == 200:
        data = data.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    answer = answer_to(small, data)
    assert answer.startswith(b"HTTP/1.1 %d " % status) and code in answer, answer[:300]
    if status != 200:
        assert b"connection: close" in answer.lower() and b'{"error"' in answer
    assert httpx.get(f"http://127.0.0.1:{small.address[1]}/", timeout=TIMEOUT_S).text == "hello", "the server goes on"


def test_a_broken_chunk_ends_its_connection_and_no_other(small: Small) -> None:
    post = b"POST /slow HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert b" 400 " in answer_to(small, post + b"zz\r\n")[:20]
    assert httpx.get(f"http://127.0.0.1:{small.address[1]}/", timeout=TIMEOUT_S).text == "hello"


def test_a_reader_that_trickles_is_dropped(small: Small) -> None:
    """A byte now and then is no reading: an answer of 32 MB would hold its place for a year."""
    with small.open() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(GET.replace(b"/ ", b"/large "))

        def is_dropped() -> bool:
            with contextlib.suppress(ConnectionResetError):
                slow.recv(8)
            time.sleep(0.05)
            return not small.num_open

        wait_until(is_dropped, "it was waited for")


def test_one_that_waits_gives_its_place_to_a_new_one(patient: Small) -> None:
    silent = [patient.open() for _ in range(4)]
    wait_until(lambda: patient.num_open == 4, "they were not accepted")
    assert httpx.get(f"http://127.0.0.1:{patient.address[1]}/", timeout=TIMEOUT_S).text == "hello"
    assert patient.num_open <= 4
    ends_after(silent[0])  # the oldest is closed, though a head has all the time here
    for connection in silent:
        connection.close()


def test_when_all_are_busy_a_new_one_is_told_so(small: Small) -> None:
    busy = [small.open() for _ in range(4)]
    for connection in busy:
        connection.sendall(GET.replace(b"/ ", b"/slow "))
    wait_until(lambda: small.num_busy == 4, "they were not read")
    with small.open() as late:
        answer = late.recv(65536)
        assert answer.startswith(b"HTTP/1.1 503") and b"too_many_connections" in answer and b"Retry-After" in answer
    time.sleep(1.0)  # twice the limit of silence, which is not theirs: they wait for us
    small.go_on.set()
    for connection in busy:
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.close()


def test_a_client_that_reads_nothing_is_dropped() -> None:
    with Small(send_s=2.0) as small, small.open() as deaf, small.open() as good:
        deaf.sendall(GET.replace(b"/ ", b"/large "))
        good.sendall(GET.replace(b"/ ", b"/large "))
        num_bytes = 0
        while num_bytes < len(LARGE):
            piece = good.recv(1 << 20)
            assert piece, "the one that reads was dropped too"
            num_bytes += len(piece)
        wait_until(lambda: small.num_open == 1, "it was waited for")
        with contextlib.suppress(ConnectionResetError):
            rest = sum(len(piece) for piece in iter(lambda: deaf.recv(1 << 20), b""))
            assert rest < len(LARGE), "it was waited for"


def test_how_many() -> None:
    assert most_connections(None, 2048) == 1024 and most_connections(7, 2048) == 7
    assert most_connections(None, 4) >= 8, "an operator's tiny limit leaves some"
    with pytest.raises(BadRequest, match=r"--max-connections 1025 .* 2048 files"):
        most_connections(1025, 2048)
    for num_files in (64, 256, 1024, 65_536):  # two turns of the loop's accepts beside all places
        assert most_connections(None, num_files) + 3 * accept_at_once(num_files) <= num_files


FILES = 240
"""What the servers below may open: the operator's limit, lower than what mlx-lm sets."""


LIMITED = f'ulimit -Sn {FILES - 40}; ulimit -Hn {FILES}; exec "$0" "$@"'


class Flooded:
    """A command under a low limit of open files, as an operator would start it."""

    def __init__(self, module: str, folder: Path, *options: str) -> None:
        self.log = folder / "stderr"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["/bin/sh", "-c", LIMITED, sys.executable, "-m", module, "--port", "0", "--model", "demo", *options],
                cwd=ROOT,
                env={k: v for k, v in os.environ.items() if not k.startswith("GRADIO")} | {"PYTHONUNBUFFERED": "1"},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.url, self.port = "", 0
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if port := re.search(r"API:.*:(\d+)/v1", line):
                self.url, self.port = f"http://127.0.0.1:{port[1]}", int(port[1])
            if line.startswith("Model:"):
                break
        assert self.url, self.log.read_text()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


@pytest.fixture(scope="module")
def flooded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flooded]:
    """The page's server, which opens and imports all that `serve` does and more, after 600 silent connections, which
    stay open on the client's side."""
    server = Flooded("workbench.app", tmp_path_factory.mktemp("flood"), "--no-browser")
    silent = []
    for _ in range(600):
        silent.append(socket.create_connection(("127.0.0.1", server.port), timeout=10))
    yield server
    for connection in silent:
        connection.close()
    server.stop()


def test_a_flood_of_silent_connections_keeps_nobody_out(flooded: Flooded) -> None:
    """The first picture of this server comes in the middle of it: nothing is left to import or to open."""
    from tests import pictures

    assert httpx.get(f"{flooded.url}/health", timeout=30).json()["status"] == "ok"
    assert psutil.Process(flooded.process.pid).num_fds() < FILES - 20
    content = [{"type": "image_url", "image_url": {"url": pictures.picture_url()}}, {"type": "text", "text": "?"}]
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 4}
    answer = httpx.post(f"{flooded.url}/v1/chat/completions", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    assert httpx.get(f"{flooded.url}/", timeout=30).status_code == 200


def test_a_flood_fills_no_log(flooded: Flooded) -> None:
    assert len(flooded.log.read_bytes()) < 8_000, flooded.log.read_text()[:8000]


def test_the_operators_limit_of_open_files_stays(flooded: Flooded) -> None:
    """Raised to what the operator allows, and not a file further: mlx-lm sets (2048, 4096) when it is imported."""
    assert psutil.Process(flooded.process.pid).rlimit(psutil.RLIMIT_NOFILE) == (FILES, FILES)


def test_the_parts_of_memory_sum_to_the_process(flooded: Flooded) -> None:
    memory: dict[str, Any] = {}

    def is_told() -> bool:
        memory.update(httpx.get(f"{flooded.url}/health", timeout=30).json()["memory"])
        resident = psutil.Process(flooded.process.pid).memory_info().rss
        return bool(abs(memory["used_bytes"] - resident) < 0.05 * resident)

    wait_until(is_told, "no snapshot of the server at rest has the memory of its process")
    assert sum(memory["parts"].values()) == memory["used_bytes"] == memory["process_bytes"]
    assert memory["parts"]["weights_bytes"] > 5_000_000 and memory["parts"]["features_bytes"] > 0
    assert memory["parts"]["media_bytes"] > 0 and all(size >= 0 for size in memory["parts"].values())


BROKEN = """
import sys
from engine.models.adapter import Adapter
from engine import cli
def fail(self, *args, **kwargs): raise MemoryError("no room")
import engine.runtime.worker as worker
worker.Worker.turn = fail
sys.exit(cli.main(["serve", "--port", "0", *sys.argv[1:]]))
"""


def broken(*options: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", BROKEN, *options],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    url = process.stdout.readline().split()[-1]
    process.stdout.readline()
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
    with contextlib.suppress(httpx.HTTPError):
        httpx.post(f"{url}/chat/completions", json=body, timeout=60)
    return process, url.removesuffix("/v1")


@pytest.mark.parametrize("exits", [True, False])
def test_a_supervisor_learns_that_the_engine_is_gone(exits: bool) -> None:
    process, url = broken(*(["--exit-on-failure"] if exits else []))
    try:
        if exits:
            _, said = process.communicate(timeout=30)
            assert process.returncode == 1 and "The engine has failed" in said and "no room" in said
        else:
            wait_until(lambda: httpx.get(f"{url}/health", timeout=10).status_code == 503, "it has not failed")
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(2 * WATCH_S)  # as long as one that exits would have looked twice
            health = httpx.get(f"{url}/health", timeout=10)
            assert health.status_code == 503
            assert health.json()["status"] == "failed" and "no room" in health.json()["error"]
    finally:
        process.kill()
        process.communicate()
