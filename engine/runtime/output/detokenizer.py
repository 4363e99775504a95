"""Token ids -> Delta: UTF-8 safe, special tokens dropped, stop strings cut, reasoning and tool calls told apart from
the answer.

Pure Python over mlx-lm's streaming detokenizer and text state machine; runs on the engine thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mlx_lm.generate import TextStateMachine

from engine.models.chat_format import ToolFormat
from engine.models.registry import Loaded
from engine.runtime.output.tool_calls import ToolCallReader
from engine.types import Channel, Delta, GeneratedToken, ToolCallDelta

_CHANNEL: dict[str, Channel] = {"normal": "text", "reasoning": "reasoning", "tool": "tool"}


def _state_machine(tokenizer: Any, stop: tuple[str, ...], tools: ToolFormat | None) -> TextStateMachine:
    """States normal, reasoning and tool; a stop string leads to None, which ends the answer."""
    edges: dict[str, list[tuple[str, str | None]]] = {"normal": [], "reasoning": []}
    if tokenizer.has_thinking:
        edges["normal"].append((tokenizer.think_start, "reasoning"))
        edges["reasoning"].append((tokenizer.think_end, "normal"))
    if tools is not None:
        edges["normal"].append((tools.start, "tool"))
        edges["tool"] = [(tools.end, "normal")] if tools.end else []
    for state in edges:
        edges[state] += [(word, None) for word in stop]
    return TextStateMachine(edges if any(edges.values()) else None)


class Detokenizer:
    """One answer's text. `add` takes tokens as they come, `flush` gives what was held back.

    Text is held back only while it may still turn into a stop string, a mark of the model or a longer UTF-8 character,
    and white space beside a tool call. `stopped` turns True when a stop string was completed, which `stop` then is, or
    the one call that is wanted; nothing comes after it.
    """

    def __init__(
        self,
        loaded: Loaded,
        stop: tuple[str, ...] = (),
        *,
        reasoning: bool = False,
        before: int | None = None,
        calls: ToolCallReader | None = None,
    ) -> None:
        """before: the token that the text goes on from; None where an answer begins. calls: reads the tool calls; None
        where none are wanted, and what looks like one is text."""
        tokenizer = loaded.tokenizer
        self._stream = tokenizer.detokenizer
        if before is not None and before not in loaded.special_ids:
            self._stream.add_token(before)
            _ = self._stream.last_segment  # reading it moves past that token's text
        self._calls = calls
        marks = calls.format if calls else None
        self._dropped_ids = loaded.special_ids.difference(_ids(tokenizer, marks) if marks else ())
        self._state = _state_machine(tokenizer, stop, marks).make_state("reasoning" if reasoning else "normal")
        self._tokens: list[GeneratedToken] = []
        self._stops = stop
        self._in_call = False
        self._space = ""
        self.stopped = False
        self.stop = ""

    @property
    def num_calls(self) -> int:
        """Tool calls so far."""
        return self._calls.num_calls if self._calls else 0

    def add(self, token: GeneratedToken) -> list[Delta]:
        """The new text that this token settles, one Delta per channel; often empty. The token goes with the next text
        either way."""
        self._tokens.append(token)
        if token.id in self._dropped_ids and self._state[0] != "tool":
            return []
        self._stream.add_token(token.id)
        return self._advance(self._stream.last_segment)

    def skip(self, token: GeneratedToken) -> list[Delta]:
        """A token without text: the one that ends the answer."""
        self._tokens.append(token)
        return []

    def rest(self) -> list[Delta]:
        """The tokens that no text came after, in a Delta without text."""
        state = "reasoning" if self._state[0] == "reasoning" else "normal"
        return [self._delta("", state)] if self._tokens else []

    def flush(self) -> list[Delta]:
        """The rest, when the answer ended for another reason than a stop string."""
        if self.stopped:
            return []
        self._stream.finalize()
        deltas = self._advance(self._stream.last_segment)
        if self.stopped:
            return deltas
        self._state, rest, name = TextStateMachine.flush(self._state)
        deltas += self._written(rest, name)
        if self._in_call:
            deltas += self._end_call()
        self.stopped = False  # a call that was cut off is no reason to end
        return deltas + self._flush_space()

    def _advance(self, text: str) -> list[Delta]:
        if not text or self.stopped:
            return []
        waiting = self._state[3] + text
        self._state, segments = TextStateMachine.split(self._state, text)
        self.stopped = self._state[0] is None
        if self.stopped:
            read = waiting[: len(waiting) - len(self._state[3])]
            self.stop = max((stop for stop in self._stops if read.endswith(stop)), key=len, default="")
        deltas = [delta for state, piece in segments for delta in self._written(piece, state)]
        return deltas + self._flush_space() if self.stopped else deltas

    def _written(self, text: str, state: str | None) -> list[Delta]:
        """Text that was written in this state; none where the state was only passed through."""
        if self._calls is None:
            return [self._delta(text, state)] if text and state else []
        if state == "tool":
            self._in_call = True
            return self._called(self._calls.add(text))
        out = self._end_call() if self._in_call else []
        if not text or state is None or self._calls.is_full:
            return out
        if state != "normal":
            return [*out, self._delta(text, state)]
        # White space before, between and behind calls is how they are laid out, and no part of the answer.
        held = self._space + text
        shown = held.rstrip() and held
        self._space = "" if shown else held
        return [*out, self._delta(shown, state)] if shown else out

    def _end_call(self) -> list[Delta]:
        """The mark behind a call came, or the end of the answer."""
        assert self._calls is not None
        self._in_call = False
        missing = self._calls.end()
        if missing is None:  # it was no call: it is text, as the model wrote it
            marks = self._calls.format
            is_over = self._state[0] != "tool"
            text = f"{marks.start}{self._calls.take_rest()}{marks.end if is_over else ''}"
            return [*self._flush_space(), self._delta(text, "normal")]
        return self._called(missing)

    def _called(self, pieces: Sequence[ToolCallDelta]) -> list[Delta]:
        assert self._calls is not None
        if pieces:
            self._space = ""
        if self._calls.is_full and not (self._in_call and self._calls.format.end):
            self.stopped = True
        return [replace(self._delta("", "tool"), tool_call=piece) for piece in pieces]

    def _flush_space(self) -> list[Delta]:
        space, self._space = self._space, ""
        return [self._delta(space, "normal")] if space and not self.num_calls else []

    def _delta(self, text: str, state: str) -> Delta:
        tokens, self._tokens = tuple(self._tokens), []
        return Delta(text, _CHANNEL.get(state, "text"), tokens)


def _ids(tokenizer: Any, marks: ToolFormat) -> set[int]:
    """The tokens that begin and end a call."""
    return {token for mark in (marks.start, marks.end) for token in tokenizer.encode(mark, add_special_tokens=False)}
