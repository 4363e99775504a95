"""POST /v1/completions -> one Request for each prompt. Pure. Raises BadRequest."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from engine.access.visibility import Caller
from engine.api.bodies.generation import cache_salt, read_limit, shared_fields
from engine.api.bodies.grammars import read_grammar
from engine.api.completions.schemas import TextRequest
from engine.errors import BadRequest
from engine.types import Request

MAX_PROMPTS = 1024
Prompts = str | list[str] | list[int] | list[list[int]]


def text_requests(body: TextRequest, request_id: str, who: Caller) -> list[Request]:
    """The Requests of a text completion, in the order of its prompts."""
    n = body.n or 1
    if body.best_of not in (None, n):
        why = "answers are not ranked, so it must be n or left out"
        raise BadRequest(f"best_of: {why}.", param="best_of", code="unsupported_parameter")
    is_read_only = body.echo and body.max_tokens == 0
    shared = Request(
        **shared_fields(body),
        max_tokens=0 if is_read_only else read_limit(body.max_tokens, "max_tokens"),
        grammar=read_grammar(body),
        logprobs=body.logprobs,
        add_special_tokens=body.add_special_tokens is not False,
        prompt_logprobs=_prompt_logprobs(body),
        id=request_id,
        tenant=who.tenant(cache_salt(body)),
    )
    prompts = read_prompts(body.prompt)
    if len(prompts) == 1:
        return [replace(shared, prompt=prompts[0])]
    return [replace(shared, prompt=prompt, id=f"{request_id}-{i}") for i, prompt in enumerate(prompts)]


def read_prompts(prompt: Prompts) -> list[str | tuple[int, ...]]:
    """Each prompt as its text, or its token ids."""
    prompts = listed(prompt, "prompt")
    if len(prompts) > MAX_PROMPTS:
        raise BadRequest(f"prompt: at most {MAX_PROMPTS} prompts are allowed, got {len(prompts)}.", param="prompt")
    return prompts


def listed(texts: Prompts, param: str) -> list[str | tuple[int, ...]]:
    """Each of the texts, or one, as its text or its token ids. Raises BadRequest for an empty one."""
    if not texts or isinstance(texts, str) or isinstance(texts[0], int):
        return [_one(cast(str | list[int], texts), param)]
    return [_one(one, f"{param}[{i}]") for i, one in enumerate(cast(list[str | list[int]], texts))]


def _one(text: str | list[int], param: str) -> str | tuple[int, ...]:
    if not text:
        raise BadRequest(f"{param}: it must not be empty.", param=param)
    return text if isinstance(text, str) else tuple(text)


def _prompt_logprobs(body: TextRequest) -> int | None:
    """Those of the prompt, where it is echoed. What only computes a prompt asks for them in any case: it is how a
    request without an answer is told."""
    if body.echo and body.max_tokens == 0:
        return body.logprobs or 0
    return body.logprobs if body.echo else None
