"""LoggedRequest: one request as it came in, where its time goes, and what came of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Literal

from engine.errors import EngineError
from engine.types import (
    CompletedChoice,
    Completion,
    Decisions,
    Delta,
    Done,
    Event,
    Part,
    Request,
    StageClock,
    Timing,
    Usage,
)

RequestStatus = Literal["waiting", "running", "finished", "cancelled", "failed"]

_WAITING = ("model", "describe", "fetch", "media", "prepare", "queue")
_MAX_CAUSES = 8
_BASE_BYTES = 4096
_TOKEN_BYTES = 160
_LETTER_BYTES = 2
"""What Python needs for them in memory, about."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The error that ended a request: its message for a person, its code and HTTP status, the field that it is about,
    and what led to it, the nearest cause first."""

    message: str
    code: str
    status: int
    param: str | None = None
    causes: tuple[str, ...] = ()

    @classmethod
    def of(cls, error: EngineError) -> Failure:
        causes: list[str] = []
        cause = error.__cause__
        while cause is not None and len(causes) < _MAX_CAUSES:
            causes.append(f"{type(cause).__name__}: {cause}")
            cause = cause.__cause__ or cause.__context__
        return cls(error.message, error.code, error.status, error.param, tuple(causes))


@dataclass(frozen=True, slots=True)
class MediumRef:
    """A medium by the content of its file. sha256: over its bytes as they came, unlike MediaReceipt.sha256, which is
    over its pixels. media_type: as its first bytes say."""

    sha256: str
    num_bytes: int
    media_type: str


@dataclass(eq=False)
class LoggedRequest:
    """Written by the event loop that reads its answer; read in any thread.

    id: no other record has it. created_s: in seconds since 1970. changed: the log's number when it last began or ended.
    deltas: of the answer so far; choices: the whole answer, once it has ended. media: what is known of each medium,
    once it has ended and somebody asked. is_cut: its media were too large to be kept with it.
    num_texts: of one whose texts are read and not answered (Engine.embed, Engine.rank); the texts are not kept.
    """

    id: str
    request: Request
    clock: StageClock
    created_s: float = field(default_factory=time.time)
    changed: int = 0
    num_tokens: int = 0
    deltas: list[Delta] = field(default_factory=list)
    choices: tuple[CompletedChoice, ...] = ()
    done: Done | None = None
    decisions: Decisions | None = None
    failure: Failure | None = None
    has_ended: bool = False
    is_cut: bool = False
    is_kept: bool = True
    num_texts: int | None = None
    media: dict[Part, MediumRef] | None = None

    def named(self, model: str) -> None:
        """The name of the model that answers it is known."""
        self.request = replace(self.request, model=model)

    def add(self, event: Event) -> None:
        """One more event of its answer."""
        if isinstance(event, Done):
            self._over(event)
        elif self.is_kept:
            self.deltas.append(event)
            self.num_tokens += len(event.tokens)

    def decided(self, decisions: Decisions) -> None:
        """Its questions are answered."""
        self.decisions = decisions
        self._over(decisions.done)

    def _over(self, done: Done) -> None:
        """The clock ends when the engine says it did, not when its reader learns of it: total_ms has one value."""
        self.done = done
        self.clock.end(self.clock.accepted_s + done.timing.total_ms / 1e3)

    def has_read(self, num_tokens: int) -> None:
        """Its texts are read: so many tokens."""
        self.clock.end()
        total_ms = 1e3 * self.clock.elapsed_s
        self.done = Done("stop", Usage(num_tokens, 0), Timing(total_ms=total_ms, prompt_tokens=num_tokens))

    def end(self) -> None:
        """Nothing more comes. The answer is put together, and its tokens are let go unless they were asked for."""
        self.choices = self._written()
        if self.request.logprobs is None:
            self.choices = tuple(replace(choice, tokens=(), text_tokens=()) for choice in self.choices)
        self.deltas = []
        self.has_ended = True

    def answer(self) -> tuple[CompletedChoice, ...]:
        """Every choice, as far as it is written."""
        return self.choices if self.has_ended else self._written()

    def _written(self) -> tuple[CompletedChoice, ...]:
        deltas = list(self.deltas)
        if not deltas:
            return ()
        return Completion.of(deltas, self.done or Done("cancelled", Usage(0, 0), Timing())).choices

    @property
    def status(self) -> RequestStatus:
        if self.failure is not None:
            return "failed"
        if self.has_ended:
            return "cancelled" if self.done is None or self.done.finish_reason == "cancelled" else "finished"
        return "waiting" if self.clock.step in _WAITING else "running"

    @property
    def tenant(self) -> str:
        """As Request.tenant."""
        return self.request.tenant

    @property
    def owner(self) -> str:
        """The name of the key or login that it came with, "" where there is one for all."""
        return self.request.tenant.partition("\0")[0]

    @property
    def num_bytes(self) -> int:
        """Memory, about."""
        request = self.request
        letters = sum(part_letters(part) for message in request.messages for part in message.parts)
        letters += sum(len(call.arguments) for message in request.messages for call in message.tool_calls)
        letters += len(request.prompt or "") + sum(len(message.reasoning) for message in request.messages)
        letters += sum(len(str(tool.parameters)) + len(tool.description) for tool in request.tools)
        letters += len(request.grammar.source) if request.grammar else 0
        letters += sum(len(choice.raw) + len(choice.text) + len(choice.reasoning) for choice in self.choices)
        letters += sum(len(call.arguments) for choice in self.choices for call in choice.tool_calls)
        letters += sum(sum(map(part_letters, question.instructions)) + 200 for question in request.questions)
        tokens = sum(1 + len(token.top) for choice in self.choices for token in choice.tokens)
        marks = len(self.clock.marks) * 100
        return _BASE_BYTES + _LETTER_BYTES * letters + 2 * _TOKEN_BYTES * tokens + marks

    def without_media(self) -> None:
        """Let go of the content of its media: they were too large to be kept."""
        messages = tuple(
            replace(message, parts=tuple(_cut(part) for part in message.parts)) for message in self.request.messages
        )
        self.request = replace(self.request, messages=messages)
        self.is_cut = True


def part_letters(part: Part) -> int:
    """Letters of a part: its text, its URL, those of its frames."""
    own = len(part.text) + len(part.url or "") + len(part.description or "")
    return own + sum(part_letters(frame) for frame in part.parts)


def _cut(part: Part) -> Part:
    """Without what a data: URL contains."""
    url = "data:" if part.url and part.url[:5].lower() == "data:" else part.url
    return replace(part, url=url, parts=tuple(_cut(frame) for frame in part.parts))
