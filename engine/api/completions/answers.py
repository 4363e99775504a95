"""Events -> text completions, with log-probabilities in OpenAI's older shape. Reasoning is part of the text."""

from __future__ import annotations

from codecs import IncrementalDecoder, getincrementaldecoder
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from engine.api.answering.envelope import Envelope
from engine.api.answering.logprobs import LEAST
from engine.api.answering.sse import OPENAI, Piece, Wire
from engine.api.answering.usage import usage_json
from engine.errors import EngineError
from engine.types import Delta, Done, FinishReason, GeneratedToken, Json, TokenText

LISTS = ("tokens", "token_logprobs", "top_logprobs", "text_offset")


@dataclass
class TextChoice:
    """One answer as it grows. decoder: of the bytes of its tokens, to know where in the text each begins."""

    index: int
    text: str = ""
    finish_reason: FinishReason | None = None
    logprobs: Json = field(default_factory=lambda: {name: [] for name in LISTS})
    decoder: IncrementalDecoder = field(default_factory=lambda: getincrementaldecoder("utf-8")("ignore"))
    offset: int = 0
    is_begun: bool = False


@dataclass
class TextStream:
    """All choices of all prompts. n: choices of each prompt; echoes: what gives the text before the answers to each,
    once one has begun, () for nothing; token_text: what a token id stands for, where log-probabilities were asked
    for."""

    envelope: Envelope
    n: int = 1
    echoes: Sequence[Callable[[], str]] = ()
    token_text: Callable[[int], TokenText] | None = None
    include_usage: bool = False
    wire: ClassVar[Wire] = OPENAI
    _choices: dict[int, TextChoice] = field(default_factory=dict)
    _prompts: dict[int, tuple[GeneratedToken, ...]] = field(default_factory=dict)
    _usage: Json = field(default_factory=dict)

    def whole(self) -> Json:
        """The answer as one object, once it has ended."""
        choices = [self._choices[index] for index in sorted(self._choices)]
        said = [
            {
                "index": choice.index,
                "text": choice.text,
                "logprobs": choice.logprobs if self.token_text else None,
                "finish_reason": choice.finish_reason,
            }
            for choice in choices
        ]
        return {**self.envelope.wrap("text_completion", said), "usage": self._usage}

    def opening(self) -> Iterator[Piece]:
        yield from ()

    def waiting(self) -> Iterator[Piece]:
        yield from ()

    def pieces(self, delta: Delta) -> Iterator[Piece]:
        choice = self._choices.setdefault(delta.index, TextChoice(delta.index))
        prompt = delta.index // self.n
        if delta.prompt:
            self._prompts[prompt] = delta.prompt
        text, tokens = delta.text, delta.tokens
        if not choice.is_begun and self.echoes:
            text, tokens = self.echoes[prompt]() + text, self._prompts.get(prompt, ()) + tokens
        choice.is_begun = True
        choice.text += text
        logprobs = self._logprobs(choice, tokens) if self.token_text else None
        if text or (logprobs and logprobs["tokens"]):
            yield self._chunk(delta.index, text, logprobs)
        if delta.finish_reason:
            choice.finish_reason = delta.finish_reason
            yield self._chunk(delta.index, "", reason=delta.finish_reason)

    def ending(self, done: Done) -> Iterator[Piece]:
        self._usage = usage_json(done, self.envelope.operator)
        if self.include_usage:
            yield "", {**self.envelope.wrap("text_completion", []), "usage": self._usage}

    def failed(self, error: EngineError) -> Iterator[Piece]:
        yield "", error.to_openai()

    def _chunk(self, index: int, text: str, logprobs: Json | None = None, reason: FinishReason | None = None) -> Piece:
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
        return "", self.envelope.wrap("text_completion", [choice])

    def _logprobs(self, choice: TextChoice, tokens: Sequence[GeneratedToken]) -> Json:
        """Those of some more tokens of a choice, in four lists of equal length; all of them are kept for `whole`.

        A token's offset is that of the first character that was not complete before it. What ends an answer and is no
        text is among the tokens, with its name.
        """
        assert self.token_text is not None
        out: Json = {name: [] for name in LISTS}
        for token in tokens:
            written = self.token_text(token.id)
            out["tokens"].append(written.text)
            out["token_logprobs"].append(_number(token.logprob))
            out["top_logprobs"].append(self._top(token))
            out["text_offset"].append(min(choice.offset, len(choice.text)))
            choice.offset += len(choice.decoder.decode(written.raw or b""))
        for name in LISTS:
            choice.logprobs[name] += out[name]
        return out

    def _top(self, token: GeneratedToken) -> Json | None:
        """The likeliest tokens by their text, and this one. Of two that read alike the likelier counts."""
        assert self.token_text is not None
        if token.logprob is None:
            return None
        top: Json = {}
        for id, logprob in sorted((*token.top, (token.id, token.logprob)), key=lambda pair: -pair[1]):
            top.setdefault(self.token_text(id).text, _number(logprob))
        return top


def _number(logprob: float | None) -> float | None:
    return None if logprob is None else max(LEAST, logprob)
