"""Fetching from a real server on loopback; and that nothing leads into the private network."""

from __future__ import annotations

import base64
import gzip
import socket
import threading
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from engine.config import MediaLimits
from engine.errors import BadMedia
from engine.media import web
from engine.media.web import fetch_url, is_public
from engine.types import Part

PART = Part("image", param="messages[0].content[0].image_url.url")
OPEN = MediaLimits(allow_private_urls=True, max_bytes=10_000, fetch_timeout_s=5.0)
CLOSED = MediaLimits(max_bytes=10_000, fetch_timeout_s=5.0)
BODY = b"\x89PNG" + bytes(5000)
LOGIN = "Basic " + base64.b64encode("käthe:a:b@c".encode()).decode()
USER = "k%C3%A4the:a%3Ab%40c"
PACKED = {
    "gzip": gzip.compress(BODY),
    "GZIP": gzip.compress(BODY),
    "x-gzip": gzip.compress(BODY),
    "deflate": zlib.compress(BODY),
    "identity": BODY,
    "identity,gzip": gzip.compress(BODY),
    "br": BODY,
    "gzip,gzip": BODY,
    "bomb": gzip.compress(bytes(5_000_000)),
    "cut": gzip.compress(BODY)[:-9],
    "junk": BODY,
}


class Handler(BaseHTTPRequestHandler):
    """/ok, /to?URL (redirect), /loop, /undeclared (no length), /declared (too long), /drip, /packed?ENCODING[:BODY],
    /nowhere (redirect without a target), /cookie, /page (HTML), /secret (wants LOGIN); 404 for anything else."""

    seen_hosts: list[str]

    def do_GET(self) -> None:
        self.server.hosts.append(self.headers["Host"])  # type: ignore[attr-defined]
        name, _, rest = self.path.lstrip("/").partition("?")
        if name == "ok":
            self._answer(200, BODY)
        elif name == "to":
            self._answer(302, b"", Location=rest)
        elif name == "loop":
            self._answer(302, b"", Location="/loop")
        elif name == "packed":
            how, _, what = rest.partition(":")
            self._answer(200, PACKED[what or how], **{"Content-Encoding": how})
        elif name == "nowhere":
            self._answer(302, b"")
        elif name == "cookie":
            self._answer(302, b"", Location="/cookie", **{"Set-Cookie": "seen=1"})
        elif name == "page":
            self._answer(200, b"<!DOCTYPE html><title>Log in</title>")
        elif name == "secret":
            login = self.headers.get("Authorization", "")
            self.server.logins.append(login)  # type: ignore[attr-defined]
            self._answer(200 if login == LOGIN else 401, BODY)
        elif name == "declared":
            self._answer(200, b"", **{"Content-Length": "99999999"})
        elif name == "undeclared":
            self._stream(20, 1000, 0.0)
        elif name == "drip":
            self._stream(100, 1, 0.1)
        else:
            self._answer(404, b"nothing")

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, count: int, size: int, pause_s: float) -> None:
        self.send_response(200)
        self.end_headers()
        for _ in range(count):
            self.wfile.write(bytes(size))
            self.wfile.flush()
            time.sleep(pause_s)

    def log_message(self, *_: Any) -> None:
        pass


class Site:
    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.port = server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.hosts: list[str] = server.hosts  # type: ignore[attr-defined]
        self.logins: list[str] = server.logins  # type: ignore[attr-defined]


@pytest.fixture
def site() -> Iterator[Site]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    server.hosts = []  # type: ignore[attr-defined]
    server.logins = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)  # it is stopped 60 times
    thread.start()
    yield Site(server)
    server.shutdown()
    server.server_close()


def refused(url: str, limits: MediaLimits = OPEN) -> str:
    with pytest.raises(BadMedia) as caught:
        fetch_url(PART, url, limits)
    assert caught.value.param == PART.param and caught.value.message.startswith(PART.param)
    return caught.value.message


def test_a_body_arrives_whole(site: Site) -> None:
    assert fetch_url(PART, f"{site.url}/ok", OPEN) == BODY


def test_redirects_are_followed(site: Site) -> None:
    assert fetch_url(PART, f"{site.url}/to?/ok", OPEN) == BODY
    assert fetch_url(PART, f"{site.url}/to?{site.url}/ok", OPEN) == BODY


def test_what_can_go_wrong_is_said(site: Site) -> None:
    assert "status 404" in refused(f"{site.url}/nothing")
    assert "more than 5 redirects" in refused(f"{site.url}/loop")
    assert "status 302, a redirect that leads nowhere" in refused(f"{site.url}/nowhere")
    assert "wants a cookie" in refused(f"{site.url}/cookie") and "cookie" not in refused(f"{site.url}/loop")
    assert "an HTML page, not a picture: it may want a login or a cookie" in refused(f"{site.url}/page")
    assert "status 401; it wants a login" in refused(f"{site.url}/secret")
    assert "http(s)" in refused(f"{site.url}/to?ftp://127.0.0.1/a")
    assert "http(s)" in refused(f"{site.url}/to?file:///etc/passwd")
    assert "status 302" not in refused(f"{site.url}/to?http://[broken")


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip", "deflate", "identity", "identity,gzip"])
def test_what_is_sent_packed_is_unpacked(site: Site, encoding: str) -> None:
    assert fetch_url(PART, f"{site.url}/packed?{encoding}", OPEN) == BODY


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("br", "packed as br, which is not read"),
        ("gzip,gzip", "packed as gzip, gzip, which is not read"),
        ("gzip:cut", "ends too early"),
        ("gzip:junk", "it is damaged"),
        ("gzip:bomb", "larger than allowed; at most 9.766 KiB"),
    ],
)
def test_what_cannot_be_unpacked_is_said(site: Site, how: str, words: str) -> None:
    assert words in refused(f"{site.url}/packed?{how}")


def test_a_bomb_is_not_unpacked_to_its_end(site: Site) -> None:
    tracemalloc.start()
    try:
        refused(f"{site.url}/packed?gzip:bomb")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_user_and_password_of_a_url_are_used(site: Site) -> None:
    assert fetch_url(PART, f"http://{USER}@127.0.0.1:{site.port}/secret", OPEN) == BODY
    assert fetch_url(PART, f"http://{USER}@127.0.0.1:{site.port}/to?/secret", OPEN) == BODY
    assert fetch_url(PART, f"http://{USER}@127.0.0.1:{site.port}/to?{site.url}/secret", OPEN) == BODY
    assert site.logins == [LOGIN] * 3


def test_another_host_does_not_learn_the_password(site: Site) -> None:
    message = refused(f"http://{USER}@127.0.0.1:{site.port}/to?http://localhost:{site.port}/secret")
    assert "status 401" in message and site.logins == [""]
    assert "a:b" not in message and "a%3Ab" not in message


def test_only_allowed_domains_are_asked(site: Site) -> None:
    limits = replace(OPEN, allowed_media_domains=("localhost",))
    assert fetch_url(PART, f"http://LOCALHOST:{site.port}/ok", limits) == BODY
    asked = len(site.hosts)
    message = refused(f"{site.url}/ok", limits)
    assert "'127.0.0.1' is not allowed: media are fetched from localhost only (--allowed-media-domains)" in message
    assert len(site.hosts) == asked, "nothing was sent"
    assert "is not allowed" in refused(f"http://localhost:{site.port}/to?{site.url}/ok", limits)
    assert "is not allowed" in refused(f"http://evil-localhost:{site.port}/ok", limits)
    assert "is not allowed" in refused(f"http://localhost@127.0.0.1:{site.port}/ok", limits)


def test_an_allowed_domain_may_still_not_be_private(site: Site) -> None:
    limits = replace(CLOSED, allowed_media_domains=("localhost",))
    assert "not a public address" in refused(f"http://localhost:{site.port}/ok", limits)


def test_the_size_limit_holds_with_and_without_a_declared_size(site: Site) -> None:
    assert "95.37 MiB; at most 9.766 KiB" in refused(f"{site.url}/declared")
    assert "larger than allowed; at most 9.766 KiB" in refused(f"{site.url}/undeclared")
    assert len(fetch_url(PART, f"{site.url}/undeclared", MediaLimits(allow_private_urls=True))) == 20_000


def test_dripping_bytes_do_not_stretch_the_time_limit(site: Site) -> None:
    started = time.monotonic()
    message = refused(f"{site.url}/drip", MediaLimits(allow_private_urls=True, fetch_timeout_s=0.5))
    assert "longer than 0.5 s" in message
    assert time.monotonic() - started < 3


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "could not be fetched" in refused(f"http://127.0.0.1:{port}/a.png")
    assert "is not known" in refused("http://no-such-host.invalid/a.png")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "10.1.2.3"],
)
def test_private_hosts_are_refused_however_they_are_written(site: Site, host: str) -> None:
    message = refused(f"http://{host}:{site.port}/ok", CLOSED)
    assert "not a public address" in message or "is not known" in message
    assert site.hosts == [], "nothing was sent"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.255.254",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "198.18.0.1",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd12:3456::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2001:db8::1",
        "::7f00:1",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(address)


class Names:
    """A stand-in resolver for names under .test; every other look-up is real."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def _look_up(self, host: Any, port: Any, *args: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if not name.endswith(".test"):
            return self._real(host, port, *args, **options)
        self.asked.append(name)
        answers = self.answers[name]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    return Names(monkeypatch)


@pytest.fixture
def loopback_counts_as_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a first hop on this machine is allowed and the second one is what is tested."""
    monkeypatch.setattr(web, "is_public", lambda address: address == "127.0.0.1" or is_public(address))


def test_a_name_that_leads_to_loopback_is_refused(site: Site, names: Names) -> None:
    names.answers["inside.test"] = [["127.0.0.1"]]
    assert "'inside.test' is not a public address" in refused(f"http://inside.test:{site.port}/ok", CLOSED)
    assert site.hosts == []


@pytest.mark.usefixtures("loopback_counts_as_public")
@pytest.mark.parametrize("target", ["http://169.254.169.254/latest/meta-data", "http://10.0.0.1/", "http://[::1]/"])
def test_a_redirect_into_the_private_network_is_refused(site: Site, target: str) -> None:
    assert "not a public address" in refused(f"{site.url}/to?{target}", CLOSED)
    assert len(site.hosts) == 1, "only the first hop was asked"


@pytest.mark.usefixtures("loopback_counts_as_public")
def test_the_address_that_was_checked_is_the_one_that_is_used(site: Site, names: Names) -> None:
    """DNS rebinding: a second look-up would lead elsewhere, so there must be none."""
    names.answers["rebind.test"] = [["127.0.0.1"], ["10.0.0.1"]]
    assert fetch_url(PART, f"http://rebind.test:{site.port}/ok", CLOSED) == BODY
    assert names.asked == ["rebind.test"]
    assert site.hosts == [f"rebind.test:{site.port}"], "the server is still asked under its name"


@pytest.mark.usefixtures("loopback_counts_as_public")
def test_private_answers_beside_a_public_one_are_left_out(site: Site, names: Names) -> None:
    names.answers["mixed.test"] = [["10.255.255.1", "127.0.0.1"]]
    assert fetch_url(PART, f"http://mixed.test:{site.port}/ok", CLOSED) == BODY


def test_a_proxy_in_the_environment_is_not_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert fetch_url(PART, f"{site.url}/ok", OPEN) == BODY
