"""Events -> OpenAI's JSON. Pure. Of chats, and what other answers share."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

from engine.api.logprobs import LogprobsWriter
from engine.types import (
    CacheTrace,
    CompletedChoice,
    Completion,
    Delta,
    Description,
    Done,
    FinishReason,
    Json,
    MediaReceipt,
    Preflight,
    TokenText,
    ToolCall,
    ToolCallDelta,
)


@dataclass(frozen=True, slots=True)
class Envelope:
    """The fields that all objects of one answer have. created: in seconds since 1970.

    operator: whether the reader may see what others sent, see trace_json.
    """

    id: str
    created: int
    model: str
    fingerprint: str
    operator: bool = True

    def wrap(self, kind: str, choices: list[Json]) -> Json:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        }


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


def usage_json(done: Done, operator: bool = True) -> Json:
    """OpenAI's usage, with what is this server's own."""
    usage = done.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "accepted_prediction_tokens": usage.accepted_prediction_tokens,
            "rejected_prediction_tokens": usage.rejected_prediction_tokens,
        },
        **own_usage(done, operator),
    }


def own_usage(done: Done, operator: bool) -> Json:
    """What only this server says in usage, in every protocol: a receipt for each medium, in the order sent, or what
    another model said about it, and what the cache did. operator: see trace_json."""
    return {
        "media": [receipt_json(receipt) for receipt in done.media],
        "descriptions": [description_json(one) for one in done.descriptions],
        "cache": trace_json(done.trace, operator) if done.trace else None,
        "coordinates": asdict(done.coordinates) if done.coordinates else None,
    }


def description_json(one: Description) -> Json:
    """What another model said about one medium. Its tokens and seconds are not in the rest of the usage."""
    return {**asdict(one), "seconds": round(one.seconds, 3)}


def trace_json(trace: CacheTrace, operator: bool = True) -> Json:
    """How much of the prompt was reused, and why not more.

    `other` is text from another prompt. Visitors do not get it: they could read somebody's prompt word by word.
    """
    fields = asdict(trace)
    return fields if operator else {**fields, "other": ""}


def preflight_json(preflight: Preflight, token_text: Callable[[int], TokenText] | None = None) -> Json:
    """vLLM's answer to /tokenize; left, cached_tokens, ttft_ms and media are this server's own.

    token_text: what a token id stands for, where the client wants to read them.
    """
    texts = [token_text(id).text for id in preflight.tokens] if token_text else None
    return {
        "count": len(preflight.tokens),
        "max_model_len": preflight.context_tokens,
        "tokens": list(preflight.tokens),
        "token_strs": texts,
        "left": preflight.left,
        "cached_tokens": preflight.cached_tokens,
        "ttft_ms": None if preflight.ttft_ms is None else round(preflight.ttft_ms, 3),
        "media": [receipt_json(receipt) for receipt in preflight.media],
    }


def receipt_json(receipt: MediaReceipt) -> Json:
    """What happened to one medium. Sizes are [width, height] in pixels, times and duration in seconds."""
    return {
        "kind": receipt.kind,
        "param": receipt.param,
        "bytes": receipt.num_bytes,
        "decoded": list(receipt.decoded_px),
        "seen": list(receipt.seen_px),
        "tokens": receipt.tokens,
        "sha256": receipt.sha256,
        "frames": [{"index": index, "time": time_s} for index, time_s in receipt.frames],
        "duration": round(receipt.duration_s, 3),
        "fetch_ms": round(receipt.fetch_ms, 3),
        "decode_ms": round(receipt.decode_ms, 3),
        "resize_ms": round(receipt.resize_ms, 3),
        "encode_ms": round(receipt.encode_ms, 3),
        "features": asdict(receipt.features) if receipt.features else None,
        "notes": list(receipt.notes),
        "crop": crop_json(receipt),
        "boxes": [region.as_json() for region in receipt.regions],
    }


def crop_json(receipt: MediaReceipt) -> Json | None:
    """Which part of a picture went in, [x, y, width, height], of how large a whole; None for a whole picture."""
    if receipt.crop is None:
        return None
    return {"part": [receipt.crop.x, receipt.crop.y, *receipt.decoded_px], "of": list(receipt.crop.of_px)}
