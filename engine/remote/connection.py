"""The HTTP of another server: a POST whose answer comes in pieces, and its list of models. Raises EngineError only.

Nothing is sent on to another address, and no proxy of the environment is used: the key goes to the one host it is for.
httpx is imported where it is needed: that takes a tenth of a second, which most starts need not wait for.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from engine.errors import EngineError, ModelNotFound
from engine.line_feeds import MAX_LINE_BYTES, lines_of
from engine.remote.failures import broken_off, not_understood, refusal, unreachable, without_route
from engine.surrogates import well_formed
from engine.types import Json, RemoteServer

if TYPE_CHECKING:
    import ssl

    import httpx

T = TypeVar("T")

CONNECT_S = 10.0
SILENCE_S = 600.0
"""Longest time without a byte of an answer."""

PROBE_S = 4.0
PIECE_BYTES = 256 * 1024
MAX_ERROR_BYTES = 64 * 1024
MAX_LIST_BYTES = 4 * 1024**2
END = "[DONE]"


class Waiting(Protocol):
    """What bounds how long is waited (engine.remote.servers.OpenRequest)."""

    async def wait(self, work: Awaitable[T]) -> T: ...


@cache
def _tls() -> ssl.SSLContext:
    """Made once: reading the certificates takes some 20 ms."""
    import httpx

    return httpx.create_ssl_context()


def _headers(server: RemoteServer) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.key}"} if server.key else {}


@dataclass(eq=False)
class OutgoingBody:
    """A body of JSON on its way: held until its server begins to answer, not until the answer has ended. gone: is
    called then."""

    content: bytes
    gone: Callable[[], None]

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """All of it, once."""
        for start in range(0, len(self.content), PIECE_BYTES):
            yield self.content[start : start + PIECE_BYTES]

    def let_go(self) -> None:
        self.content = b""
        self.gone()


async def answered(
    server: RemoteServer, url: str, body: OutgoingBody, deadline: Waiting, *, may_lack: bool = False
) -> AsyncGenerator[Json | None, None]:
    """The objects of an answer as they come; None for the server's own mark of its end. Closing this closes the
    connection, which ends the request there. may_lack: not every server has this route; see failures.without_route."""
    import httpx

    timeout = httpx.Timeout(SILENCE_S, connect=CONNECT_S)
    headers = {
        **_headers(server),
        "Content-Type": "application/json",
        "Content-Length": str(len(body.content)),
        "Accept": "text/event-stream, application/json",
    }
    async with httpx.AsyncClient(verify=_tls(), timeout=timeout, trust_env=False, follow_redirects=False) as client:
        asked = client.build_request("POST", url, content=body.pieces(), headers=headers)
        try:
            response = await deadline.wait(client.send(asked, stream=True))
        except httpx.HTTPError as error:
            raise unreachable(server, error) from error
        body.let_go()
        try:
            if response.status_code != 200:
                raise await deadline.wait(_refusal(server, response, may_lack=may_lack))
            is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
            pieces = _events(server, response) if is_stream else _whole(server, response)
            async with aclosing(pieces):
                while True:
                    try:
                        piece = await deadline.wait(anext(pieces))
                    except StopAsyncIteration:
                        return
                    yield piece
        except httpx.TimeoutException as error:
            raise broken_off(server, f"nothing came for {SILENCE_S:g} s") from error
        except httpx.HTTPError as error:
            raise broken_off(server, "the connection was lost") from error
        finally:
            await response.aclose()


async def whole(server: RemoteServer, url: str, body: OutgoingBody, deadline: Waiting) -> Json:
    """An answer that comes as one object, of a route that not every server has."""
    async with aclosing(answered(server, url, body, deadline, may_lack=True)) as pieces:
        return await anext(pieces, None) or {}


async def _refusal(server: RemoteServer, response: httpx.Response, *, may_lack: bool) -> EngineError:
    body = b""
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > MAX_ERROR_BYTES:
            break
    said = body[:MAX_ERROR_BYTES]
    if may_lack and (lacks := without_route(server, response.url.path, response.status_code, said)) is not None:
        return lacks
    headers = {name.lower(): value for name, value in response.headers.items()}
    return refusal(server, response.status_code, headers, said)


async def _events(server: RemoteServer, response: httpx.Response) -> AsyncGenerator[Json | None, None]:
    """https://html.spec.whatwg.org/multipage/server-sent-events.html, of which only data is read."""
    try:
        async for line in lines_of(response.aiter_bytes()):
            name, _, value = line.partition(b":")
            if name != b"data":
                continue
            text = value.decode(errors="replace").strip()
            yield None if text == END else _object(server, text)
    except ValueError as error:
        raise not_understood(server, str(error)) from error


async def _whole(server: RemoteServer, response: httpx.Response) -> AsyncGenerator[Json | None, None]:
    """Of a server that does not stream."""
    body = b""
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > MAX_LINE_BYTES:
            raise not_understood(server, f"it has more than {MAX_LINE_BYTES} bytes")
    yield _object(server, body.decode(errors="replace"))
    yield None


def _object(server: RemoteServer, text: str) -> Json:
    try:
        found = json.loads(text, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise not_understood(server)
    return well_formed(found, names=True) if "\\u" in text else found


def _finite(written: str) -> float:
    """No JSON of ours holds NaN, Infinity or 1e999."""
    number = float(written)
    if not math.isfinite(number):
        raise ValueError(written)
    return number


def listed_models(server: RemoteServer) -> list[Json]:
    """The objects of its /v1/models; [] of a server without that route. Blocks for a few seconds at most."""
    import httpx

    try:
        with (
            httpx.Client(verify=_tls(), timeout=PROBE_S, trust_env=False, follow_redirects=False) as client,
            client.stream("GET", f"{server.url}/models", headers=_headers(server)) as response,
        ):
            body, until_s = b"", time.monotonic() + 2 * PROBE_S
            for piece in response.iter_bytes():
                body += piece
                if len(body) > MAX_LIST_BYTES or time.monotonic() > until_s:
                    raise not_understood(server, "its list of models does not end")
    except httpx.HTTPError as error:
        raise unreachable(server, error) from error
    if response.status_code != 200:
        headers = {name.lower(): value for name, value in response.headers.items()}
        refused = refusal(server, response.status_code, headers, body[:MAX_ERROR_BYTES])
        if isinstance(refused, ModelNotFound):
            return []
        raise refused
    data: Any = _object(server, body.decode(errors="replace")).get("data")
    return [one for one in data if isinstance(one, dict)] if isinstance(data, list) else []
