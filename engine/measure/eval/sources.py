"""What answers the questions: an Engine in this process, or any server with OpenAI's /v1/chat/completions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from engine.core import Engine
from engine.errors import BadRequest
from engine.measure.openai_client import OpenAIClient
from engine.types import Message, Part, Request, Sampling


@dataclass(frozen=True, slots=True)
class EvalPrompt:
    """One prompt, as a user's message. temperature 0 is greedy."""

    text: str
    max_tokens: int
    temperature: float
    stop: str


@dataclass(frozen=True, slots=True)
class EvalReply:
    """One answer. finish_reason "length": it was cut off at max_tokens."""

    text: str
    completion_tokens: int
    finish_reason: str


class Source(Protocol):
    @property
    def name(self) -> str:
        """The model and where it runs, as written to the results."""

    async def ask(self, prompt: EvalPrompt) -> EvalReply:
        """The whole answer. Raises Unavailable when the source is gone, else EngineError when it refuses the prompt."""


class EngineSource:
    """The engine of this process, without HTTP."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self.name = name

    async def ask(self, prompt: EvalPrompt) -> EvalReply:
        request = Request(
            messages=(Message("user", (Part("text", text=prompt.text),)),),
            sampling=Sampling(temperature=prompt.temperature),
            max_tokens=prompt.max_tokens,
            stop=(prompt.stop,),
            source="eval",
        )
        completion = await self._engine.complete(request)
        done = completion.done
        return EvalReply(completion.text, done.usage.completion_tokens, done.finish_reason)


class HttpSource:
    """A server. base_url ends in /v1, as OpenAI's clients take it. model: "" for the first that the server lists."""

    def __init__(self, base_url: str, api_key: str | None = None, model: str = "") -> None:
        self._client = OpenAIClient(base_url, api_key)
        self._model = model

    @property
    def name(self) -> str:
        return f"{self._model} at {self._client.base_url}"

    async def open(self) -> None:
        """Look up the model's name. Raises Unavailable or BadRequest."""
        if self._model:
            return
        models = (await self._client.request("GET", "/models")).get("data")
        if not isinstance(models, list) or not models:
            raise BadRequest(f"{self._client.base_url}/models lists no model; name one with --model.", param="model")
        self._model = str(models[0]["id"])

    async def close(self) -> None:
        await self._client.close()

    async def ask(self, prompt: EvalPrompt) -> EvalReply:
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": prompt.text}],
            "max_tokens": prompt.max_tokens,
            "temperature": prompt.temperature,
            "stop": [prompt.stop],
        }
        answer = await self._client.request("POST", "/chat/completions", body)
        try:
            choice = answer["choices"][0]
            tokens = (answer.get("usage") or {}).get("completion_tokens", 0)
            return EvalReply(choice["message"]["content"] or "", int(tokens), str(choice.get("finish_reason")))
        except (KeyError, IndexError, TypeError):
            raise BadRequest(f"{self._client.base_url} gave no chat completion: {str(answer)[:200]}") from None
