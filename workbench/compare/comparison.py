"""One message answered in several columns at once. Event loop only.

    Engine.stream ──(AnswerRun, as in the chat)──> each column's turn ──(15 times a second)──> a JSON object a line

The columns are requests of their own in the engine, which computes them in one batch. They run while the page reads.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from engine.types import Json, Request
from workbench.chat import markdown, turns
from workbench.chat.turns import LiveAnswer
from workbench.compare.difference import marked
from workbench.conversations.answers import SAMPLE_HZ, AnswerRun
from workbench.conversations.types import Turn

if TYPE_CHECKING:
    from engine.core import Engine


@dataclass
class Side:
    """One column. answer: as it was before it began, or why it could not begin, and then there is no request. told: the
    last line about it; is_told: that was its end."""

    answer: Turn
    request: Request | None = None
    run: AnswerRun | None = None
    told: str = ""
    is_told: bool = False
    draw: LiveAnswer = field(default_factory=LiveAnswer)  # of the message, for the receipts of its media

    @property
    def turn(self) -> Turn:
        return self.run.turn if self.run else self.answer

    @property
    def has_ended(self) -> bool:
        return self.turn.state != "writing"

    def begin(self, engine: Engine) -> None:
        if self.request is not None and not self.has_ended:
            self.run = AnswerRun(engine, self.request, self.answer, _keep_nothing)

    def stop(self) -> None:
        if self.run is not None:
            self.run.stop()
        elif not self.has_ended:
            self.answer = replace(self.answer, state="stopped")

    def news(self, place: int) -> str | None:
        """The line that tells what is drawn of it now; None where that was told already. place: of the column."""
        if self.is_told:
            return None
        turn = self.turn
        is_live = turn.state == "writing"
        parts = self.draw(turn, self.run.waiting() if self.run and is_live else "")
        line = _line({"column": place, "parts": parts, **({} if is_live else {"result": result(turn)})})
        if line == self.told:
            return None
        self.told, self.is_told = line, not is_live
        return line


class SideBySide:
    """text, paths: the message of all columns. can_be_kept: an answer and this message make a conversation; a request
    of the log has messages of its own."""

    def __init__(self, text: str, paths: Sequence[str], sides: Sequence[Side], *, can_be_kept: bool = True) -> None:
        self.text = text
        self.paths = tuple(paths)
        self.sides = tuple(sides)
        self.can_be_kept = can_be_kept
        self._is_read = False

    def stop(self) -> None:
        """End all columns; what was written stays."""
        for side in self.sides:
            side.stop()

    async def lines(self, engine: Engine) -> AsyncIterator[str]:
        """{"column": number, "parts": as the chat draws them, "result": at its end}, each when it has changed; at the
        end of all, {"marked": trees of each answer, or null where they are too long}. The columns end with the reader.
        """
        if self._is_read:
            return  # by somebody else: an answer is written for one reader
        self._is_read = True
        for side in self.sides:
            side.begin(engine)
        try:
            is_over = False
            while not is_over:
                is_over = all(side.has_ended for side in self.sides)
                for place, side in enumerate(self.sides):
                    if news := side.news(place):
                        yield news
                if not is_over:
                    runs = [one.run for one in self.sides if one.run]
                    await asyncio.sleep(max((run.period_s() for run in runs), default=1 / SAMPLE_HZ))
            texts = [side.turn.text for side in self.sides]
            yield _line({"marked": await engine.aside(lambda: _marked(texts))})
        finally:
            self.stop()


def result(turn: Turn) -> Json:
    """An answer that has ended, as values: the text, and the numbers that the API has in `usage` and `timing`.
    request: as the engine lists it."""
    found: Json = {"state": turn.state, "answer": turn.text, "error": turn.error}
    if turn.done is None:
        return found if turn.state == "failed" else {**found, "completion_tokens": turn.num_tokens}
    usage, timing = turn.done.usage, turn.done.timing
    by = turn.done.served_by
    told = {
        **found,
        "request": turns.request_id(turn.id),
        "finish_reason": turn.done.finish_reason,
        "prompt_tokens": usage.prompt_tokens,
        "cached_tokens": usage.cached_tokens,
        "completion_tokens": usage.completion_tokens,
        "ttft_ms": timing.ttft_ms,
        "total_ms": timing.total_ms,
        "tokens_per_s": timing.decode_tps,
        "media_tokens": [receipt.tokens for receipt in turn.done.media],
        "seen_px": [list(receipt.seen_px) for receipt in turn.done.media],
        "is_here": by is None,
    }
    if by is not None and not by.tells_usage:
        told |= dict.fromkeys(("prompt_tokens", "cached_tokens", "completion_tokens", "tokens_per_s"))
    return told


def _marked(texts: Sequence[str]) -> list[list[markdown.Tree]] | None:
    return marked([markdown.blocks(text) for text in texts])


def _line(value: Json) -> str:
    return json.dumps(value) + "\n"


async def _keep_nothing(turn: Turn) -> None:
    """It is kept when somebody wants to go on from it."""
