"""OpenAI's JSON -> Request. Pure but for looking up paths under --media-root. Raises BadRequest and BadMedia.

Every error names the field by its path in the JSON, e.g. "messages[0].content[1].image_url.url".
"""

from __future__ import annotations

from typing import Any

from engine.access.visibility import Caller
from engine.api.bodies.generation import (
    cache_salt,
    read_limit,
    shared_fields,
)
from engine.api.bodies.grammars import read_grammar
from engine.api.bodies.parts import check_stretch
from engine.api.bodies.reasoning import read_reasoning
from engine.api.bodies.tools import read_choice, read_tools
from engine.api.chat.messages import read_messages
from engine.api.chat.schemas import ChatRequest
from engine.config import MediaLimits
from engine.errors import BadRequest
from engine.types import FrameSampling, Request

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


def _template_kwargs(given: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    for name in sorted(TEMPLATE_OWN.intersection(given)):
        param = f"chat_template_kwargs.{name}"
        raise BadRequest(f"{param}: this may not be set; only variables of the model's template.", param=param)
    return tuple(sorted(given.items()))


def _max_tokens(body: ChatRequest) -> int | None:
    both = (body.max_tokens, body.max_completion_tokens)
    if None not in both and both[0] != both[1]:
        raise BadRequest(
            "max_tokens and max_completion_tokens are two names of one limit and must not differ.", param="max_tokens"
        )
    name = "max_completion_tokens" if body.max_tokens is None else "max_tokens"
    return read_limit(getattr(body, name), name)


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
