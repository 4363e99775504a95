"""Events -> Anthropic's JSON and server-sent events. https://docs.claude.com/en/docs/build-with-claude/streaming"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from engine.api.answering.envelope import Envelope
from engine.api.answering.sse import SERVER_SENT, Piece, Wire
from engine.api.answering.usage import own_usage
from engine.api.chat.answers import arguments_json
from engine.errors import EngineError
from engine.types import Delta, Done, FinishReason, Json, Usage

STOP_REASONS: dict[FinishReason, str] = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def error_json(error: Json, status: int) -> Json:
    """Anthropic's error object of OpenAI's, whose param and code it keeps."""
    kind = ERROR_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"type": "error", "error": {**error, "type": kind}}


@dataclass
class MessageStream:
    """An answer as it grows: blocks of thinking, text and calls of tools, one after the other."""

    envelope: Envelope
    blocks: list[Json] = field(default_factory=list)
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: Json = field(default_factory=lambda: usage_json(Usage(0, 0)))
    wire: ClassVar[Wire] = SERVER_SENT
    _open: str = ""
    _arguments: str = ""

    def whole(self) -> Json:
        """The message as far as it has come."""
        return {
            "id": self.envelope.id,
            "type": "message",
            "role": "assistant",
            "model": self.envelope.model,
            "content": self.blocks,
            "stop_reason": self.stop_reason,
            "stop_sequence": self.stop_sequence,
            "usage": self.usage,
        }

    def opening(self) -> Iterator[Piece]:
        yield _named({"type": "message_start", "message": {**self.whole(), "content": []}})

    def waiting(self) -> Iterator[Piece]:
        yield _named({"type": "ping"})

    def pieces(self, delta: Delta) -> Iterator[Piece]:
        self.stop_sequence = delta.stop or None
        call = delta.tool_call
        if call is not None:
            if call.id:
                name = {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}
                yield from self._start(f"tool_use {call.index}", name)
            self._arguments += call.arguments
            if call.arguments:
                yield self._delta({"type": "input_json_delta", "partial_json": call.arguments})
        elif delta.text and delta.channel == "reasoning":
            yield from self._start("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            self.blocks[-1]["thinking"] += delta.text
            yield self._delta({"type": "thinking_delta", "thinking": delta.text})
        elif delta.text:
            yield from self._start("text", {"type": "text", "text": ""})
            self.blocks[-1]["text"] += delta.text
            yield self._delta({"type": "text_delta", "text": delta.text})

    def ending(self, done: Done) -> Iterator[Piece]:
        yield from self._stop()
        self.stop_reason = "stop_sequence" if self.stop_sequence else STOP_REASONS[done.finish_reason]
        self.usage = {**usage_json(done.usage), **own_usage(done, self.envelope.operator)}
        how = {"stop_reason": self.stop_reason, "stop_sequence": self.stop_sequence}
        yield _named({"type": "message_delta", "delta": how, "usage": self.usage})
        yield _named({"type": "message_stop"})

    def failed(self, error: EngineError) -> Iterator[Piece]:
        yield _named(error_json(error.to_openai()["error"], error.status))

    def _start(self, kind: str, block: Json) -> Iterator[Piece]:
        """Begin a block, unless it is the one that is open."""
        if kind == self._open:
            return
        yield from self._stop()
        self._open = kind
        yield _named({"type": "content_block_start", "index": len(self.blocks), "content_block": dict(block)})
        self.blocks.append(block)

    def _stop(self) -> Iterator[Piece]:
        if not self._open:
            return
        if self._open.startswith("tool_use"):
            self.blocks[-1]["input"], self._arguments = arguments_json(self._arguments), ""
        self._open = ""
        yield _named({"type": "content_block_stop", "index": len(self.blocks) - 1})

    def _delta(self, delta: Json) -> Piece:
        return _named({"type": "content_block_delta", "index": len(self.blocks) - 1, "delta": delta})


def usage_json(usage: Usage) -> Json:
    """Anthropic counts apart what was read from the cache: all three input fields together are the prompt."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }


def _named(value: Json) -> Piece:
    return value["type"], value
