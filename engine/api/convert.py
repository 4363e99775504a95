"""OpenAI's JSON -> Request. Pure but for looking up paths under --media-root. Raises BadRequest and BadMedia.

Every error names the field by its path in the JSON, e.g. "messages[0].content[1].image_url.url".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.access.visibility import Caller
from engine.api.grammars import read_grammar
from engine.api.messages import read_messages
from engine.api.parts import check_stretch
from engine.api.reasoning import read_reasoning
from engine.api.schemas import (
    MAX_IDS,
    MAX_STOP_CHARS,
    MAX_STOPS,
    ChatRequest,
    GenerationBody,
)
from engine.api.tools import read_choice, read_tools
from engine.config import MediaLimits
from engine.errors import BadRequest
from engine.types import NO_LIMIT, FrameSampling, Request, Sampling

TEMPLATE_OWN = frozenset(
    (
        "self",
        "conversation",
        "messages",
        "tools",
        "documents",
        "chat_template",
        "add_generation_prompt",
        "continue_final_message",
        "tokenize",
        "padding",
        "truncation",
        "max_length",
        "return_tensors",
        "return_dict",
        "return_assistant_tokens_mask",
        "tokenizer_kwargs",
        "processor_kwargs",
        "processor",
        "prompt",
    )
)
"""What transformers takes beside a template's variables: how the prompt is made, and with chat_template, code."""
ANYBODY = Caller()


def chat_request(body: ChatRequest, limits: MediaLimits, request_id: str, who: Caller = ANYBODY) -> Request:
    """The Request of a chat completion."""
    tools = read_tools(body)
    continued = bool(body.continue_final_message)
    if continued and body.add_generation_prompt:
        why = "a message is either continued or followed by a new one, so add_generation_prompt must not be true"
        raise BadRequest(f"continue_final_message: {why}.", param="continue_final_message")
    return Request(
        messages=read_messages(body.messages, limits),
        tools=tools,
        tool_choice=read_choice(body, tools),
        reasoning=read_reasoning(body),
        add_generation_prompt=body.add_generation_prompt is not False,
        continue_final_message=continued,
        logprobs=_logprobs(body),
        **shared_fields(body),
        max_tokens=_max_tokens(body),
        grammar=read_grammar(body),
        frames=_frames(body, limits),
        template_kwargs=_template_kwargs(body.chat_template_kwargs or {}),
        id=request_id,
        tenant=who.tenant(cache_salt(body)),
    )


def shared_fields(body: GenerationBody) -> dict[str, Any]:
    """Fields of the Request of every kind of completion: how the answer is drawn, and which texts and tokens end it."""
    if body.stream_options is not None and not body.stream:
        raise BadRequest("stream_options: only allowed when stream is true.", param="stream_options")
    return {
        "sampling": read_sampling(body),
        "min_tokens": body.min_tokens or 0,
        "ignore_eos": bool(body.ignore_eos),
        "stop": read_texts("stop", (body.stop,) if isinstance(body.stop, str) else body.stop, MAX_STOPS),
        "stop_token_ids": tuple(body.stop_token_ids or ()),
        "bad_words": read_texts("bad_words", body.bad_words, MAX_IDS),
        "n": body.n or 1,
        "coordinates": body.coordinates,
    }


def read_sampling(body: GenerationBody) -> Sampling:
    return Sampling(
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=None if body.top_k is None else max(body.top_k, 0),
        min_p=body.min_p,
        repetition_penalty=body.repetition_penalty,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        logit_bias=tuple(sorted((body.logit_bias or {}).items())),
        seed=body.seed,
    )


def _template_kwargs(given: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    for name in sorted(TEMPLATE_OWN.intersection(given)):
        param = f"chat_template_kwargs.{name}"
        raise BadRequest(f"{param}: this may not be set; only variables of the model's template.", param=param)
    return tuple(sorted(given.items()))


def cache_salt(body: GenerationBody) -> str:
    """vLLM's cache_salt: whoever knows it shares, nobody else."""
    if body.cache_salt == "":
        raise BadRequest("cache_salt: it must not be empty.", param="cache_salt")
    return body.cache_salt or ""


def _max_tokens(body: ChatRequest) -> int | None:
    both = (body.max_tokens, body.max_completion_tokens)
    if None not in both and both[0] != both[1]:
        raise BadRequest(
            "max_tokens and max_completion_tokens are two names of one limit and must not differ.", param="max_tokens"
        )
    name = "max_completion_tokens" if body.max_tokens is None else "max_tokens"
    return read_limit(getattr(body, name), name)


def read_limit(limit: int | None, name: str) -> int | None:
    """The most tokens of an answer, as the field of this name has it."""
    if limit == 0:
        raise BadRequest(f"{name}: it must be at least 1, or {NO_LIMIT} for no limit, got 0.", param=name)
    return limit


def _frames(body: ChatRequest, limits: MediaLimits) -> FrameSampling:
    for name in ("video_max_frames", "video_min_frames"):
        number = getattr(body, name)
        if number is not None and number > limits.max_frames:
            raise BadRequest(f"{name}: at most {limits.max_frames} frames are allowed, got {number}.", param=name)
    check_stretch((body.video_start, body.video_end), (body.video_min_frames, body.video_max_frames), "", "video_")
    return FrameSampling(
        fps=body.video_fps,
        max_frames=body.video_max_frames,
        min_frames=body.video_min_frames,
        start_s=body.video_start,
        end_s=body.video_end,
        max_pixels=body.video_max_pixels,
    )


def _logprobs(body: ChatRequest) -> int | None:
    if body.top_logprobs and not body.logprobs:
        raise BadRequest("top_logprobs: only allowed when logprobs is true.", param="top_logprobs")
    return (body.top_logprobs or 0) if body.logprobs else None


def read_texts(param: str, given: Sequence[str] | None, most: int) -> tuple[str, ...]:
    """A list of texts, none of them empty. param: where they stand."""
    texts = tuple(given or ())
    if len(texts) > most:
        raise BadRequest(f"{param}: at most {most} texts are allowed, got {len(texts)}.", param=param)
    if not all(texts):
        raise BadRequest(f"{param}: a text here must not be empty.", param=param)
    if longest := max((len(text) for text in texts if len(text) > MAX_STOP_CHARS), default=0):
        why = f"a text has {longest} characters; at most {MAX_STOP_CHARS} are allowed"
        raise BadRequest(f"{param}: {why}.", param=param)
    return texts
