"""Who is asked. Every source takes the same Workload and is timed in the same way, by the clock of the reader."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import httpx

from engine.bench.workloads import Workload
from engine.core import Engine
from engine.errors import BadRequest, Unavailable
from engine.types import Delta, Event, Message, Part, Request, Sampling

ANSWER_S = 600.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer. ttft_s: question to first text. decode_s: first text to end. text_sha256 tells equal answers."""

    source: str
    ttft_s: float
    decode_s: float
    prompt_tokens: int
    completion_tokens: int
    text_sha256: str

    @property
    def decode_tps(self) -> float | None:
        """Tokens per second after the first; None where there was no second."""
        if self.completion_tokens < 2 or self.decode_s <= 0:
            return None
        return (self.completion_tokens - 1) / self.decode_s


class Source(Protocol):
    name: str

    async def ask(self, workload: Workload) -> Sample:
        """Ask greedily, read to the end, and time it."""

    async def memory_bytes(self) -> int | None:
        """Peak memory of MLX in the process that answers, if it can be known."""


@dataclass(slots=True)
class Stopwatch:
    """Started with the question; `note` every piece of text."""

    started_s: float = field(default_factory=time.perf_counter)
    first_s: float | None = None
    pieces: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        if self.first_s is None:
            self.first_s = time.perf_counter()
        self.pieces.append(text)

    def sample(self, source: str, prompt_tokens: int, completion_tokens: int) -> Sample:
        ended_s = time.perf_counter()
        first_s = ended_s if self.first_s is None else self.first_s
        digest = hashlib.sha256("".join(self.pieces).encode()).hexdigest()
        return Sample(source, first_s - self.started_s, ended_s - first_s, prompt_tokens, completion_tokens, digest)


class EngineSource:
    """The engine of this process, without HTTP."""

    name = "engine"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def ask(self, workload: Workload) -> Sample:
        image = (Part("image", url=workload.image_url, param="image"),) if workload.image else ()
        message = Message("user", (*image, Part("text", text=workload.text, param="text")))
        request = Request((message,), None, Sampling(temperature=0.0), workload.max_tokens, source="bench")
        watch = Stopwatch()
        async with aclosing(cast(AsyncGenerator[Event, None], self._engine.stream(request))) as events:
            async for event in events:
                if isinstance(event, Delta):
                    watch.note(event.text)
                else:
                    usage = event.usage
        return watch.sample(self.name, usage.prompt_tokens, usage.completion_tokens)

    async def memory_bytes(self) -> int | None:
        return self._engine.snapshot().peak_bytes


class HttpSource:
    """Any server with OpenAI's /v1/chat/completions, streamed. base_url with or without /v1."""

    name = "http"

    def __init__(self, base_url: str, api_key: str | None = None, model: str = "default") -> None:
        self._url = base_url.rstrip("/").removesuffix("/v1")
        self._model = model
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.AsyncClient(timeout=ANSWER_S, headers=headers, trust_env=False)

    async def ask(self, workload: Workload) -> Sample:
        content: list[dict[str, Any]] = [{"type": "text", "text": workload.text}]
        if workload.image_url:
            content.insert(0, {"type": "image_url", "image_url": {"url": workload.image_url}})
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": workload.max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        watch = Stopwatch()
        usage = {"prompt_tokens": 0, "completion_tokens": 0}
        async for chunk in self._chunks(body):
            usage = chunk.get("usage") or usage
            for choice in chunk["choices"]:
                if text := choice["delta"].get("content") or choice["delta"].get("reasoning_content"):
                    watch.note(text)
        return watch.sample(self.name, usage["prompt_tokens"], usage["completion_tokens"])

    async def _chunks(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        try:
            async with self._client.stream("POST", f"{self._url}/v1/chat/completions", json=body) as response:
                if response.status_code != 200:
                    raise BadRequest(f"{self._url} answered {response.status_code}: {(await response.aread())[:500]!r}")
                async for line in response.aiter_lines():
                    if line.startswith("data: {"):
                        chunk = json.loads(line.removeprefix("data: "))
                        if "error" in chunk:
                            raise BadRequest(f"{self._url} stopped with an error: {chunk['error']}")
                        yield chunk
        except httpx.TransportError as error:
            raise Unavailable(f"{self._url} cannot be reached ({type(error).__name__}).") from error

    async def memory_bytes(self) -> int | None:
        """From this project's /health; None for other servers."""
        try:
            health = (await self._client.get(f"{self._url}/health")).json()
        except (httpx.TransportError, ValueError):
            return None
        return health.get("memory", {}).get("mlx_peak_bytes") if isinstance(health, dict) else None
