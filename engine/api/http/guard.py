"""Who may ask, how much, and under which name: API keys and the body limit for /v1, host names for the whole port."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.access.visibility import caller
from engine.api.answering.failures import error_response, failure
from engine.api.bodies.json_body import explain
from engine.api.http.limits import RateLimits
from engine.config import ServerConfig
from engine.errors import BadRequest, EngineError, Forbidden, TooLarge, Unauthorized, caused
from engine.request_log.log import RequestLog
from engine.types import Request as Generation

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
ID_PREFIXES = {"/chat/completions": "chatcmpl-", "/completions": "cmpl-", "/responses": "resp_", "/messages": "msg_"}
"""How the id of an answer begins, by the end of its route."""

DIALECTS = {
    "/v1/chat/completions": "chat.completions",
    "/v1/completions": "completions",
    "/v1/responses": "responses",
    "/v1/messages": "messages",
    "/v1/embeddings": "embeddings",
    "/v1/rerank": "rerank",
    "/v1/decisions": "decisions",
    "/v1/systemone": "systemone",
    "/v1/audio/transcriptions": "transcriptions",
    "/api/chat": "ollama.chat",
    "/api/generate": "ollama.generate",
}
"""What the request log calls the routes that answer, by their path, in front of which a reverse proxy's may stand."""

CLIENT_CLOSED = 499
"""nginx's status for a client that went away; nobody reads it."""

ANY_JSON: TypeAdapter[Any] = TypeAdapter(Any)
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


def guarded_route(config: ServerConfig) -> type[APIRoute]:
    """A route class that checks the key, its rate and the body's size before FastAPI reads the body.

    The check sits in the route itself, so no way of writing a path can lead around it. Who asks is in
    request.state.caller.
    """

    class GuardedRoute(APIRoute):
        def get_route_handler(self) -> Handler:
            handle = super().get_route_handler()

            async def guarded(request: Request) -> Response:
                name = check_key(request.headers, config.api_keys)
                limits: RateLimits = request.app.state.rate_limits
                if request.method == "POST":
                    limits.take(name)
                request.state.caller = caller(config, name)
                request.state.request_id = name_request(request.url.path)
                try:
                    body = await _read_body(request, config.max_upload_bytes)
                    response = await handle(JsonRequest(request.scope, _replay(body, request.receive)))
                except ClientDisconnect:
                    response = Response(status_code=CLIENT_CLOSED)
                except (EngineError, RequestValidationError) as error:
                    _log_refusal(request, error)
                    raise
                except HTTPException:
                    raise
                except Exception as error:
                    failed = failure(error, request.state.request_id)
                    _log_refusal(request, caused(failed, error))
                    raise failed from error
                response.headers["X-Request-Id"] = request.state.request_id
                response.headers.update(limits.headers(name))
                return response

            return guarded

    return GuardedRoute


def dialect(path: str) -> str:
    """The name of a route that answers; "" for any other."""
    return next((name for end, name in DIALECTS.items() if path.endswith(end)), "")


def traceparent(request: Request) -> str:
    """As Request.traceparent of the engine."""
    return request.headers.get("traceparent", "")


def _log_refusal(request: Request, error: EngineError | RequestValidationError) -> None:
    """A request that ended before the engine heard of it is in the log, too."""
    log: RequestLog = request.app.state.request_log
    name, id = dialect(request.url.path), request.state.request_id
    if name and request.method == "POST" and not (log.has(id) or log.has(f"{id}-0")):
        told = error if isinstance(error, EngineError) else explain(error.errors(), error.body)
        tenant = request.state.caller.tenant()
        log.refused(Generation(id=id, dialect=name, traceparent=traceparent(request), tenant=tenant), told)


def operator_only(request: Request) -> None:
    """Raise Forbidden for anybody but the operator."""
    if not request.state.caller.operator:
        raise Forbidden("Only the operator of this server may do this: it concerns what others have sent.")


def name_request(path: str) -> str:
    """An id in OpenAI's manner; it is in the answer, in the header X-Request-Id, and in the log of a failure."""
    prefix = next((prefix for end, prefix in ID_PREFIXES.items() if path.endswith(end)), "req-")
    return prefix + secrets.token_hex(12)


def check_key(headers: Mapping[str, str], api_keys: tuple[tuple[str, str], ...]) -> str:
    """The name of the key that was sent, or "" where none is asked for. Raises Unauthorized.

    All keys are compared, in constant time each and by their hashes, so that the time taken says nothing about them,
    not even how long they are.
    """
    if not api_keys:
        return ""
    given = _given_key(headers)
    as_sent, as_read = _digest(given.encode("latin-1", "replace")), _digest(given.encode())
    digests = [(name, _digest(key.encode())) for name, key in api_keys]
    matches = [
        name for name, digest in digests if hmac.compare_digest(as_sent, digest) | hmac.compare_digest(as_read, digest)
    ]
    if not given or not matches:
        what = "The API key is wrong." if given else "An API key is needed."
        raise Unauthorized(f"{what} Send it in the header 'Authorization: Bearer KEY'.")
    return matches[0]


def _given_key(headers: Mapping[str, str]) -> str:
    """From "Authorization: Bearer KEY", or where that is missing from "X-Api-Key: KEY", as Anthropic's clients send.

    As a header comes, each character of it stands for one byte.
    """
    authorization = headers.get("authorization")
    if authorization is None:
        return headers.get("x-api-key", "").strip()
    scheme, _, given = authorization.partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


class JsonRequest(Request):
    """A request whose body, when it is no JSON, is so in one way: FastAPI knows only JSONDecodeError."""

    async def json(self) -> Any:
        with suppress(ValueError):
            # Some four times as fast as the json module: a chat of screenshots is dozens of megabytes. That module gets
            # what is refused here: it reads a little more (half of a surrogate pair) and says better what is wrong.
            return ANY_JSON.validate_json(await self.body())
        try:
            return await super().json()
        except json.JSONDecodeError:
            raise
        except RecursionError as error:
            raise json.JSONDecodeError("it is nested too deeply", "", 0) from error
        except UnicodeDecodeError as error:
            raise json.JSONDecodeError("it is not UTF-8", "", 0) from error
        except ValueError as error:
            raise json.JSONDecodeError("a number has too many digits", "", 0) from error


async def _read_body(request: Request, max_bytes: int) -> bytes:
    """The body, or TooLarge as soon as it is known to be too large."""
    allowed = f"The request is too large; its body may have at most {max_bytes:,} bytes (--max-upload-mb)."
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise TooLarge(allowed)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise TooLarge(allowed)
    return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once more and then goes on with the real one, which tells of a disconnect."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return pending.pop() if pending else await receive()

    return replay


class HostGuard:
    """Answers only under its own names, so that a web page cannot reach a loopback server by DNS rebinding.

    Not needed where a key is asked for: such a page has none. https://en.wikipedia.org/wiki/DNS_rebinding
    """

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or self._known(scope):
            await self._app(scope, receive, send)
            return
        why = "This server answers under localhost only. Start it with --allowed-host NAME to use another name."
        await error_response(BadRequest(why, code="host_not_allowed"))(scope, receive, send)

    def _known(self, scope: Scope) -> bool:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        return len(hosts) == 1 and host_name(hosts[0].decode("latin-1")) in self._names


def guarded_names(config: ServerConfig) -> frozenset[str] | None:
    """The names HostGuard lets through, or None where it is not needed."""
    if not config.on_loopback or config.api_keys or config.open_access:
        return None
    return frozenset(host_name(name) for name in (*LOCAL_NAMES, config.host, *config.allowed_hosts))


def host_name(host: str) -> str:
    """ "[::1]:8000" -> "::1", "LocalHost.:80" -> "localhost"; "" for what is no host."""
    if not set(host).isdisjoint("@/?#\\"):
        return ""
    bare = f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host
    try:
        return (urlsplit(f"//{bare}").hostname or "").rstrip(".")
    except ValueError:
        return ""
