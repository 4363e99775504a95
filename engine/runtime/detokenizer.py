"""Token ids -> Delta: UTF-8 safe, special tokens dropped, stop strings cut, reasoning told apart from the answer.

Pure Python over mlx-lm's streaming detokenizer and text state machine; runs on the engine thread.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from mlx_lm.generate import TextStateMachine

from engine.types import Channel, Delta, GeneratedToken

_CHANNEL: dict[str, Channel] = {"normal": "text", "reasoning": "reasoning"}


def _state_machine(tokenizer: Any, stop: tuple[str, ...]) -> TextStateMachine:
    """States normal and reasoning; a stop string leads to None, which ends the answer."""
    edges: dict[str, list[tuple[str, str | None]]] = {"normal": [], "reasoning": []}
    if tokenizer.has_thinking:
        edges["normal"].append((tokenizer.think_start, "reasoning"))
        edges["reasoning"].append((tokenizer.think_end, "normal"))
    for state in edges:
        edges[state] += [(word, None) for word in stop]
    return TextStateMachine({state: out for state, out in edges.items() if out} or None)


class Detokenizer:
    """One answer's text. `add` takes tokens as they come, `flush` gives what was held back.

    Text is held back only while it may still turn into a stop string, a think marker or a longer UTF-8 character.
    `stopped` turns True when a stop string was completed, which `stop` then is; nothing comes after it.
    """

    def __init__(
        self,
        tokenizer: Any,
        special_ids: Collection[int],
        stop: tuple[str, ...] = (),
        reasoning: bool = False,
        before: int | None = None,
    ) -> None:
        """before: the token that the text goes on from; None where an answer begins."""
        self._stream = tokenizer.detokenizer
        if before is not None and before not in special_ids:
            self._stream.add_token(before)
            _ = self._stream.last_segment  # reading it moves past that token's text
        self._special_ids = special_ids
        self._state = _state_machine(tokenizer, stop).make_state("reasoning" if reasoning else "normal")
        self._tokens: list[GeneratedToken] = []
        self._stops = stop
        self.stopped = False
        self.stop = ""

    def add(self, token: GeneratedToken) -> list[Delta]:
        """The new text that this token settles, one Delta per channel; often empty. The token goes with the next text
        either way."""
        self._tokens.append(token)
        if token.id in self._special_ids:
            return []
        self._stream.add_token(token.id)
        return self._advance(self._stream.last_segment)

    def skip(self, token: GeneratedToken) -> list[Delta]:
        """A token without text: the one that ends the answer."""
        self._tokens.append(token)
        return []

    def rest(self) -> list[Delta]:
        """The tokens that no text came after, in a Delta without text."""
        return [self._delta("", self._state[0] or "normal")] if self._tokens else []

    def flush(self) -> list[Delta]:
        """The rest, when the answer ended for another reason than a stop string."""
        if self.stopped:
            return []
        self._stream.finalize()
        deltas = self._advance(self._stream.last_segment)
        if self.stopped:
            return deltas
        self._state, rest, name = TextStateMachine.flush(self._state)
        return deltas + ([self._delta(rest, name)] if rest else [])

    def _advance(self, text: str) -> list[Delta]:
        if not text or self.stopped:
            return []
        waiting = self._state[3] + text
        self._state, segments = TextStateMachine.split(self._state, text)
        self.stopped = self._state[0] is None
        if self.stopped:
            read = waiting[: len(waiting) - len(self._state[3])]
            self.stop = max((stop for stop in self._stops if read.endswith(stop)), key=len, default="")
        return [self._delta(piece, name) for name, piece in segments if piece and name is not None]

    def _delta(self, text: str, state: str) -> Delta:
        tokens, self._tokens = tuple(self._tokens), []
        return Delta(text, _CHANNEL.get(state, "text"), tokens)
