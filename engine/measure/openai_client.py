"""HTTP to any server with OpenAI's routes. One event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx

from engine.errors import BadRequest, Unavailable
from engine.line_feeds import lines_of
from engine.types import Json

ANSWER_S = 600.0
"""Longest time without a byte from the server."""

ATTEMPTS = 5
BUSY = (429, 503)
MAX_WAIT_S = 30.0
ERROR_CHARS = 500


class OpenAIClient:
    """One server. base_url: what every path is appended to.

    Methods raise Unavailable where the server cannot be reached, BadRequest where it answers with an error.
    """

    def __init__(self, base_url: str, api_key: str | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.AsyncClient(timeout=ANSWER_S, headers=headers, trust_env=False)

    async def request(self, method: str, path: str, body: Json | None = None) -> Json:
        """The JSON object of an answer. A busy server is asked up to ATTEMPTS times, after the time it names."""
        for attempt in range(ATTEMPTS):
            try:
                response = await self._http.request(method, self.base_url + path, json=body)
            except httpx.TransportError as error:
                raise self._unreachable(error) from error
            if response.status_code not in BUSY or attempt == ATTEMPTS - 1:
                break
            await asyncio.sleep(_wait_s(response, attempt))
        if response.status_code != 200:
            raise BadRequest(self._refusal(path, response.status_code, response.text))
        answer = _json_object(response)
        if answer is None:
            raise BadRequest(f"{self.base_url}{path} answered no JSON object: {response.text[:200]}")
        return answer

    async def stream(self, path: str, body: bytes) -> AsyncIterator[Json]:
        """The chunks of a streamed answer. body: `encoded`, so that who measures does so before the clock starts.
        Raises Unavailable also where the server says that it is not ready (503)."""
        headers = {"Content-Type": "application/json"}
        try:
            async with self._http.stream("POST", self.base_url + path, content=body, headers=headers) as response:
                if response.status_code != 200:
                    text = (await response.aread()).decode(errors="replace")
                    error_class = Unavailable if response.status_code == 503 else BadRequest
                    raise error_class(self._refusal(path, response.status_code, text))
                async for line in lines_of(response.aiter_bytes()):
                    if line.startswith(b"data: {"):
                        chunk: Json = json.loads(line.removeprefix(b"data: "))
                        if "error" in chunk:
                            raise BadRequest(f"{self.base_url}{path} stopped with an error: {chunk['error']}")
                        yield chunk
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        except ValueError as error:
            raise BadRequest(f"{self.base_url}{path} answered what cannot be read: {error}") from error

    async def optional(self, method: str, path: str, body: Json | None = None) -> Json:
        """The JSON object of a route that not every server has; {} where it does not answer with one."""
        try:
            response = await self._http.request(method, self.base_url + path, json=body)
        except httpx.TransportError:
            return {}
        return (_json_object(response) or {}) if response.status_code == 200 else {}

    async def close(self) -> None:
        await self._http.aclose()

    def _refusal(self, path: str, status: int, text: str) -> str:
        return f"{self.base_url}{path} answered {status}: {text[:ERROR_CHARS]}"

    def _unreachable(self, error: httpx.TransportError) -> Unavailable:
        return Unavailable(f"{self.base_url} cannot be reached ({type(error).__name__}).")


def encoded(body: Json) -> bytes:
    """A request's body: JSON in UTF-8."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _json_object(response: httpx.Response) -> Json | None:
    """None where the body is something else."""
    try:
        content: Any = response.json()
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _wait_s(response: httpx.Response, attempt: int) -> float:
    retry_after = response.headers.get("Retry-After", "")
    return min(float(retry_after), MAX_WAIT_S) if retry_after.isdigit() else 0.5 * 2**attempt
