"""Who waits, who is prefilled next, who decodes. Pure Python, no MLX; owned by the engine thread.

    submit ──> waiting ──admit──> prefill ──ready──> decode ──> finished
                  └───────────── cancel, at any stage ─────────────┘

Admission is first in, first out. Prompts in prefill take turns chunk by chunk, so a short prompt behind a long one
starts after a chunk of it, not after all of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.errors import EngineError
from engine.runtime.memory import padded_tokens
from engine.types import Event, Request, Stage


@dataclass(eq=False)
class Sequence:
    """A request that the scheduler holds. Times in seconds of time.perf_counter.

    post hands an event (or the error that ends the stream) to the reader; it never blocks and never raises.
    row is the engine's own state for it (prompt, KV, detokenizer), opaque here. granted: there is memory for it.
    """

    id: str
    request: Request
    post: Callable[[Event | EngineError], None]
    accepted_s: float
    submitted_s: float
    media: tuple[Any, ...] = ()
    stage: Stage = "waiting"
    num_prompt: int = 0
    num_cached: int = 0
    num_prefilled: int = 0
    num_generated: int = 0
    started_s: float = 0.0
    first_token_s: float = 0.0
    row: Any = None
    granted: bool = False


# What the engine thread can be told.


@dataclass(frozen=True, slots=True)
class Submit:
    sequence: Sequence


@dataclass(frozen=True, slots=True)
class Cancel:
    request_id: str


CacheAction = Literal[
    "blocks", "sizes", "block", "clear", "pin", "unpin", "drop",
    "features", "pin_features", "unpin_features", "drop_features", "verified", "mismatch",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class CacheCommand:
    """Look at what the cache holds or change it, between two steps. key: of a block or of features; reply gets what
    `action` returns.

    "blocks" -> list[BlockInfo]; "sizes" -> the same without text, which costs the thread far less; "block" -> one
    BlockInfo or None; "clear" -> None; "pin", "unpin", "drop" -> bool, False when there is no such block;
    "features" -> list[FeatureInfo]; "pin_features", "unpin_features", "drop_features" -> bool, likewise;
    "verified", "mismatch" -> None: counts a replay.
    """

    action: CacheAction
    key: bytes
    reply: Future[Any]


@dataclass(frozen=True, slots=True)
class PreflightCommand:
    """Say what a request would cost (engine.runtime.preflight). reply gets a Preflight without pictures."""

    request: Request
    media: tuple[Any, ...]
    reply: Future[Any]


@dataclass(frozen=True, slots=True)
class Stop:
    pass


Command = Submit | Cancel | CacheCommand | PreflightCommand | Stop

TokenObserver = Callable[[Any, Sequence, Any], None]
"""Looks on from the engine thread (engine.measure.selftest): (Loaded, sequence, models.batch.Token) at every token,
before the reader gets it. It must not raise."""


@dataclass
class Scheduler:
    """Queues of sequences, by the limits of EngineConfig.

    Prompts are read ahead of a full batch by no more than prefill_batch_size: their KV waits in memory.
    max_row_tokens: KV tokens, padding included, that fit in memory; None when that is not known. A prompt that does not
    fit beside the others waits, and no other is opened meanwhile; one alone always goes.
    """

    max_num_seqs: int
    chunk_tokens: int
    prefill_batch_size: int = 8
    completion_batch_size: int = 32
    idle_chunk_tokens: int = 2048
    max_row_tokens: int | None = None
    waiting: deque[Sequence] = field(default_factory=deque)
    prefilling: deque[Sequence] = field(default_factory=deque)
    decoding: dict[str, Sequence] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Sequence]:
        yield from self.decoding.values()
        yield from self.prefilling
        yield from self.waiting

    def __len__(self) -> int:
        return len(self.waiting) + len(self.prefilling) + len(self.decoding)

    def submit(self, sequence: Sequence) -> None:
        """Queue a sequence. How many may wait is bounded at the door (engine.runtime.tickets)."""
        self.waiting.append(sequence)

    def admit(self) -> Sequence | None:
        """Move the oldest waiting sequence to prefill if there is room, and return it."""
        ahead = len(self.decoding) + len(self.prefilling)
        most = min(self.max_num_seqs, self.completion_batch_size + self.prefill_batch_size)
        if not self.waiting or ahead >= most or len(self.prefilling) >= self.prefill_batch_size:
            return None
        sequence = self.waiting.popleft()
        sequence.stage = "prefill"
        self.prefilling.append(sequence)
        return sequence

    @property
    def is_full(self) -> bool:
        """Whether no more rows may decode. A prompt is then read but for its last token: who has a first token must not
        wait long for the second."""
        return len(self.decoding) >= self.completion_batch_size

    def next_prefill(self) -> tuple[Sequence, int] | None:
        """The sequence whose turn it is and the most tokens to compute for it now."""
        alone = len(self.prefilling) == 1 and not self.decoding and not self.waiting
        held = any(s.row is not None and not self.grant(s) for s in self.prefilling)
        for _ in range(len(self.prefilling)):
            self.prefilling.rotate(-1)
            sequence = self.prefilling[-1]
            if self.is_full and sequence.num_prompt and sequence.num_prefilled >= sequence.num_prompt - 1:
                continue
            if sequence.granted or (sequence.row is None and not held):
                return sequence, self.idle_chunk_tokens if alone else self.chunk_tokens
        return None

    def grant(self, sequence: Sequence) -> bool:
        """Whether an opened prompt may take its memory now. Once granted, it keeps it to its end."""
        if not sequence.granted:
            others = [s.num_prompt + s.num_generated for s in (*self.decoding.values(), *self.prefilling) if s.granted]
            needed = padded_tokens([*others, sequence.num_prompt])
            sequence.granted = not others or self.max_row_tokens is None or needed <= self.max_row_tokens
        return sequence.granted

    def ready(self, sequence: Sequence) -> None:
        """Its prompt is computed: it decodes from now on."""
        self.prefilling.remove(sequence)
        sequence.stage = "decode"
        self.decoding[sequence.id] = sequence

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence, whatever its stage."""
        if sequence.stage == "waiting":
            self.waiting.remove(sequence)
        elif sequence.stage == "prefill":
            self.prefilling.remove(sequence)
        elif sequence.stage == "decode":
            del self.decoding[sequence.id]
        sequence.stage = "finished"

    def find(self, request_id: str) -> Sequence | None:
        return next((s for s in self if s.id == request_id), None)
