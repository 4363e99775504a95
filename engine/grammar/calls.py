"""Calls that a model begins by itself, held to their schemas from the mark that opens one to the mark that closes it.

    I shall look. <tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call> One moment …
    └── free ──┘└─ opens it ┘└────────── held to the grammar ───────────────┘└──── free ───┘

What stands before, between and behind calls is free, and so is reasoning, in which a mark opens nothing. No MLX.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.errors import BadRequest
from engine.grammar.budget import MarksState, ReasoningMarks
from engine.grammar.follow import CompiledGrammar, Trail
from engine.grammar.schemas import closed
from engine.types import Grammar, Request, Tool

PARAM = "tools"

CallState = tuple[bytes, Trail | None, int, MarksState | None, BadRequest | None]


def holds_calls(request: Request) -> bool:
    """Whether its answer is free but for the calls in it. A form that its answer must have says it of calls, too."""
    return request.tool_choice.mode == "auto" and request.grammar is None and bool(strict_tools(request))


def strict_tools(request: Request) -> tuple[Tool, ...]:
    """Those that it offers and whose calls are to follow their schemas."""
    return tuple(tool for tool in request.offered_tools if tool.strict)


def calls_grammar(request: Request, end: str, end_id: int | None) -> Grammar:
    """What follows the mark that opens a call: JSON with its name and arguments, as models of many families write it,
    then the mark that closes it. end_id: of the token that is this mark, None where there is none."""
    tools = request.offered_tools
    return Grammar("calls", "\n".join(_rules(tools, end, end_id)) + "\n", PARAM)


def _rules(tools: tuple[Tool, ...], end: str, end_id: int | None) -> Iterator[str]:
    yield "start: WS call WS end"
    yield "call: " + " | ".join(f"call_{i}" for i in range(len(tools)))
    yield f"end: {json.dumps(end)}" + ("" if end_id is None else f" | <[{end_id}]>")
    yield r"WS: /[ \t\r\n]{0,24}/"
    for i, tool in enumerate(tools):
        name = json.dumps(json.dumps(tool.name, ensure_ascii=False), ensure_ascii=False)
        schema = json.dumps(closed(tool.parameters or {"type": "object"}) if tool.strict else {"type": "object"})
        yield rf'call_{i}: "{{" WS "\"name\"" WS ":" WS {name} WS "," WS "\"arguments\"" WS ":" WS given_{i} WS "}}"'
        yield f"given_{i}: %json {schema}"


class CallFollower:
    """Where an answer with free text and calls is, and which tokens may come next; as engine.grammar.follow.Follower.

    start: the mark that opens a call, in any tokens. reasoning: where its reasoning begins and ends; None for a model
    that does not reason.
    """

    is_reasoning = False
    """The end of an answer is not forbidden while it reasons, since it may have no form."""

    def __init__(self, compiled: CompiledGrammar, start: str, reasoning: ReasoningMarks | None) -> None:
        self._compiled = compiled
        self._start = start.encode()
        self._reasoning = reasoning
        self._tail = b""
        self._call: Trail | None = None
        self.error: BadRequest | None = None

    @property
    def state(self) -> CallState:
        """As Follower.state."""
        num_taken = len(self._call) if self._call is not None else 0
        reasoning = self._reasoning.state if self._reasoning is not None else None
        return self._tail, self._call, num_taken, reasoning, self.error

    @state.setter
    def state(self, state: CallState) -> None:
        self._tail, self._call, num_taken, reasoning, self.error = state
        if self._call is not None:
            self._call.set_back(num_taken)
        if self._reasoning is not None and reasoning is not None:
            self._reasoning.state = reasoning

    def accept(self, token: int) -> None:
        """Take the token that came."""
        if self.error:
            return
        if self._call is not None:
            self._consume([token])
        elif self._reasoning is None or self._reasoning.accept(token) == "answer":
            self._look_for_start(self._compiled.vocabulary.decode_bytes([token]))
        else:
            self._tail = b""

    def allowed(self) -> NDArray[np.bool_] | None:
        """As Follower.allowed: None outside calls."""
        if self._call is None or self.error:
            return None
        allowed = self._call.next_tokens()
        if allowed is None:
            self._note_error()
        return allowed

    def forced(self) -> Sequence[int]:
        """As Follower.forced."""
        return () if self._call is None or self.error else self._call.forced()

    def _look_for_start(self, raw: bytes) -> None:
        before, found, behind = (self._tail + raw).partition(self._start)
        if not found:
            self._tail = before[-len(self._start) :]
            return
        self._tail, self._call = b"", Trail(self._compiled)
        if behind:  # a token that reaches over the mark
            self._consume(self._compiled.vocabulary.tokenize_bytes(behind))

    def _consume(self, tokens: list[int]) -> None:
        assert self._call is not None
        if not all(self._call.take(token) for token in tokens):
            self._note_error()
        elif self._call.is_stopped:
            self._call = None

    def _note_error(self) -> None:
        assert self._call is not None
        self.error = self._call.refusal("a call could not follow its schema")
        self._call = None
