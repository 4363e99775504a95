"""Prompts without media: a rendered chat, or a raw prompt, as token ids. No MLX."""

from __future__ import annotations

from typing import Any

from engine.errors import BadRequest
from engine.models.registry import Loaded
from engine.prompt.render import opens_reasoning, refuse_reserved, render
from engine.types import Request
from engine.types.prompt import Prompt


def text_prompt(loaded: Loaded, request: Request) -> Prompt:
    """The prompt of a request without media.

    Raises BadRequest (reserved tokens, the template's own complaint, an id outside the vocabulary).
    """
    if request.prompt is not None:
        return _raw(loaded, request.prompt)
    refuse_reserved(loaded, request.messages)
    text = render(loaded, request)
    ids = loaded.chat_tokenizer.encode(text, add_special_tokens=_adds_special_tokens(loaded))
    return Prompt(ids, ids, starts_in_reasoning=opens_reasoning(loaded, text))


def _raw(loaded: Loaded, prompt: str | tuple[int, ...]) -> Prompt:
    ids: list[Any] = list(prompt) if not isinstance(prompt, str) else loaded.tokenizer.encode(prompt)
    if not ids:
        raise BadRequest("prompt is empty.", param="prompt")
    if any(not 0 <= i < loaded.num_ids for i in ids):
        raise BadRequest(f"prompt has a token id outside the vocabulary of {loaded.num_ids}.", param="prompt")
    return Prompt(ids, ids)


def _adds_special_tokens(loaded: Loaded) -> bool:
    """Whether the tokenizer writes the begin-of-sequence token, not the template."""
    if loaded.processor is None:
        return not loaded.tokenizer.has_chat_template
    from mlx_vlm.utils import should_add_special_tokens

    return bool(should_add_special_tokens(loaded.card.model_type, loaded.processor))
