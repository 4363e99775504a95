"""Prompts without media: a rendered chat, or a raw prompt, as token ids. No MLX call.

A short one is built by the engine's thread as its turn comes. A long one takes a second per megabyte, for which no
stream should wait: it is built ahead, in another thread, by TextPrompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

from engine.errors import BadRequest, ContextOverflow
from engine.models.control_tokens import ControlTokens
from engine.models.registry import Loaded
from engine.models.token_bound import TokenBound, token_bound
from engine.prompt.render import RenderedChat, adds_special_tokens, render
from engine.types import Request
from engine.types.prompt import Prompt


@dataclass(frozen=True, slots=True)
class RenderedText:
    """A prompt before it is tokenized. content: the text, or token ids if the client sent those. chat: what the text is
    of; None for a raw prompt, of which add_special_tokens is. param: the field of the request that it is from."""

    content: str | tuple[int, ...]
    chat: RenderedChat | None = None
    add_special_tokens: bool = True

    @property
    def param(self) -> str:
        return "messages" if self.chat else "prompt"


def text_prompt(loaded: Loaded, request: Request) -> Prompt:
    """The prompt of a request without media. Engine thread only.

    Raises BadRequest (the template's own complaint; in a raw prompt a placeholder, or an id outside the vocabulary).
    """
    return _tokenized(loaded, _rendered(loaded, request), loaded.control)


class TextPrompts:
    """Builds such prompts in any thread, for one model.

    The processor pads with its own tokenizer, and a tokenizer that is told to pad waits until nobody encodes with it:
    the engine's thread would wait for a long text. So here a copy of it encodes, made as the model is loaded.
    """

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        tokenizer = loaded.chat_tokenizer
        is_shared = loaded.processor is not None and hasattr(tokenizer, "backend_tokenizer")
        self._chat_tokenizer = deepcopy(tokenizer) if is_shared else tokenizer
        self.control = loaded.control.read_by(self._chat_tokenizer)
        self._bounds: dict[bool, TokenBound] = {}

    def build(self, request: Request, *, must_fit: bool = True) -> Prompt:
        """The same prompt as text_prompt's, which raises the same.

        must_fit: raise ContextOverflow before it is tokenized where its length alone proves that it does not fit.
        """
        rendered = _rendered(self._loaded, request)
        if must_fit:
            is_chat = rendered.chat is not None
            # Two threads may both find it missing: they make the same.
            if is_chat not in self._bounds:
                self._bounds[is_chat] = token_bound(self._chat_tokenizer if is_chat else self._loaded.tokenizer)
            _check_length(rendered, self._bounds[is_chat], self._loaded.card.context_tokens)
        return _tokenized(self._loaded, rendered, self.control)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids, special tokens by their names. Raises BadRequest for one outside the vocabulary."""
        wrong = next((i for i in token_ids if not 0 <= i < self._loaded.num_ids), None)
        if wrong is not None:
            why = f"{wrong} is outside the vocabulary, 0 to {self._loaded.num_ids - 1}"
            raise BadRequest(f"tokens: {why}.", param="tokens")
        return str(self._loaded.tokenizer.decode(list(token_ids), skip_special_tokens=False))


def _rendered(loaded: Loaded, request: Request) -> RenderedText:
    if request.prompt is not None:
        return RenderedText(request.prompt, add_special_tokens=request.add_special_tokens)
    chat = render(loaded, request)
    return RenderedText(chat.text, chat)


def _tokenized(loaded: Loaded, rendered: RenderedText, control: ControlTokens) -> Prompt:
    chat, content = rendered.chat, rendered.content
    if chat is not None:
        ids = control.encode(chat.text, chat.aside, add_special_tokens=adds_special_tokens(loaded))
    else:
        ids = _raw_ids(loaded, content, rendered.add_special_tokens)
    if not ids:
        raise BadRequest(f"{rendered.param} is empty.", param=rendered.param)
    if chat is None:
        _check_raw(loaded, ids)
    starts_in_reasoning = chat is not None and chat.starts_in_reasoning
    is_whole = loaded.family.whole_prompt
    return Prompt(ids, [] if is_whole else ids, starts_in_reasoning=starts_in_reasoning, is_whole=is_whole)


def _raw_ids(loaded: Loaded, content: str | tuple[int, ...], add_special_tokens: bool) -> list[int]:
    if isinstance(content, str):
        return list(loaded.tokenizer.encode(content, add_special_tokens=add_special_tokens))
    return list(content)


def _check_raw(loaded: Loaded, ids: Sequence[int]) -> None:
    """A raw prompt brings no media, so that nothing would stand behind a placeholder."""
    if not (min(ids) >= 0 and max(ids) < loaded.num_ids):
        raise BadRequest(f"prompt has a token id outside the vocabulary of {loaded.num_ids}.", param="prompt")
    for kind, placeholder in loaded.placeholder_ids().items():
        if placeholder in ids:
            token = loaded.tokenizer.convert_ids_to_tokens(placeholder)
            why = f"it holds {token}, which stands for {kind} input, and a raw prompt has none; send media in a chat"
            raise BadRequest(f"prompt: {why}.", param="prompt")


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
