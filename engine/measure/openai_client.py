"""HTTP to any server with OpenAI's routes. One event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx

from engine.errors import BadRequest, Unavailable, say_bytes
from engine.line_feeds import lines_of
from engine.request_log.redact import HIDDEN
from engine.surrogates import well_formed
from engine.types import Json

ANSWER_S = 600.0
"""Longest time without a byte from the server."""

ATTEMPTS = 5
BUSY = (429, 503)
MAX_WAIT_S = 30.0
ERROR_CHARS = 500
MAX_ANSWER_BYTES = 64 * 1024**2
"""Of one answer, whole or streamed."""


class OpenAIClient:
    """One server. base_url: what every path is appended to.

    Methods raise Unavailable where the server cannot be reached, BadRequest where it answers with an error or what
    cannot be read. No message holds the key, which a server may repeat: they are shown, kept and written to files.
    """

    def __init__(self, base_url: str, api_key: str | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        self._api_key = api_key
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.AsyncClient(timeout=ANSWER_S, headers=headers, trust_env=False)

    async def request(self, method: str, path: str, body: Json | None = None) -> Json:
        """The JSON object of an answer. A busy server is asked up to ATTEMPTS times, after the time it names."""
        for attempt in range(ATTEMPTS):
            try:
                response, content = await self._whole(method, path, body)
            except httpx.RequestError as error:
                raise self._unreachable(error) from error
            if response.status_code not in BUSY or attempt == ATTEMPTS - 1:
                break
            await asyncio.sleep(_wait_s(response, attempt))
        text = content.decode(errors="replace")
        if response.status_code != 200:
            raise BadRequest(self._refusal(path, response.status_code, text))
        answer = _json_object(text)
        if answer is None:
            raise BadRequest(f"{self.base_url}{path} answered no JSON object: {self._quoted(text)}")
        return answer

    async def stream(self, path: str, body: bytes) -> AsyncIterator[Json]:
        """The chunks of a streamed answer. body: `encoded`, so that who measures does so before the clock starts.
        Raises Unavailable also where the server says that it is not ready (503)."""
        headers = {"Content-Type": "application/json"}
        try:
            async with self._http.stream("POST", self.base_url + path, content=body, headers=headers) as response:
                if response.status_code != 200:
                    text = (await self._read(response, path)).decode(errors="replace")
                    error_class = Unavailable if response.status_code == 503 else BadRequest
                    raise error_class(self._refusal(path, response.status_code, text))
                num_bytes = 0
                async for line in lines_of(response.aiter_bytes()):
                    num_bytes += len(line)
                    if num_bytes > MAX_ANSWER_BYTES:
                        raise self._endless(path)
                    if line.startswith(b"data: {"):
                        chunk: Json = json.loads(line.removeprefix(b"data: "))
                        if b"\\u" in line:  # half a surrogate pair cannot be written on
                            chunk = well_formed(chunk, names=True)
                        if "error" in chunk:
                            said = self._quoted(str(chunk["error"]))
                            raise BadRequest(f"{self.base_url}{path} stopped with an error: {said}")
                        yield chunk
        except httpx.RequestError as error:
            raise self._unreachable(error) from error
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"{self.base_url}{path} answered what cannot be read: {error}") from error

    async def optional(self, method: str, path: str, body: Json | None = None) -> Json:
        """The JSON object of a route that not every server has; {} where it does not answer with one."""
        try:
            response, content = await self._whole(method, path, body)
        except (httpx.RequestError, BadRequest):
            return {}
        return (_json_object(content.decode(errors="replace")) or {}) if response.status_code == 200 else {}

    async def close(self) -> None:
        await self._http.aclose()

    async def _whole(self, method: str, path: str, body: Json | None) -> tuple[httpx.Response, bytes]:
        """An answer and its body. Raises httpx.RequestError, and BadRequest for one without end."""
        async with self._http.stream(method, self.base_url + path, json=body) as response:
            return response, await self._read(response, path)

    async def _read(self, response: httpx.Response, path: str) -> bytes:
        content = bytearray()
        async for piece in response.aiter_bytes():
            content += piece
            if len(content) > MAX_ANSWER_BYTES:
                raise self._endless(path)
        return bytes(content)

    def _endless(self, path: str) -> BadRequest:
        return BadRequest(f"{self.base_url}{path} answered more than {say_bytes(MAX_ANSWER_BYTES)}.")

    def _refusal(self, path: str, status: int, text: str) -> str:
        return f"{self.base_url}{path} answered {status}: {self._quoted(text)}"

    def _quoted(self, text: str) -> str:
        """What a server said, as it may be shown: without the key, and only then cut."""
        return (text.replace(self._api_key, HIDDEN) if self._api_key else text)[:ERROR_CHARS]

    def _unreachable(self, error: httpx.RequestError) -> Unavailable:
        return Unavailable(f"{self.base_url} cannot be reached ({type(error).__name__}).")


def encoded(body: Json) -> bytes:
    """A request's body: JSON in UTF-8."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _json_object(text: str) -> Json | None:
    """None where the body is something else."""
    try:
        content: Any = well_formed(json.loads(text), names=True)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _wait_s(response: httpx.Response, attempt: int) -> float:
    retry_after = response.headers.get("Retry-After", "")
    return min(float(retry_after), MAX_WAIT_S) if retry_after.isdigit() else 0.5 * 2**attempt
