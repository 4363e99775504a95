"""Events -> OpenAI's JSON of a chat. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass

from engine.api.answering.envelope import Envelope
from engine.api.answering.logprobs import LogprobsWriter
from engine.api.answering.usage import usage_json
from engine.types import (
    CompletedChoice,
    Completion,
    Delta,
    Done,
    FinishReason,
    Json,
    ToolCall,
    ToolCallDelta,
)


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """https://platform.openai.com/docs/api-reference/chat. n: how many choices there will be; logprobs: writes them
    where they were asked for."""

    envelope: Envelope
    n: int = 1
    logprobs: LogprobsWriter | None = None

    def opening(self) -> list[Json]:
        """The chunks before the first text."""
        return [self._chunk(index, {"role": "assistant", "content": ""}) for index in range(self.n)]

    def pieces(self, delta: Delta) -> list[Json]:
        """The chunks of one Delta: its text, and the end of its choice where it is the last of it."""
        out = []
        if delta.text:
            name = "reasoning_content" if delta.channel == "reasoning" else "content"
            out.append(self._chunk(delta.index, {name: delta.text}, logprobs=self._logprobs(delta)))
        if delta.tool_call:
            out.append(self._chunk(delta.index, {"tool_calls": [_call_piece(delta.tool_call)]}))
        if delta.finish_reason:
            out.append(self._chunk(delta.index, {}, delta.finish_reason))
        return out

    def usage(self, done: Done) -> Json:
        """The chunk with usage only, sent if stream_options.include_usage is set."""
        return {**self.envelope.wrap("chat.completion.chunk", []), "usage": usage_json(done, self.envelope.operator)}

    def whole(self, completion: Completion) -> Json:
        """The answer as one object, for a request that is not streamed."""
        choices = [self._whole_choice(index, choice) for index, choice in enumerate(completion.choices)]
        usage = usage_json(completion.done, self.envelope.operator)
        return {**self.envelope.wrap("chat.completion", choices), "usage": usage}

    def _whole_choice(self, index: int, choice: CompletedChoice) -> Json:
        content = choice.text or (None if choice.tool_calls else "")
        message: Json = {"role": "assistant", "content": content, "refusal": None}
        if choice.reasoning:
            message["reasoning_content"] = choice.reasoning
        if choice.tool_calls:
            message["tool_calls"] = [call_json(call) for call in choice.tool_calls]
        logprobs = self._logprobs(Delta(choice.text, tokens=choice.text_tokens, index=index))
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": choice.finish_reason}

    def _logprobs(self, delta: Delta) -> Json | None:
        return self.logprobs.write(delta) if self.logprobs else None

    def _chunk(self, index: int, delta: Json, reason: FinishReason | None = None, logprobs: Json | None = None) -> Json:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return self.envelope.wrap("chat.completion.chunk", [choice])


def arguments_json(text: str) -> Json:
    """The arguments of a call, for protocols that take nothing but an object: {} for what the model wrote wrong."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def call_json(call: ToolCall) -> Json:
    """OpenAI's tool call."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _call_piece(piece: ToolCallDelta) -> Json:
    """id, type and name come with the first piece of a call only."""
    if not piece.id:
        return {"index": piece.index, "function": {"arguments": piece.arguments}}
    return {"index": piece.index, **call_json(ToolCall(piece.id, piece.name, piece.arguments))}
