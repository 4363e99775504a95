"""What LLM gives back, in vLLM's words (https://docs.vllm.ai/en/latest/api/vllm/outputs.html), and what it does not
have: receipts of the media, and why the cache was or was not used."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from engine.types import (
    CacheTrace,
    CompletedChoice,
    Completion,
    GeneratedToken,
    MediaReceipt,
    Request,
    Timing,
    TokenText,
    ToolCall,
)

TextOf = Callable[[int], TokenText]


@dataclass(frozen=True, slots=True)
class Logprob:
    """Of one token at one place. rank: 1 is the likeliest; None for a token that is not among those asked for."""

    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclass(frozen=True, slots=True)
class CompletionOutput:
    """One answer. text: without special tokens, and without what the model thought, which is `reasoning`. token_ids:
    all of it, a stop token included. logprobs: for each token, by token id, the token itself and the likeliest ones.
    stop_reason: the text that ended it, None for another end."""

    index: int
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    logprobs: list[dict[int, Logprob]] | None = None
    cumulative_logprob: float | None = None
    stop_reason: str | None = None
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestMetrics:
    """Seconds; times are since 1970. timing has each stage in milliseconds.

    >>> metrics = RequestMetrics.of(Timing(queue_ms=10, ttft_ms=250, total_ms=1000), finished_time=100.0)
    >>> metrics.arrival_time, metrics.first_token_time, metrics.time_in_queue
    (99.0, 99.25, 0.01)
    """

    arrival_time: float
    first_token_time: float
    last_token_time: float
    finished_time: float
    time_in_queue: float
    timing: Timing

    @classmethod
    def of(cls, timing: Timing, finished_time: float) -> RequestMetrics:
        arrival = finished_time - timing.total_ms / 1e3
        return cls(
            arrival_time=arrival,
            first_token_time=arrival + timing.ttft_ms / 1e3,
            last_token_time=finished_time,
            finished_time=finished_time,
            time_in_queue=timing.queue_ms / 1e3,
            timing=timing,
        )


@dataclass(frozen=True, slots=True)
class RequestOutput:
    """A prompt and its answers. prompt: the text as given; None for token ids and for a chat. media: the receipt of
    each medium. num_cached_tokens: prompt tokens that were not computed again; trace says why not more."""

    request_id: str
    prompt: str | None
    prompt_token_ids: tuple[int, ...]
    outputs: list[CompletionOutput]
    metrics: RequestMetrics
    num_cached_tokens: int = 0
    prompt_logprobs: list[dict[int, Logprob] | None] | None = None
    media: tuple[MediaReceipt, ...] = ()
    trace: CacheTrace | None = None
    finished: bool = field(default=True)

    @classmethod
    def of(cls, request: Request, number: int, completion: Completion, text_of: TextOf) -> RequestOutput:
        """text_of: what a token id of the model stands for."""
        done = completion.done
        with_logprobs = request.logprobs is not None
        prompt = completion.prompt if request.prompt_logprobs is not None else None
        return cls(
            request_id=str(number),
            prompt=request.prompt if isinstance(request.prompt, str) else None,
            prompt_token_ids=done.prompt_ids,
            outputs=[_output(i, choice, with_logprobs, text_of) for i, choice in enumerate(completion.choices)],
            metrics=RequestMetrics.of(done.timing, time.time()),
            num_cached_tokens=done.usage.cached_tokens,
            prompt_logprobs=None if prompt is None else [_logprobs(token, text_of) or None for token in prompt],
            media=done.media,
            trace=done.trace,
        )


def _output(index: int, choice: CompletedChoice, with_logprobs: bool, text_of: TextOf) -> CompletionOutput:
    return CompletionOutput(
        index=index,
        text=choice.text,
        token_ids=choice.token_ids,
        finish_reason=choice.finish_reason,
        logprobs=[_logprobs(token, text_of) for token in choice.tokens] if with_logprobs else None,
        cumulative_logprob=_sum(choice.tokens) if with_logprobs else None,
        stop_reason=choice.stop or None,
        reasoning=choice.reasoning,
        tool_calls=choice.tool_calls,
    )


def _sum(tokens: Sequence[GeneratedToken]) -> float:
    return sum(token.logprob for token in tokens if token.logprob is not None)


def _logprobs(token: GeneratedToken, text_of: TextOf) -> dict[int, Logprob]:
    """The likeliest first, then the token itself where it is not among them; {} for one without a log-probability."""
    if token.logprob is None:
        return {}
    likeliest = {id: Logprob(value, rank, text_of(id).text) for rank, (id, value) in enumerate(token.top, 1)}
    return {**likeliest, token.id: likeliest.get(token.id) or Logprob(token.logprob, None, text_of(token.id).text)}
