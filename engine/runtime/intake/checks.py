"""What can be said about a request before anything is fetched or computed. Pure; any thread."""

from __future__ import annotations

from collections.abc import Iterator

from engine.config import MediaLimits, ModelSpec
from engine.errors import BadRequest
from engine.grounding.coordinates import check_coordinates
from engine.types import NO_LIMIT, SAMPLING_RANGES, ModelCard, Request, Sampling

LONG_CHARS = 32 * 1024
"""Tokenized in some 30 ms, which is about one decode step."""


def check_numbers(request: Request) -> None:
    """Raise BadRequest for a number out of range, whatever the model."""
    _check_sampling(request.sampling)
    _check_length(request)
    if request.n < 1:
        raise BadRequest(f"n must be at least 1, not {request.n}.", param="n")
    if request.logprobs is not None and request.logprobs < 0:
        raise BadRequest(f"logprobs must be at least 0, not {request.logprobs}.", param="logprobs")


def check(request: Request, card: ModelCard, limits: MediaLimits) -> None:
    """Raise BadRequest for a number out of range, a medium this model cannot take, or more media than it may carry."""
    check_numbers(request)
    check_coordinates(request, card.model_type)
    # What a document becomes is not known before it is opened; then this is asked again.
    takes = {"document": True, "image": card.vision, "video": card.video, "audio": card.audio}
    count = {"document": 0, "image": 0, "video": 0, "audio": 0}
    for part in request.media_parts:
        if not takes[part.kind]:
            why = f": {card.why_deaf}" if part.kind == "audio" and card.why_deaf else ""
            what = f"{part.param}: {card.id} cannot take {part.kind} input{why}."
            raise BadRequest(what, param=part.param, code="unsupported_media")
        count[part.kind] += 1
    most = {
        "image": (card.images_per_prompt, limits.max_images),
        "video": (limits.max_videos,),
        "audio": (card.audios_per_prompt, limits.max_audios),
    }
    for kind, both in most.items():
        limit = min((n for n in both if n is not None), default=None)
        if limit is not None and count[kind] > limit:
            sent = f"{count[kind]} {kind}s were" if count[kind] > 1 else f"1 {kind} was"
            raise BadRequest(f"{sent} sent; the limit is {limit} per prompt.", param="messages")


def check_vision_mode(request: Request, spec: ModelSpec, *, describes: bool = False) -> None:
    """Raise BadRequest for media that the settings of this model keep from it. describes: where another model that sees
    may describe them to it."""
    parts = request.media_parts
    describes = describes and request.prompt is None
    if spec.vision == "native" or not parts or (describes and spec.vision == "proxy"):
        return
    why = "this server keeps media from this model (vision_mode: disabled)"
    if spec.vision == "proxy":
        why = "another model describes media to it (vision_mode: proxy), which is done only for answers to chats"
    param = parts[0].param
    raise BadRequest(f"{param}: {spec.served_name}: {why}.", param=param, code="unsupported_media")


def is_long_text(request: Request) -> bool:
    """Whether this is a request without media whose text would hold up the engine's thread while it is tokenized."""
    if request.media_parts:
        return False
    num_chars = sum(len(text) for text in _texts(request))
    return num_chars + len(request.prompt or ()) > LONG_CHARS


def _texts(request: Request) -> Iterator[str]:
    for message in request.messages:
        yield message.reasoning
        yield from (part.text for part in message.parts)
        yield from (call.arguments for call in message.tool_calls)
    yield from (str(tool.parameters) + tool.description for tool in request.tools)


def _check_length(request: Request) -> None:
    limit = None if request.max_tokens == NO_LIMIT else request.max_tokens
    least = 1 if request.prompt_logprobs is None else 0
    if limit is not None and limit < least:
        raise BadRequest(f"max_tokens must be at least {least}, not {limit}.", param="max_tokens")
    if request.min_tokens < 0 or (limit is not None and request.min_tokens > limit):
        raise BadRequest(f"min_tokens must be between 0 and max_tokens, not {request.min_tokens}.", param="min_tokens")
    if request.ignore_eos and request.grammar is not None:
        raise BadRequest(
            f"ignore_eos: an answer to a {request.grammar.param} ends where that ends.", param="ignore_eos"
        )


def _check_sampling(sampling: Sampling) -> None:
    for name, (low, high) in SAMPLING_RANGES.items():
        value = getattr(sampling, name)
        if value is not None and not low <= value <= high:
            raise BadRequest(f"{name} must be between {low:g} and {high:g}, not {value:g}.", param=name)
