"""Any server with OpenAI's routes as a target of a benchmark. This project's own servers report more: see `status`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psutil

from engine.errors import BadRequest
from engine.measure.bench.questions import Medium, Question
from engine.measure.bench.samples import Sample, SeenMedia, Stopwatch
from engine.measure.bench.targets import OnFirst, Status
from engine.measure.openai_client import OpenAIClient, encoded
from engine.prompt.questions import YES_OR_NO_ONLY
from engine.remote.numbers import is_count
from engine.types import Json

LOOPED = 5
"""Questions that a server without /v1/decisions is asked to find what many take."""

WHOLE: Json = {"stream": False, "stream_options": None}


@dataclass(frozen=True, slots=True)
class Server:
    """What is known of a server besides its URL.

    name: in tables; "" for host and port. model: in requests; None for the first of /v1/models, or "default" without
    that route. model_path and pid: the model's folder and the server's process, where they are known.
    """

    name: str = ""
    api_key: str | None = None
    model: str | None = None
    model_path: str = ""
    pid: int | None = None


class HttpTarget:
    """Any server with OpenAI's /v1/chat/completions, streamed. base_url: with or without /v1."""

    in_process = False

    def __init__(self, base_url: str, server: Server | None = None) -> None:
        server = server or Server()
        url = base_url.rstrip("/").removesuffix("/v1")
        self._client = OpenAIClient(url, server.api_key)
        self._model = server.model
        self._pid = server.pid
        self.name = server.name or url.partition("://")[2]
        self.model_path = server.model_path

    async def ask(self, question: Question, on_first: OnFirst = None) -> Sample:
        if question.fresh:
            raise BadRequest(f"{self.name} runs already: how long it takes to start cannot be measured.")
        if self._model is None:
            self._model = await self._first_model()
        if question.predicates:
            return await self._decide(question, Stopwatch(on_first))
        body = encoded(http_body(question, self._model))
        watch = Stopwatch(on_first)
        usage: Json = {}
        with self._reads():
            async for chunk in self._client.stream("/v1/chat/completions", body):
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
            details, own = (_object(usage.get(f"{kind}_tokens_details")) for kind in ("prompt", "completion"))
            return replace(
                sample,
                cached_tokens=_count(details, "cached_tokens"),
                accepted_tokens=_count(own, "accepted_prediction_tokens") or 0,
                seen=seen_json(usage.get("media")),
                feature_hits=_feature_hits(usage.get("media")),
                reason=str(_object(usage.get("cache")).get("reason", "")),
                process_bytes=process_bytes(self._pid),
            )

    async def _decide(self, question: Question, watch: Stopwatch) -> Sample:
        """All at once from this project's servers; from others one after the other, a few of them: the rest is taken to
        cost as much."""
        model = self._model or "default"
        found = await self._client.optional("POST", "/v1/decisions", decisions_body(question, model))
        usage, num_asked = _object(found.get("usage")), len(question.predicates)
        if not found:
            num_asked = min(num_asked, LOOPED)
            for text in question.predicates[:num_asked]:
                alone = replace(question, text=text + YES_OR_NO_ONLY, predicates=())
                await self._client.request("POST", "/v1/chat/completions", http_body(alone, model) | WHOLE)
        watch.note("")
        with self._reads():
            sample = watch.sample(self.name, question, int(usage.get("input_tokens") or 0), 0)
            cached = _count(_object(usage.get("input_tokens_details")), "cached_tokens")
            times = (1 if question.each else len(question.predicates)) / num_asked
            return replace(
                sample,
                ttft_s=sample.ttft_s * times,
                e2e_s=sample.e2e_s * times,
                cached_tokens=cached,
                seen=seen_json(usage.get("media")),
                process_bytes=process_bytes(self._pid),
            )

    @contextmanager
    def _reads(self) -> Iterator[None]:
        """Around the reading of an answer: one of another shape is an error of that server. Raises BadRequest."""
        try:
            yield
        except (LookupError, ArithmeticError, TypeError, ValueError, AttributeError) as error:
            raise BadRequest(f"{self.name} answered in another form than that of OpenAI's routes.") from error

    async def has_vision(self) -> bool:
        """Whether its /v1/models says so, as this project's servers do; False for servers that say nothing."""
        return any(_object(card.get("capabilities")).get("vision") is True for card in await self._cards())

    async def context(self) -> int | None:
        """Tokens of its model's context, where /v1/models says so, as vLLM and this project's servers do."""
        found = [card.get("max_model_len") for card in await self._cards()]
        return found[0] if found and isinstance(found[0], int) else None

    async def _first_model(self) -> str:
        names = [str(card.get("id")) for card in await self._cards()]
        return names[0] if names else "default"

    async def _cards(self) -> list[Json]:
        """The objects of /v1/models."""
        data = (await self._client.optional("GET", "/v1/models")).get("data")
        return [card for card in data if isinstance(card, dict)] if isinstance(data, list) else []

    def status_nowait(self) -> Status:
        # Without its children: listing them takes milliseconds, twice a second, while answers are timed.
        return Status(process_bytes=process_bytes(self._pid, children=False))

    async def status(self) -> Status:
        """From this project's /health and /v1/cache/stats; other servers have neither."""
        memory = _object((await self._client.optional("GET", "/health")).get("memory"))
        cache = await self._client.optional("GET", "/v1/cache/stats")
        sizes = _object(cache.get("bytes"))
        return Status(
            process_bytes=_count(memory, "process_bytes") or process_bytes(self._pid),
            mlx_active_bytes=_count(memory, "mlx_active_bytes"),
            mlx_peak_bytes=_count(memory, "mlx_peak_bytes"),
            mlx_cache_bytes=_count(memory, "mlx_cache_bytes"),
            kv_bytes=None if (kv := _count(sizes, "kv")) is None else kv + (_count(sizes, "snapshots") or 0),
            feature_hits=_count(cache, "feature_hits"),
        )

    async def predict(self, question: Question) -> tuple[SeenMedia, ...] | None:
        """From this project's /v1/tokenize; other servers' does not report media."""
        names = ("model", "messages", "video_fps", "video_max_frames")
        body = {k: v for k, v in http_body(question, self._model or "default").items() if k in names}
        told = await self._client.optional("POST", "/v1/tokenize", body)
        with self._reads():
            return seen_json(told.get("media"))

    async def close(self) -> None:
        await self._client.close()


def decisions_body(question: Question, model: str) -> Json:
    """The question's predicates as /v1/decisions takes them."""
    content = _media_parts(question.media)
    asked = [{"type": "predicate", "instructions": text} for text in question.predicates]
    return {"model": model, "input": [{"role": "user", "content": content}], "questions": asked}


def http_body(question: Question, model: str) -> Json:
    """The question as OpenAI's JSON. Fields that are not OpenAI's are left out where they are not set."""
    messages: list[Json] = [{"role": "system", "content": question.system}] if question.system else []
    for turn in question.earlier:
        messages += [_asked(turn.media, turn.text), {"role": "assistant", "content": turn.answer}]
    messages.append(_asked(question.media, question.text))
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
        "ignore_eos": question.ignore_end or None,
        "structured_outputs": {"json": json.loads(question.schema)} if question.schema else None,
        "n": question.n if question.n > 1 else None,
    }
    return {name: value for name, value in body.items() if value is not None}


def _asked(media: Sequence[Medium], text: str) -> Json:
    """A user's message. Some servers take text only as a string."""
    if not media:
        return {"role": "user", "content": text}
    return {"role": "user", "content": [*_media_parts(media), {"type": "text", "text": text}]}


def _media_parts(media: Sequence[Medium]) -> list[Json]:
    parts: list[Json] = []
    for medium in media:
        where: Json = {"url": medium.url} | ({"max_pixels": medium.max_pixels} if medium.max_pixels else {})
        parts.append({"type": f"{medium.kind}_url", f"{medium.kind}_url": where})
    return parts


def _object(value: Any) -> Json:
    """{} for what is none: other servers have routes of the same names."""
    return value if isinstance(value, dict) else {}


def _count(told: Json, name: str) -> int | None:
    value = told.get(name)
    return value if is_count(value) else None


def _feature_hits(media: Any) -> int:
    """Vision encoder runs avoided, from usage.media of this project's servers; 0 where a server has no such thing."""
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
    """Resident memory of a process and, unless children is False, its children. Returns None for no such process."""
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        family = [process, *(process.children(recursive=True) if children else ())]
        return sum(int(member.memory_info().rss) for member in family)
    except psutil.Error:
        return None
