"""Who is asked: an Engine in this process, or any server with OpenAI's /v1/chat/completions."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from engine.core import Engine
from engine.errors import BadRequest, Unavailable
from engine.types import Message, Part, Request, Sampling

ANSWER_S = 600.0
RETRIES = 5
BUSY = (429, 503)


@dataclass(frozen=True, slots=True)
class Reply:
    """One prompt, as a user's message. temperature 0 is greedy."""

    text: str
    max_tokens: int
    temperature: float
    stop: str


@dataclass(frozen=True, slots=True)
class Said:
    """One answer. finish_reason "length": it was cut off at max_tokens."""

    text: str
    completion_tokens: int
    finish_reason: str


class Source(Protocol):
    @property
    def name(self) -> str:
        """What is asked, as it is kept with the results."""

    async def ask(self, asked: Reply) -> Said:
        """The whole answer. Raises Unavailable when nobody answers, another EngineError when this is refused."""


class EngineSource:
    """The engine of this process, without HTTP."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self.name = name

    async def ask(self, asked: Reply) -> Said:
        request = Request(
            messages=(Message("user", (Part("text", text=asked.text),)),),
            sampling=Sampling(temperature=asked.temperature),
            max_tokens=asked.max_tokens,
            stop=(asked.stop,),
            source="eval",
        )
        completion = await self._engine.complete(request)
        done = completion.done
        return Said(completion.text, done.usage.completion_tokens, done.finish_reason)


class HttpSource:
    """A server. base_url ends in /v1, as OpenAI's clients take it; model "" means the first that it lists."""

    def __init__(self, base_url: str, api_key: str | None = None, model: str = "") -> None:
        self._url = base_url.rstrip("/")
        self._model = model
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.AsyncClient(timeout=ANSWER_S, headers=headers, trust_env=False)

    @property
    def name(self) -> str:
        return f"{self._model} at {self._url}"

    async def open(self) -> None:
        """Find out the model's name. Raises Unavailable or BadRequest."""
        if self._model:
            return
        listed = (await self._send("GET", "/models", None)).get("data")
        if not isinstance(listed, list) or not listed:
            raise BadRequest(f"{self._url}/models lists no model; name one with --model.", param="model")
        self._model = str(listed[0]["id"])

    async def close(self) -> None:
        await self._client.aclose()

    async def ask(self, asked: Reply) -> Said:
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": asked.text}],
            "max_tokens": asked.max_tokens,
            "temperature": asked.temperature,
            "stop": [asked.stop],
        }
        answer = await self._send("POST", "/chat/completions", body)
        try:
            choice = answer["choices"][0]
            tokens = (answer.get("usage") or {}).get("completion_tokens", 0)
            return Said(choice["message"]["content"] or "", int(tokens), str(choice.get("finish_reason")))
        except (KeyError, IndexError, TypeError):
            raise BadRequest(f"{self._url} gave no chat completion: {str(answer)[:200]}") from None

    async def _send(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        """Ask, and ask again a few times where the server says that it is busy."""
        for attempt in range(RETRIES):
            try:
                response = await self._client.request(method, self._url + path, json=body)
            except httpx.TransportError as error:
                raise Unavailable(f"{self._url} cannot be reached ({type(error).__name__}).") from error
            if response.status_code not in BUSY or attempt == RETRIES - 1:
                break
            await asyncio.sleep(_wait_s(response, attempt))
        if response.status_code != 200:
            raise BadRequest(f"{self._url}{path} answered {response.status_code}: {response.text[:300]}")
        try:
            found = response.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise BadRequest(f"{self._url}{path} answered no JSON object: {response.text[:200]}")
        return found


def _wait_s(response: httpx.Response, attempt: int) -> float:
    said = response.headers.get("Retry-After", "")
    return min(float(said), 30.0) if said.isdigit() else 0.5 * 2**attempt
