"""What another server, or the way to it, says when something goes wrong -> EngineError. Pure.

Every message names the server by its host and quotes what it said: bounded, on one line, and without the key.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Iterator
from typing import Any

from engine.errors import BadGateway, BadRequest, Busy, EngineError, ModelNotFound, TooLarge, Unavailable
from engine.request_log.redact import HIDDEN
from engine.surrogates import well_formed
from engine.types import RemoteServer

SAID_CHARS = 500
MAX_RETRY_S = 3600


def quoted(server: RemoteServer, text: str) -> str:
    """Words of a server as they may be shown."""
    if server.key:
        text = text.replace(server.key, HIDDEN)
    line = " ".join(text.split())
    return line if len(line) <= SAID_CHARS else f"{line[:SAID_CHARS]}…"


def unreachable(server: RemoteServer, error: BaseException) -> Unavailable:
    """It could not be asked."""
    why = quoted(server, _why(error))
    return Unavailable(f"{server.host} cannot be reached: {why}.", code="server_unreachable")


def broken_off(server: RemoteServer, why: str) -> BadGateway:
    """Its answer ended in the middle."""
    return BadGateway(f"The answer of {server.host} broke off: {quoted(server, why)}.", code="server_broke_off")


def not_understood(server: RemoteServer, what: str = "it is not in the form of OpenAI's routes") -> BadGateway:
    return BadGateway(f"The answer of {server.host} cannot be read: {quoted(server, what)}.")


def said_in_the_middle(server: RemoteServer, error: Any) -> EngineError:
    """An error that came as a part of an answer that had begun."""
    return BadGateway(f"{server.host} stopped with an error: {quoted(server, _message_of(error))}")


def refusal(server: RemoteServer, status: int, headers: dict[str, str], body: bytes) -> EngineError:
    """An answer that is none. headers: names in lower case."""
    found = _error_of(body)
    said = quoted(server, _message_of(found) or "nothing more")
    words = f"{server.host} answered {status}: {said}"
    code, param = (_text(server, found, name) for name in ("code", "param"))
    if 300 <= status < 400:
        to = quoted(server, headers.get("location", "another address"))
        return BadGateway(f"{server.host} sends on to {to}, which is not followed: give the address itself.")
    if status == 403:  # of the key, or of what this one request holds
        return BadGateway(f"{server.host} refused this. It answered 403: {said}", code="server_refused")
    if status == 401:
        why = "does not accept the key (server_key)" if server.key else "asks for a key (server_key)"
        return BadGateway(f"{server.host} {why}. It answered {status}: {said}", code="server_key_refused")
    if 400 <= status < 500 and status not in (404, 413, 429):
        return BadRequest(words, param=param, code=code)
    busy = Busy(words, retry_after_s=_seconds(headers.get("retry-after", "")), code="server_busy")
    known: dict[int, EngineError] = {
        404: ModelNotFound(words, param="model", code=code),
        413: TooLarge(words, code=code),
        429: busy,
        503: Unavailable(words, code="server_unavailable"),
    }
    return known.get(status) or BadGateway(words)


NO_ROUTE = "no_route"
"""Code of the error of a server that lacks a route which not all have."""

UNKNOWN_MODEL = re.compile(r"\bmodel\b.*\b(does not exist|not found)\b", re.IGNORECASE)
"""Words of servers whose errors have neither a code nor a field, as older ones of vLLM: "The model `x` does not exist."
"""


def without_route(server: RemoteServer, route: str, status: int, body: bytes) -> EngineError | None:
    """An answer that says that the server does not have a route, or has one of this name with other fields, as an error
    with NO_ROUTE; None for any other. A model that it does not know is 404, too, and is told by its code or words."""
    found = _error_of(body)
    if status == 422 and (said := _not_its_fields(found)):
        words = f"{server.host} has another {route}; it answered 422: {quoted(server, said)}"
        return BadRequest(words, code=NO_ROUTE)
    if status not in (404, 405, 501) or _names_model(found):
        return None
    said = quoted(server, _message_of(found) or "nothing more")
    return BadRequest(f"{server.host} does not have {route}; it answered {status}: {said}", code=NO_ROUTE)


def _names_model(error: Any) -> bool:
    if not isinstance(error, dict):
        return False
    is_told = error.get("code") == "model_not_found" or error.get("param") == "model"
    return is_told or UNKNOWN_MODEL.search(_message_of(error)[:SAID_CHARS]) is not None


def _not_its_fields(detail: Any) -> str:
    """What FastAPI says of fields that are missing from a body, or are of another type as a whole; "" for all else."""
    entries = [entry for entry in detail if isinstance(entry, dict)] if isinstance(detail, list) else []
    faults = [(place, entry) for entry in entries if isinstance(place := entry.get("loc"), list) and place]
    if not any(len(place) == 2 and place[0] == "body" and _is_of_form(entry.get("type")) for place, entry in faults):
        return ""
    return "; ".join(f"{place[-1]}: {entry.get('msg')}" for place, entry in faults)


def _is_of_form(fault: Any) -> bool:
    """Whether a fault is that a field is not there or of another type, not that its value is refused. fault: Pydantic's
    name of it, https://docs.pydantic.dev/latest/errors/validation_errors/"""
    return isinstance(fault, str) and (fault == "missing" or fault.endswith(("_type", "_parsing")))


def _error_of(body: bytes) -> Any:
    """What a body says of an error: OpenAI's object, the same without "error" around it, FastAPI's detail, or the text.
    It has no halves of surrogate pairs, which no answer of ours could be written with."""
    text = body.decode(errors="replace")
    try:
        found = well_formed(json.loads(text), names=True)
    except (ValueError, RecursionError):
        return text
    if not isinstance(found, dict):
        return text
    is_flat = isinstance(found.get("message"), str)
    return found.get("error") or found.get("detail") or (found if is_flat else text)


def _message_of(error: Any) -> str:
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        return str(error["message"])
    try:
        return error if isinstance(error, str) else json.dumps(error)
    except RecursionError:  # too deep to be written, though not to be read
        return ""


def _text(server: RemoteServer, error: Any, name: str) -> str | None:
    value = error.get(name) if isinstance(error, dict) else None
    return quoted(server, value)[:100] if isinstance(value, str) and value else None


def _seconds(retry_after: str) -> int:
    return min(max(1, int(retry_after)), MAX_RETRY_S) if retry_after.isascii() and retry_after.isdigit() else 1


def _why(error: BaseException) -> str:
    """The nearest of its causes that a person can make something of."""
    said = (_reason(cause) for cause in _causes(error))
    return next((words for words in said if words), str(error) or type(error).__name__)


def _reason(cause: BaseException) -> str:
    """In words for a person; "" for what is not known here."""
    words = ""
    match cause:
        case ssl.SSLCertVerificationError():
            words = f"its certificate is not accepted ({cause.verify_message})"
        case ssl.SSLError():
            words = f"TLS failed ({cause.reason or 'no reason given'})"
        case socket.gaierror():
            words = "there is no host of this name"
        case TimeoutError():
            words = "it did not answer in time"
        case ConnectionRefusedError():
            words = "connection refused"
        case OSError() if cause.errno and cause.strerror:
            words = cause.strerror.lower()
    return words


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    left = [error]
    while left:
        one = left.pop(0)
        if any(one is other for other in seen):
            continue
        seen.append(one)
        yield one
        left += getattr(one, "exceptions", ())
        left += [cause for cause in (one.__cause__, one.__context__) if cause is not None]
