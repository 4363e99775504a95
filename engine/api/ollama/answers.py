"""Events -> Ollama's JSON: one object a line while it streams, or one object for all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import ClassVar, Literal

from engine.api.answering.envelope import Envelope
from engine.api.answering.sse import JSON_LINES, Piece, Wire
from engine.api.chat.answers import arguments_json
from engine.errors import EngineError
from engine.types import Delta, Done, Json, ToolCallDelta

NS_PER_MS = 1_000_000


def error_json(error: Json, status: int) -> Json:
    """Ollama's error object of OpenAI's, whose param and code stand beside it."""
    return {"error": error["message"], "param": error["param"], "code": error["code"]}


def time_json(seconds: float) -> str:
    """Seconds since 1970 as Ollama writes times."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


@dataclass
class OllamaStream:
    """An answer as it grows. kind: a message of /api/chat, or the text of /api/generate."""

    envelope: Envelope
    kind: Literal["chat", "generate"]
    wire: ClassVar[Wire] = JSON_LINES
    _text: str = ""
    _thinking: str = ""
    _calls: list[Json] = field(default_factory=list)
    _call: ToolCallDelta | None = None
    _last: Json = field(default_factory=dict)

    def whole(self) -> Json:
        """The answer in one object."""
        return {**self._object(self._text, self._thinking, self._calls), **self._last}

    def opening(self) -> Iterator[Piece]:
        yield from ()

    def waiting(self) -> Iterator[Piece]:
        yield _piece(self._object())

    def pieces(self, delta: Delta) -> Iterator[Piece]:
        if delta.tool_call is not None:
            yield from self._grow_call(delta.tool_call)
        elif delta.text and delta.channel == "reasoning":
            self._thinking += delta.text
            yield _piece(self._object(thinking=delta.text))
        elif delta.text:
            self._text += delta.text
            yield _piece(self._object(delta.text))

    def ending(self, done: Done) -> Iterator[Piece]:
        yield from self._end_call()
        usage, timing = done.usage, done.timing
        self._last = {
            "done": True,
            "done_reason": "length" if done.finish_reason == "length" else "stop",
            "total_duration": round(timing.total_ms * NS_PER_MS),
            "load_duration": 0,
            "prompt_eval_count": usage.prompt_tokens,
            "prompt_eval_duration": round(timing.prefill_ms * NS_PER_MS),
            "eval_count": usage.completion_tokens,
            "eval_duration": round(timing.decode_ms * NS_PER_MS),
            "cached_tokens": usage.cached_tokens,
        }
        yield _piece({**self._object(), **self._last})

    def failed(self, error: EngineError) -> Iterator[Piece]:
        yield _piece(error_json(error.to_openai()["error"], error.status))

    def changed(self, what: Literal["load", "unload"]) -> Json:
        """The answer to a request without a question: the model is there, or no longer."""
        return {**self._object(), "done": True, "done_reason": what}

    def _grow_call(self, piece: ToolCallDelta) -> Iterator[Piece]:
        """Ollama sends a call once it is whole."""
        if piece.id:
            yield from self._end_call()
        call = piece if self._call is None else self._call
        self._call = call if call is piece else replace(call, arguments=call.arguments + piece.arguments)

    def _end_call(self) -> Iterator[Piece]:
        call, self._call = self._call, None
        if call is None:
            return
        index, arguments = len(self._calls), arguments_json(call.arguments)
        self._calls.append({"id": call.id, "function": {"index": index, "name": call.name, "arguments": arguments}})
        yield _piece(self._object(calls=self._calls[-1:]))

    def _object(self, text: str = "", thinking: str = "", calls: list[Json] | None = None) -> Json:
        head: Json = {"model": self.envelope.model, "created_at": time_json(self.envelope.created)}
        if self.kind == "generate":
            return {**head, "response": text, **({"thinking": thinking} if thinking else {}), "done": False}
        message: Json = {"role": "assistant", "content": text}
        if thinking:
            message["thinking"] = thinking
        if calls:
            message["tool_calls"] = calls
        return {**head, "message": message, "done": False}


def _piece(value: Json) -> Piece:
    return "", value
