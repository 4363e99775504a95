"""Fetching from the web without becoming a way into the private network.

The address check sits in the network backend, at the only place where a connection is made: a name is resolved once,
every address that is not public is left out, and the connection goes to the address that was checked. So neither a
redirect nor a name that changes its mind (DNS rebinding) gets past it. Proxy settings of the environment are not used:
through a proxy the address could not be checked. All waiting together ends at one deadline.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx

from engine.config import MediaLimits
from engine.media.medium import refuse, say_bytes
from engine.types import Part

MAX_REDIRECTS = 5
REDIRECTS = {301, 302, 303, 307, 308}
NAT64 = ipaddress.ip_network("64:ff9b::/96")
HEADERS: Mapping[bytes | str, bytes | str] = {
    "User-Agent": "mlx-workbench",
    "Accept": "image/*, video/*, audio/*, */*;q=0.5",
    "Accept-Encoding": "identity",
}


def fetch_url(part: Part, url: str, limits: MediaLimits) -> bytes:
    """GET an http(s) URL: at most limits.max_bytes, within limits.fetch_timeout_s, at most 5 redirects.

    Thread: any; blocks. Raises BadMedia for everything that can go wrong on the way.
    """
    backend = GuardedBackend(part, limits)
    with httpcore.ConnectionPool(network_backend=backend, retries=0) as pool, _network_errors(part, limits):
        target = _parse(part, url)
        for _ in range(MAX_REDIRECTS + 1):
            with pool.stream("GET", _core_url(target), headers=HEADERS, extensions=backend.timeouts()) as response:
                if response.status not in REDIRECTS:
                    return _read_body(part, response, limits)
                location = httpx.Headers(response.headers).get("location", "")
            target = _parse(part, location, base=target)
    raise refuse(part, f"more than {MAX_REDIRECTS} redirects")


def is_public(address: str) -> bool:
    """True for an address of the open internet, also when an IPv4 address hides inside an IPv6 one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        hidden = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in NAT64:
            hidden = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if hidden is not None:
            return is_public(str(hidden))
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


class GuardedBackend(httpcore.NetworkBackend):
    """httpcore's blocking sockets, with the address check and one deadline for everything."""

    def __init__(self, part: Part, limits: MediaLimits) -> None:
        self._part = part
        self._allow_private = limits.allow_private_urls
        self._deadline = time.monotonic() + limits.fetch_timeout_s
        self._sockets = httpcore.SyncBackend()

    def timeouts(self) -> dict[str, Any]:
        left = _left(self._deadline)
        return {"timeout": {"connect": left, "read": left, "write": left, "pool": left}}

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception | None = None
        for address in self._allowed_addresses(host, port):
            try:
                stream = self._sockets.connect_tcp(address, port, _left(self._deadline), local_address, socket_options)
                return DeadlineStream(stream, self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise httpcore.ConnectError(f"no answer from {host}") from failure

    def _allowed_addresses(self, host: str, port: int) -> list[str]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise refuse(self._part, f"the host {host!r} is not known") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        allowed = [a for a in addresses if self._allow_private or is_public(a)]
        if not allowed:
            why = "private, loopback and link-local addresses are not fetched (--allow-private-urls allows it)"
            raise refuse(self._part, f"{host!r} is not a public address; {why}")
        return allowed


class DeadlineStream(httpcore.NetworkStream):
    """A socket whose every wait ends at the deadline, so that a server cannot hold a thread by dripping bytes."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, _left(self._deadline))
        return DeadlineStream(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("deadline")
    return left


def _parse(part: Part, url: str, base: httpx.URL | None = None) -> httpx.URL:
    try:
        parsed = base.join(url) if base is not None else httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise refuse(part, "the URL cannot be read") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise refuse(part, "the URL, or a redirect of it, does not lead to an http(s) host")
    return parsed


def _core_url(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


def _read_body(part: Part, response: httpcore.Response, limits: MediaLimits) -> bytes:
    headers = httpx.Headers(response.headers)
    if response.status != 200:
        raise refuse(part, f"the server answered with status {response.status}")
    if headers.get("content-encoding", "identity") != "identity":
        raise refuse(part, f"the server sent it as {headers['content-encoding']!r}, which was not asked for")
    allowed = f"at most {say_bytes(limits.max_bytes)} are allowed for one medium"
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limits.max_bytes:
        raise refuse(part, f"it has {say_bytes(int(declared))}; {allowed}")
    body = bytearray()
    for chunk in _chunks(response):
        body += chunk
        if len(body) > limits.max_bytes:
            raise refuse(part, f"it is larger than allowed; {allowed}")
    return bytes(body)


def _chunks(response: httpcore.Response) -> Iterator[bytes]:
    yield from response.iter_stream()


@contextmanager
def _network_errors(part: Part, limits: MediaLimits) -> Iterator[None]:
    try:
        yield
    except httpcore.TimeoutException as error:
        raise refuse(part, f"fetching took longer than {limits.fetch_timeout_s:g} s") from error
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
        raise refuse(part, f"the URL could not be fetched ({type(error).__name__})") from error
