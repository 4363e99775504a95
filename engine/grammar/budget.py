"""How long an answer may reason: when its tokens are used up, those that end the reasoning come next. Pure Python."""

from __future__ import annotations

from typing import Literal

from engine.grammar.follow import ThinkTokens

MarksState = tuple[bool, tuple[int, ...]]


class ReasoningMarks:
    """Where one answer reasons. in_reasoning: its prompt ends inside its reasoning."""

    def __init__(self, think: ThinkTokens, *, in_reasoning: bool) -> None:
        self.think = think
        self.is_inside = in_reasoning
        self.tail: tuple[int, ...] = ()
        """The last tokens, as many as the next mark has."""

    @property
    def state(self) -> MarksState:
        """Where the answer is; set back to where it was, it goes on from there."""
        return self.is_inside, self.tail

    @state.setter
    def state(self, state: MarksState) -> None:
        self.is_inside, self.tail = state

    def accept(self, token: int) -> Literal["mark", "reasoning", "answer"]:
        """Take the token that came. Returns what it is: the last one of a mark, or a part of what lies between."""
        mark = self.think.end if self.is_inside else self.think.start
        self.tail = (*self.tail, token)[-len(mark) :]
        if self.tail == mark:
            self.is_inside = not self.is_inside
            self.tail = ()
            return "mark"
        return "reasoning" if self.is_inside else "answer"


class ThinkBudget:
    """Of one answer. max_tokens: of all its reasoning together, the marks around it not counted."""

    def __init__(self, marks: ReasoningMarks, max_tokens: int) -> None:
        self._marks = marks
        self._left = max_tokens

    @property
    def state(self) -> tuple[MarksState, int]:
        """As ReasoningMarks.state."""
        return self._marks.state, self._left

    @state.setter
    def state(self, state: tuple[MarksState, int]) -> None:
        self._marks.state, self._left = state

    def accept(self, token: int) -> None:
        """Take the token that came."""
        if self._marks.accept(token) == "reasoning":
            self._left -= 1

    def forced(self) -> int | None:
        """The token that must come next; None where the model may choose."""
        if not self._marks.is_inside or self._left > 0:
            return None
        end, tail = self._marks.think.end, self._marks.tail
        begun = next(n for n in range(len(end) - 1, -1, -1) if n == 0 or tail[-n:] == end[:n])
        return end[begun]
