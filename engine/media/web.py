"""Fetching from the web without becoming a way into the private network.

The address check sits in the network backend, at the only place where a connection is made: a name is resolved once,
every address that is not public is left out, and the connection goes to the address that was checked. So neither a
redirect nor a name that changes its mind (DNS rebinding) gets past it. Proxy settings of the environment are not used:
through a proxy the address could not be checked. All waiting together ends at one deadline.
"""

from __future__ import annotations

import base64
import ipaddress
import socket
import ssl
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx

from engine.config import MediaLimits
from engine.media.medium import refuse, say_bytes
from engine.media.sniff import HEAD_BYTES, HTML, WORDS, sniff
from engine.types import Part

MAX_REDIRECTS = 5
REDIRECTS = {301, 302, 303, 307, 308}
NAT64 = ipaddress.ip_network("64:ff9b::/96")
ANY_ZLIB = 47
"""zlib's number for: gzip or zlib, whichever it is."""
LOGIN = "; it wants a login (of a URL with user:password@ both are used)"
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
        target = _parse(part, url, limits)
        wants_cookie = False
        for _ in range(MAX_REDIRECTS + 1):
            asked = {**HEADERS, **_login(target)}
            with pool.stream("GET", _core_url(target), headers=asked, extensions=backend.timeouts()) as response:
                if response.status not in REDIRECTS:
                    return _read_body(part, response, limits)
                headers = httpx.Headers(response.headers)
            wants_cookie |= "set-cookie" in headers
            if not headers.get("location"):
                raise refuse(part, f"the server answered with status {response.status}, a redirect that leads nowhere")
            target = _parse(part, headers["location"], limits, base=target)
    why = "; the server wants a cookie to be kept, as a browser does and this server does not" if wants_cookie else ""
    raise refuse(part, f"more than {MAX_REDIRECTS} redirects{why}")


def _login(url: httpx.URL) -> dict[bytes | str, bytes | str]:
    """The user and password of a URL, as basic authentication (RFC 7617)."""
    if not url.userinfo:
        return {}
    return {"Authorization": f"Basic {base64.b64encode(f'{url.username}:{url.password}'.encode()).decode()}"}


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


def _parse(part: Part, url: str, limits: MediaLimits, base: httpx.URL | None = None) -> httpx.URL:
    """The URL, or where a redirect of `base` leads; refused where its host is not one of those that are allowed."""
    try:
        parsed = base.join(url) if base is not None else httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise refuse(part, "the URL cannot be read") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise refuse(part, "the URL, or a redirect of it, does not lead to an http(s) host")
    domains = limits.allowed_media_domains
    if domains and parsed.host not in domains:
        why = f"media are fetched from {', '.join(domains)} only (--allowed-media-domains)"
        raise refuse(part, f"the host {parsed.host!r} is not allowed: {why}")
    if base is not None and not parsed.userinfo and _origin(parsed) == _origin(base):
        parsed = parsed.copy_with(userinfo=base.userinfo)
    return parsed


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _core_url(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


def _read_body(part: Part, response: httpcore.Response, limits: MediaLimits) -> bytes:
    headers = httpx.Headers(response.headers)
    if response.status != 200:
        why = LOGIN if response.status in (401, 403, 407) else ""
        raise refuse(part, f"the server answered with status {response.status}{why}")
    allowed = f"at most {say_bytes(limits.max_bytes)} are allowed for one medium"
    declared = headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limits.max_bytes:
        raise refuse(part, f"it has {say_bytes(int(declared))}; {allowed}")
    body = bytearray()
    unpack = _Unpacker(part, headers.get("content-encoding", ""), limits.max_bytes + 1)
    for chunk in _chunks(response):
        body += unpack(chunk)
        if len(body) > limits.max_bytes:
            raise refuse(part, f"it is larger than allowed; {allowed}")
    unpack.check_end()
    if part.kind in WORDS and sniff(bytes(body[:HEAD_BYTES])).name == HTML:
        why = "it may want a login or a cookie, or the URL is that of a page that shows the file"
        raise refuse(part, f"the server sent an HTML page, not a {WORDS[part.kind]}: {why}")
    return bytes(body)


class _Unpacker:
    """Content-Encoding undone piece by piece, to `most` bytes of a piece, which are too many. RFC 9110, 8.4."""

    def __init__(self, part: Part, encodings: str, most: int) -> None:
        names = [name.strip().lower() for name in encodings.split(",")]
        names = [name for name in names if name not in ("", "identity")]
        if names and (len(names) > 1 or names[0] not in ("gzip", "x-gzip", "deflate")):
            raise refuse(part, f"the server sent it packed as {', '.join(names)}, which is not read; gzip is")
        self._part = part
        self._most = most
        self._zlib = zlib.decompressobj(ANY_ZLIB) if names else None

    def __call__(self, chunk: bytes) -> bytes:
        if self._zlib is None:
            return chunk
        try:
            return self._zlib.decompress(chunk, self._most)
        except zlib.error as error:
            raise refuse(self._part, "what the server sent packed cannot be unpacked: it is damaged") from error

    def check_end(self) -> None:
        if self._zlib is not None and not self._zlib.eof:
            raise refuse(self._part, "what the server sent packed ends too early")


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
