"""Where the time of one request goes: a clock that is told of each stage as it begins. Pure Python.

    model ─ fetch ─ media ─ prepare ─ queue ─ prompt ─ restore ─ prompt ─ encode ─ prefill ─ turns ─ prefill ─ decode
    └ accepted                                                                                     first token ┘

A request is in one stage at a time and the stages touch, so their lengths sum to the time that they took together.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

StageName = Literal[
    "model",  # waits until its model is loaded
    "describe",  # another model describes its media
    "fetch",  # at least one of its addresses is still being read
    "media",  # its media wait to be decoded, and are
    "prepare",  # a grammar is compiled, a long text made into tokens
    "queue",  # waits for its turn
    "prompt",  # the template, the processor, and looking it up in the cache
    "restore",  # its KV is read from disk
    "encode",  # the vision or audio tower
    "prefill",  # prompt tokens are computed
    "score",  # its questions are computed
    "turns",  # others are computed, or it waits for memory
    "server",  # another server has it, and has not answered yet
    "decode",  # from its first token to its end
]

WAITS: frozenset[StageName] = frozenset(("queue", "turns"))
"""Stages in which it waits for others."""

WORK: frozenset[StageName] = frozenset(("prompt", "encode", "prefill", "score", "decode"))
"""Stages in which the engine thread works for it, so that others wait."""

_SAME_S = 2e-4
"""A gap between two turns that is shorter is no wait: nobody else had a turn meanwhile."""


@dataclass(frozen=True, slots=True)
class StageSpan:
    """One stage, in seconds since the request was accepted."""

    step: StageName
    start_s: float
    end_s: float

    @property
    def ms(self) -> float:
        return (self.end_s - self.start_s) * 1e3


@dataclass(eq=False)
class StageClock:
    """Written by whoever has the request: an event loop first, then the engine thread; never by two at once. Read in
    any thread. Times in seconds of `now`, by default time.perf_counter. marks: (stage, when it began).
    """

    now: Callable[[], float] = time.perf_counter
    accepted_s: float = -1.0
    ended_s: float | None = None
    marks: list[tuple[StageName, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.accepted_s < 0:
            self.accepted_s = self.now()
        self.marks.append(("model", self.accepted_s))

    def enter(self, step: StageName, at_s: float | None = None) -> None:
        """A stage begins now, or began at at_s; nothing for one that goes on, or once the request has ended."""
        at_s = self.now() if at_s is None else at_s
        last, since_s = self.marks[-1]
        if last == step or self.ended_s is not None:
            return
        if last == "turns" and len(self.marks) > 1 and self.marks[-2][0] == step and at_s - since_s < _SAME_S:
            self.marks.pop()
        else:
            self.marks.append((step, at_s))

    def end(self, at_s: float | None = None) -> None:
        """The request has ended. The first call counts."""
        if self.ended_s is None:
            self.ended_s = self.now() if at_s is None else at_s

    @property
    def step(self) -> StageName:
        """The stage it is in, or was in when it ended."""
        return self.marks[-1][0]

    @property
    def elapsed_s(self) -> float:
        """Since it was accepted, until its end."""
        return (self.now() if self.ended_s is None else self.ended_s) - self.accepted_s

    def spans(self) -> tuple[StageSpan, ...]:
        """Every stage in order, the last one up to now or to the end. Those of no length are left out."""
        marks, until_s = list(self.marks), self.accepted_s + self.elapsed_s
        ends = [start for _, start in marks[1:]] + [max(until_s, marks[-1][1])]
        return tuple(
            StageSpan(step, start - self.accepted_s, end - self.accepted_s)
            for (step, start), end in zip(marks, ends, strict=True)
            if end > start
        )

    def first_token_s(self) -> float | None:
        """From its acceptance to its first token; None where there is none yet."""
        return next((at_s - self.accepted_s for step, at_s in list(self.marks) if step == "decode"), None)
