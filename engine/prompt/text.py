"""Prompts without media: a rendered chat, or a raw prompt, as token ids. No MLX call.

A short one is built by the engine's thread as its turn comes. A long one takes a second per megabyte, for which no
stream should wait: it is built ahead, in another thread, by TextPrompts.
"""

from __future__ import annotations

from collections.abc import Sequence as Tokens
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from engine.errors import BadRequest, ContextOverflow
from engine.models.registry import Loaded
from engine.models.token_bound import TokenBound, token_bound
from engine.prompt.render import opens_reasoning, refuse_reserved, render
from engine.types import Request
from engine.types.prompt import Prompt


@dataclass(frozen=True, slots=True)
class RenderedText:
    """A prompt before it is tokenized. content: the text, or token ids if the client sent those. is_chat: it comes from
    a template; param: the field of the request that it is from."""

    content: str | tuple[int, ...]
    is_chat: bool
    add_special_tokens: bool = True
    starts_in_reasoning: bool = False

    @property
    def param(self) -> str:
        return "messages" if self.is_chat else "prompt"


def text_prompt(loaded: Loaded, request: Request) -> Prompt:
    """The prompt of a request without media. Engine thread only.

    Raises BadRequest (reserved tokens, the template's own complaint, an id outside the vocabulary).
    """
    rendered = _rendered(loaded, request)
    return _tokenized(loaded, rendered, _chat_tokenizer(loaded) if rendered.is_chat else loaded.tokenizer)


class TextPrompts:
    """Builds such prompts in any thread, for one model.

    The processor pads with its own tokenizer, and a tokenizer that is told to pad waits until nobody encodes with it:
    the engine's thread would wait for a long text. So here a copy of it encodes, made as the model is loaded.
    """

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        tokenizer = _chat_tokenizer(loaded)
        is_shared = loaded.processor is not None and hasattr(tokenizer, "backend_tokenizer")
        self._chat_tokenizer = deepcopy(tokenizer) if is_shared else tokenizer
        self._bounds: dict[bool, TokenBound] = {}

    def build(self, request: Request, *, must_fit: bool = True) -> Prompt:
        """The same prompt as text_prompt's, which raises the same.

        must_fit: raise ContextOverflow before it is tokenized where its length alone proves that it does not fit.
        """
        rendered = _rendered(self._loaded, request)
        tokenizer = self._chat_tokenizer if rendered.is_chat else self._loaded.tokenizer
        if must_fit:
            # Two threads may both find it missing: they make the same.
            if rendered.is_chat not in self._bounds:
                self._bounds[rendered.is_chat] = token_bound(tokenizer)
            _check_length(rendered, self._bounds[rendered.is_chat], self._loaded.card.context_tokens)
        return _tokenized(self._loaded, rendered, tokenizer)

    def decode(self, token_ids: Tokens[int]) -> str:
        """The text of token ids, special tokens by their names. Raises BadRequest for one outside the vocabulary."""
        wrong = next((i for i in token_ids if not 0 <= i < self._loaded.num_ids), None)
        if wrong is not None:
            why = f"{wrong} is outside the vocabulary, 0 to {self._loaded.num_ids - 1}"
            raise BadRequest(f"tokens: {why}.", param="tokens")
        return str(self._loaded.tokenizer.decode(list(token_ids), skip_special_tokens=False))


def _rendered(loaded: Loaded, request: Request) -> RenderedText:
    if request.prompt is not None:
        return RenderedText(request.prompt, is_chat=False, add_special_tokens=request.add_special_tokens)
    refuse_reserved(loaded, request.messages)
    text = render(loaded, request)
    return RenderedText(text, True, _adds_special_tokens(loaded), opens_reasoning(loaded, text))


def _tokenized(loaded: Loaded, rendered: RenderedText, tokenizer: Any) -> Prompt:
    if isinstance(rendered.content, str):
        ids = tokenizer.encode(rendered.content, add_special_tokens=rendered.add_special_tokens)
    else:
        ids = list(rendered.content)
    if not ids:
        raise BadRequest(f"{rendered.param} is empty.", param=rendered.param)
    if not rendered.is_chat:
        _check_raw(loaded, ids)
    cache_ids = [] if loaded.family.whole_prompt else ids
    return Prompt(ids, cache_ids, starts_in_reasoning=rendered.starts_in_reasoning)


def _check_raw(loaded: Loaded, ids: list[int]) -> None:
    """A prompt that no template wrote: ids that the model has, and none that stands for a medium, as it has none."""
    if min(ids) < 0 or max(ids) >= loaded.num_ids:
        raise BadRequest(f"prompt has a token id outside the vocabulary of {loaded.num_ids}.", param="prompt")
    reserved = {i for i in loaded.placeholder_ids().values() if i >= 0} & set(ids)
    if reserved:
        names = ", ".join(str(loaded.tokenizer.convert_ids_to_tokens(i)) for i in sorted(reserved))
        raise BadRequest(f"prompt has {names} in it, which stands for media; send those in messages.", param="prompt")


def _check_length(rendered: RenderedText, bound: TokenBound, context_tokens: int) -> None:
    if isinstance(rendered.content, str):
        num_tokens, reason = bound.fewest(rendered.content)
        count = f"at least {num_tokens:,} tokens ({reason})"
    else:
        num_tokens = len(rendered.content)
        count = f"{num_tokens:,} tokens"
    if num_tokens >= context_tokens:
        raise ContextOverflow(
            f"The prompt has {count}; this model's context is {context_tokens:,}.", param=rendered.param
        )


def _chat_tokenizer(loaded: Loaded) -> Any:
    """What encodes a rendered chat: the processor's own, which may know more special tokens than the files say."""
    return loaded.tokenizer if loaded.processor is None else getattr(loaded.processor, "tokenizer", loaded.processor)


def _adds_special_tokens(loaded: Loaded) -> bool:
    """Whether the tokenizer writes the begin-of-sequence token, not the template."""
    if loaded.processor is None:
        return not loaded.tokenizer.has_chat_template
    from mlx_vlm.utils import should_add_special_tokens

    return bool(should_add_special_tokens(loaded.card.model_type, loaded.processor))
