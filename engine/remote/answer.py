"""OpenAI's chunks of an answer -> the engine's events. Pure but for the clock.

A chat's chunks, a completion's, and an answer that came whole are read alike.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from typing import Any

from engine.errors import BadGateway
from engine.remote.failures import broken_off, not_understood, said_in_the_middle
from engine.remote.numbers import count, finite
from engine.remote.told import told_coordinates, told_descriptions, told_media, told_trace, told_usage
from engine.remote.vocabulary import RemoteVocabulary
from engine.types import (
    Delta,
    Done,
    FinishReason,
    GeneratedToken,
    Json,
    RemoteServer,
    Request,
    ServedBy,
    Timing,
    ToolCallDelta,
    Usage,
)

_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "cancelled": "cancelled",
}
_BROKEN = ("error", "abort")


class AnswerReader:
    """Reads one answer. model: its name at the server. accepted_s, asked_s: when the request came in here, and when it
    went out, in seconds of time.perf_counter."""

    def __init__(
        self, server: RemoteServer, model: str, request: Request, words: RemoteVocabulary, accepted_s: float
    ) -> None:
        self._server = server
        self._model = model
        self._request = request
        self._words = words
        self._accepted_s = accepted_s
        self._asked_s = time.perf_counter()
        self._first_s: float | None = None
        self._reasons: dict[int, FinishReason | None] = {}
        self._calls: dict[tuple[int, int], bool] = {}
        self._usage: Json = {}
        self._has_ended = False

    @property
    def has_begun(self) -> bool:
        """Whether anything of the answer has come."""
        return self._first_s is not None

    def read(self, chunk: Json | None) -> list[Delta]:
        """What a chunk brings; None is the server's mark of the end. Raises EngineError."""
        if chunk is None:
            self._has_ended = True
            return []
        if chunk.get("error"):
            raise said_in_the_middle(self._server, chunk["error"])
        if isinstance(chunk.get("usage"), dict):
            self._usage = chunk["usage"]
        try:
            deltas = [delta for choice in chunk.get("choices") or () for delta in self._choice(choice)]
        except (LookupError, ArithmeticError, TypeError, ValueError, AttributeError) as error:
            raise not_understood(self._server) from error
        if self._first_s is None and any(delta.text or delta.tool_call for delta in deltas):
            self._first_s = time.perf_counter()
        return deltas

    def done(self) -> Done:
        """The last event, once nothing more comes. Raises BadGateway where the answer was not at its end."""
        is_open = not self._reasons or any(reason is None for reason in self._reasons.values())
        if is_open and not self._has_ended:
            raise broken_off(self._server, "the connection ended before the answer did")
        ended_s = time.perf_counter()
        first_s = self._first_s or ended_s
        usage, sent = told_usage(self._usage), self._request.media_parts
        media, descriptions = told_media(self._usage, sent), told_descriptions(self._usage, sent)
        is_told = bool(media or descriptions)
        by = ServedBy(self._server.host, self._model, usage is not None, tells_media=is_told, num_media=len(sent))
        counted = usage or Usage(0, 0)
        timing = Timing(
            media_ms=(self._asked_s - self._accepted_s) * 1e3,
            prefill_ms=(first_s - self._asked_s) * 1e3,
            ttft_ms=(first_s - self._accepted_s) * 1e3,
            decode_ms=(ended_s - first_s) * 1e3,
            total_ms=(ended_s - self._accepted_s) * 1e3,
            completion_tokens=counted.completion_tokens,
            prompt_tokens=counted.prompt_tokens,
        )
        return Done(
            finish_reason=self._reasons.get(0) or "stop",
            usage=counted,
            timing=timing,
            media=media,
            trace=told_trace(self._usage),
            descriptions=descriptions,
            coordinates=told_coordinates(self._usage),
            served_by=by,
        )

    def _choice(self, choice: Json) -> Iterator[Delta]:
        index = count(choice.get("index") or 0)
        if index not in range(self._request.n):
            raise ValueError(index)
        self._reasons.setdefault(index, None)
        piece: Json = choice.get("delta") or choice.get("message") or {}
        tokens = tuple(self._tokens(choice.get("logprobs")))
        thought = piece.get("reasoning_content") or piece.get("reasoning")
        if thought:
            yield Delta(as_text(thought), "reasoning", index=index)
        text = piece.get("content") or piece.get("refusal") or choice.get("text")
        if text or tokens:
            yield Delta(as_text(text or ""), tokens=tokens, index=index)
        for place, call in enumerate(piece.get("tool_calls") or ()):
            yield Delta("", "tool", index=index, tool_call=self._call(index, place, call))
        if (reason := choice.get("finish_reason")) is not None:
            yield self._end(index, str(reason), choice.get("stop_reason"))

    def _end(self, index: int, reason: str, stop: Any) -> Delta:
        if reason in _BROKEN:
            raise BadGateway(f"{self._server.host} gave the answer up.", code="server_broke_off")
        found = self._reasons[index] = _REASONS.get(reason, "stop")
        stopped = stop if isinstance(stop, str) and stop in self._request.stop else ""
        return Delta("", index=index, finish_reason=found, stop=stopped)

    def _call(self, index: int, place: int, call: Json) -> ToolCallDelta:
        number = self._number(index, place, call)
        function: Json = call.get("function") or {}
        arguments = as_text(function.get("arguments") or "")
        if (index, number) in self._calls:
            return ToolCallDelta(number, arguments=arguments)
        self._calls[index, number] = True
        id = as_text(call.get("id") or f"call_{secrets.token_hex(12)}")
        return ToolCallDelta(number, id, as_text(function.get("name") or ""), arguments)

    def _number(self, index: int, place: int, call: Json) -> int:
        """Which call of its choice a piece belongs to. Some servers do not say: then an id begins the next one."""
        if call.get("index") is not None:
            return count(call["index"])
        known = [number for choice, number in self._calls if choice == index]
        return len(known) if call.get("id") or not known else max(known[-1], place)

    def _tokens(self, logprobs: Any) -> Iterator[GeneratedToken]:
        """Where the request asked for them and the server tells them."""
        if not isinstance(logprobs, dict) or self._request.logprobs is None:
            return
        for token in logprobs.get("content") or ():
            top = tuple(self._token(one) for one in token.get("top_logprobs") or ())
            yield GeneratedToken(*self._token(token), top)
        tops = logprobs.get("top_logprobs") or ()
        for place, text in enumerate(logprobs.get("tokens") or ()):  # of a completion
            likeliest: Json = (tops[place] if place < len(tops) else None) or {}
            ranked = sorted(likeliest.items(), key=lambda one: -finite(one[1]))
            logprob = logprobs["token_logprobs"][place]
            yield GeneratedToken(
                self._words.id_of(as_text(text)),
                None if logprob is None else finite(logprob),
                tuple((self._words.id_of(as_text(other)), finite(value)) for other, value in ranked),
            )

    def _token(self, told: Json) -> tuple[int, float]:
        return self._words.id_of(as_text(told["token"]), told.get("bytes", ...)), finite(told["logprob"])


def as_text(value: Any) -> str:
    """Raises TypeError for what is no text."""
    if not isinstance(value, str):
        raise TypeError(value)
    return value
