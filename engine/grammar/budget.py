"""How long an answer may reason: when its tokens are used up, those that end the reasoning come next. Pure Python."""

from __future__ import annotations

from engine.grammar.follow import ThinkTokens


class ThinkBudget:
    """Of one answer. max_tokens: of all its reasoning together, the marks around it not counted; in_reasoning: the
    prompt ends inside it."""

    def __init__(self, think: ThinkTokens, max_tokens: int, *, in_reasoning: bool) -> None:
        self._think = think
        self._left = max_tokens
        self._in_reasoning = in_reasoning
        self._tail: tuple[int, ...] = ()

    def accept(self, token: int) -> None:
        """Take the token that came."""
        mark = self._think.end if self._in_reasoning else self._think.start
        self._tail = (*self._tail, token)[-len(mark) :]
        if self._tail == mark:
            self._in_reasoning = not self._in_reasoning
            self._tail = ()
        elif self._in_reasoning:
            self._left -= 1

    def forced(self) -> int | None:
        """The token that must come next; None where the model may choose."""
        if not self._in_reasoning or self._left > 0:
            return None
        end = self._think.end
        begun = next(n for n in range(len(end) - 1, -1, -1) if n == 0 or self._tail[-n:] == end[:n])
        return end[begun]
