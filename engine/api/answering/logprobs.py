"""Log-probabilities of an answer's tokens, as OpenAI's chat completions write them. Pure.

https://platform.openai.com/docs/api-reference/chat/object (choices.logprobs.content)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from engine.types import Delta, GeneratedToken, Json, TokenText

LEAST = -9999.0
"""OpenAI's number for a token that cannot come: JSON has no infinity."""


@dataclass(slots=True)
class Written:
    """How far one choice is. text_bytes: of its text; token_bytes: of the tokens that were written; waiting: those
    whose text has not come yet; is_new: without text so far."""

    text_bytes: int = 0
    token_bytes: int = 0
    waiting: list[GeneratedToken] = field(default_factory=list)
    is_new: bool = True


class LogprobsWriter:
    """The tokens behind each choice's text: no reasoning, no token that ends it, none that lies behind a stop text.

    One for each answer. token_text: what a token id stands for.
    """

    def __init__(self, token_text: Callable[[int], TokenText]) -> None:
        self._token_text = token_text
        self._choices: defaultdict[int, Written] = defaultdict(Written)

    def write(self, delta: Delta) -> Json:
        """What choices[].logprobs says beside the text of a Delta; a whole answer is one Delta."""
        if delta.channel != "text":
            return {"content": [], "refusal": None}
        written = self._choices[delta.index]
        written.waiting += delta.tokens
        written.text_bytes += len(delta.text.encode())
        if written.is_new and delta.text:  # a space that an answer began with is not shown
            first = self._token_text(written.waiting[0].id).raw or b"" if written.waiting else b""
            written.text_bytes += first.startswith(b" ") and not delta.text.startswith(" ")
            written.is_new = False
        content = []
        while written.waiting and written.token_bytes < written.text_bytes:
            token = written.waiting.pop(0)
            raw = self._token_text(token.id).raw
            if raw is None:  # it is no text, as an end that was told not to be one
                continue
            written.token_bytes += len(raw)
            tops = [self._entry(id, logprob) for id, logprob in token.top]
            content.append({**self._entry(token.id, token.logprob), "top_logprobs": tops})
        return {"content": content, "refusal": None}

    def _entry(self, id: int, logprob: float | None) -> Json:
        token = self._token_text(id)
        value = LEAST if logprob is None else max(LEAST, logprob)
        return {"token": token.text, "logprob": value, "bytes": None if token.raw is None else list(token.raw)}
