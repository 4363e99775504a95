"""The tokens of an answer with their probabilities, as it is written."""

from __future__ import annotations

from collections.abc import Callable

from engine.api.answering.logprobs import LogprobsWriter
from engine.types import Delta, TokenText
from workbench.conversations.types import Turn, WrittenToken

DECIMALS = 4


class TokenList:
    """Collects the tokens behind the text of one answer.

    token_text: what a token id of its model stands for. turn: its beginning, where it is continued: with its tokens, or
    as text whose tokens are not known.
    """

    def __init__(self, token_text: Callable[[int], TokenText], turn: Turn) -> None:
        self._writer = LogprobsWriter(token_text)
        known = turn.tokens or ((WrittenToken(turn.text),) if turn.text else ())
        self._tokens = list(known)

    @property
    def tokens(self) -> tuple[WrittenToken, ...]:
        return tuple(self._tokens)

    def add(self, delta: Delta, *, is_known: bool) -> None:
        """is_known: the request asked for the probabilities; else the text is kept without."""
        if delta.channel != "text":
            return
        if not is_known:
            self._add_text(delta.text)
            return
        for entry in self._writer.write(delta)["content"]:
            top = tuple((other["token"], round(other["logprob"], DECIMALS)) for other in entry["top_logprobs"])
            self._tokens.append(WrittenToken(entry["token"], round(entry["logprob"], DECIMALS), top))

    def _add_text(self, text: str) -> None:
        if self._tokens and self._tokens[-1].logprob is None:
            text = self._tokens.pop().text + text
        if text:
            self._tokens.append(WrittenToken(text))


def without_space_at_end(tokens: tuple[WrittenToken, ...]) -> tuple[WrittenToken, ...]:
    """The tokens of a text that lost the white space at its end."""
    kept = list(tokens)
    while kept and not kept[-1].text.strip():
        kept.pop()
    if not kept:
        return ()
    last = kept[-1]
    return (*kept[:-1], WrittenToken(last.text.rstrip(), last.logprob, last.top))
