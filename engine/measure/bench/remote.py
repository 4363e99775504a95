"""Any server with OpenAI's routes as a target of a benchmark, and what this project's own servers tell beside."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
import psutil

from engine.errors import BadRequest, Unavailable
from engine.measure.bench.questions import Question
from engine.measure.bench.samples import Sample, SeenMedia, Stopwatch
from engine.measure.bench.targets import OnFirst, Status

ANSWER_S = 600.0


@dataclass(frozen=True, slots=True)
class Server:
    """What is known of a server beside its URL."""

    name: str = ""
    api_key: str | None = None
    model: str | None = None
    model_path: str = ""
    pid: int | None = None


class HttpTarget:
    """Any server with OpenAI's /v1/chat/completions, streamed. base_url with or without /v1.

    model: what goes into the request; without it the first of /v1/models, else "default". name: in tables; without it
    host and port. model_path and pid: the model's folder and the server's process, where they are known.
    """

    in_process = False

    def __init__(self, base_url: str, server: Server | None = None) -> None:
        server = server or Server()
        self._url = base_url.rstrip("/").removesuffix("/v1")
        self._model = server.model
        self._pid = server.pid
        self.name = server.name or self._url.partition("://")[2]
        self.model_path = server.model_path
        headers = {"Authorization": f"Bearer {server.api_key}"} if server.api_key else {}
        self._client = httpx.AsyncClient(timeout=ANSWER_S, headers=headers, trust_env=False)

    async def ask(self, question: Question, on_first: OnFirst = None) -> Sample:
        if question.fresh:
            raise BadRequest(f"{self.name} runs already: how long it takes to start cannot be measured.")
        if self._model is None:
            self._model = await self._first_model()
        body = http_body(question, self._model)
        watch = Stopwatch(on_first)
        usage: dict[str, Any] = {}
        async for chunk in self._chunks(body):
            usage = chunk.get("usage") or usage
            for choice in chunk.get("choices") or ():
                delta = choice.get("delta") or {}
                if text := delta.get("content") or delta.get("reasoning_content"):
                    watch.note(text)
        if "completion_tokens" not in usage:
            raise BadRequest(f"{self.name} does not report usage, so its tokens cannot be counted.")
        sample = watch.sample(
            self.name, question, int(usage.get("prompt_tokens") or 0), int(usage["completion_tokens"])
        )
        details = usage.get("prompt_tokens_details") or {}
        trace = usage.get("cache") or {}
        return replace(
            sample,
            cached_tokens=details.get("cached_tokens"),
            seen=seen_json(usage.get("media")),
            feature_hits=_feature_hits(usage.get("media")),
            reason=str(trace.get("reason", "")) if isinstance(trace, dict) else "",
            process_bytes=process_bytes(self._pid),
        )

    async def sees(self) -> bool:
        """What this project's /v1/models says of its model; False for servers that say nothing."""
        data = ((await self._get("/v1/models")) or {}).get("data")
        cards = [card for card in data if isinstance(card, dict)] if isinstance(data, list) else []
        return any((card.get("capabilities") or {}).get("vision") is True for card in cards)

    async def _first_model(self) -> str:
        found = await self._get("/v1/models")
        names = [str(entry.get("id")) for entry in (found or {}).get("data") or () if isinstance(entry, dict)]
        return names[0] if names else "default"

    async def _get(self, path: str) -> dict[str, Any] | None:
        """The JSON object at a path, None where there is none."""
        try:
            response = await self._client.get(f"{self._url}{path}")
            found = response.json() if response.status_code == 200 else None
        except (httpx.TransportError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    async def _chunks(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        try:
            async with self._client.stream("POST", f"{self._url}/v1/chat/completions", json=body) as response:
                if response.status_code != 200:
                    said = (await response.aread())[:500].decode(errors="replace")
                    refused = Unavailable if response.status_code == 503 else BadRequest
                    raise refused(f"{self.name} answered {response.status_code}: {said}")
                async for line in response.aiter_lines():
                    if line.startswith("data: {"):
                        chunk = json.loads(line.removeprefix("data: "))
                        if "error" in chunk:
                            raise BadRequest(f"{self.name} stopped with an error: {chunk['error']}")
                        yield chunk
        except httpx.TransportError as error:
            raise Unavailable(f"{self._url} cannot be reached ({type(error).__name__}).") from error

    def glance(self) -> Status:
        # Without its children: to look for them takes milliseconds, twice a second, while an answer is timed.
        return Status(process_bytes=process_bytes(self._pid, children=False))

    async def status(self) -> Status:
        """From this project's /health and /v1/cache/stats; other servers tell nothing."""
        memory = ((await self._get("/health")) or {}).get("memory") or {}
        cache = (await self._get("/v1/cache/stats")) or {}
        held = cache.get("bytes") or {}
        return Status(
            process_bytes=memory.get("process_bytes") or process_bytes(self._pid),
            mlx_active_bytes=memory.get("mlx_active_bytes"),
            mlx_peak_bytes=memory.get("mlx_peak_bytes"),
            mlx_cache_bytes=memory.get("mlx_cache_bytes"),
            kv_bytes=held["kv"] + held.get("snapshots", 0) if "kv" in held else None,
            feature_hits=cache.get("feature_hits"),
        )

    async def predict(self, question: Question) -> tuple[SeenMedia, ...] | None:
        """From this project's /v1/tokenize; other servers' does not say what becomes of media."""
        names = ("model", "messages", "video_fps", "video_max_frames")
        body = {k: v for k, v in http_body(question, self._model or "default").items() if k in names}
        try:
            response = await self._client.post(f"{self._url}/v1/tokenize", json=body)
            found = response.json() if response.status_code == 200 else {}
        except (httpx.TransportError, ValueError):
            return None
        return seen_json(found.get("media")) if isinstance(found, dict) else None

    async def close(self) -> None:
        await self._client.aclose()


def http_body(question: Question, model: str) -> dict[str, Any]:
    """The question as OpenAI's JSON; what is not OpenAI's own is only there when it is needed."""
    content: list[dict[str, Any]] = [
        {"type": f"{medium.kind}_url", f"{medium.kind}_url": {"url": medium.url}} for medium in question.media
    ]
    content.append({"type": "text", "text": question.text})
    messages: list[dict[str, Any]] = [{"role": "system", "content": question.system}] if question.system else []
    # Some servers take text only as a string.
    messages.append({"role": "user", "content": content if question.media else question.text})
    body = {
        "model": model,
        "messages": messages,
        "max_tokens": question.max_tokens,
        "temperature": question.temperature,
        "stream": True,
        "stream_options": {"include_usage": True},
        "seed": question.seed,
        "video_fps": question.fps,
        "video_max_frames": question.max_frames,
        "min_tokens": question.min_tokens or None,
    }
    return {name: value for name, value in body.items() if value is not None}


def _feature_hits(media: Any) -> int:
    """Of the same."""
    entries = media if isinstance(media, list) else []
    return sum((entry.get("features") or {}).get("hits", 0) for entry in entries if isinstance(entry, dict))


def seen_json(media: Any) -> tuple[SeenMedia, ...] | None:
    """usage.media of this project's servers; None where a server has no such thing."""
    if not isinstance(media, list):
        return None
    return tuple(
        SeenMedia(str(m["kind"]), int(m["tokens"]), (int(m["seen"][0]), int(m["seen"][1])), len(m.get("frames") or ()))
        for m in media
    )


def process_bytes(pid: int | None, *, children: bool = True) -> int | None:
    """Resident memory of a process and, if so said, its children; None without one."""
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        family = [process, *(process.children(recursive=True) if children else ())]
        return sum(int(one.memory_info().rss) for one in family)
    except psutil.Error:
        return None
