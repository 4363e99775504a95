"""Who waits, who is prefilled next, who decodes: what the next step of the engine does, as a plan. Pure Python.

    submit ──> waiting ──admit──> prefill ──joined──> decode ──> finished
                  │              ↑     ↓                            │
                  │             restoring, from disk                │
                  └────────────── cancel, at any stage ─────────────┘

Sequences leave `waiting` first in, first out. Prompts in prefill take turns chunk by chunk, so a short prompt behind a
long one starts after a chunk of it, not after all of it. Those that are restored take their turns among them. A request
that asks questions has no rows: it ends in prefill, where its questions take turns as the chunks of a prompt do.

`plan` decides and computes nothing; the worker executes and decides nothing. A plan is made of counts of tokens and
rows, never of the clock, so another process that holds the same sequences can execute the same plan.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from engine.runtime.memory_use.memory import padded_tokens
from engine.runtime.sequence import Sequence
from engine.types import BatchState

_TURN_TOKENS = 16
"""What a prompt's turn costs beside its tokens, in tokens: many prompts reused whole do not hold up steps for ever."""


@dataclass(frozen=True, slots=True)
class OpenPrompt:
    """Build the prompt of a sequence, look it up in the prefix cache, run the vision tower; then compute its first
    chunk, of at most num_tokens, which `chunk` plans once the prompt is known. Where a part of it is on disk, only its
    reading begins in this turn."""

    sequence: Sequence
    num_tokens: int


@dataclass(frozen=True, slots=True)
class RestorePrompt:
    """Hand in the next share of what was read from disk for a sequence. After the last one it is opened, see above."""

    sequence: Sequence
    num_tokens: int


@dataclass(frozen=True, slots=True)
class PrefillChunk:
    """Compute the KV of prompt tokens [start, end). keep: store a row snapshot at `end`. join: compute the rest of the
    prompt, too, draw the first token, and let the rows join the batch."""

    sequence: Sequence
    start: int
    end: int
    keep: bool
    join: bool


@dataclass(frozen=True, slots=True)
class ScoreRows:
    """Compute the next rows of a sequence's questions, of at most num_tokens tokens; at least one row."""

    sequence: Sequence
    num_tokens: int


@dataclass(frozen=True, slots=True)
class DecodeStep:
    """One token for every row of the batch."""


Plan = OpenPrompt | RestorePrompt | PrefillChunk | ScoreRows | DecodeStep


@dataclass
class Scheduler:
    """Queues of sequences, by the limits of EngineConfig. Engine thread only.

    Prompts are read ahead of a full batch by no more than prefill_batch_size: their KV waits in memory.
    max_row_tokens: KV tokens, padding included, that fit in memory;
    None when that is not known. A prompt that does not fit beside the others waits, and no other is opened meanwhile;
    one alone always goes.
    """

    max_num_seqs: int
    chunk_tokens: int
    prefill_batch_size: int = 8
    completion_batch_size: int = 32
    idle_chunk_tokens: int = 2048
    max_row_tokens: int | None = None
    waiting: deque[Sequence] = field(default_factory=deque)
    prefilling: deque[Sequence] = field(default_factory=deque)
    decoding: list[Sequence] = field(default_factory=list)
    tokens_since_step: int = 0
    reading_tokens: int = 0
    """Of a long text that is read beside the requests (engine.runtime.text_readings): its KV takes room as a row's."""
    next_to_join: Sequence | None = None
    """A prompt that is read and waits for room in the batch: nobody else takes it, or n > 1 would never have enough."""

    def __iter__(self) -> Iterator[Sequence]:
        yield from self.decoding
        yield from self.prefilling
        yield from self.waiting

    def __len__(self) -> int:
        return len(self.waiting) + len(self.prefilling) + len(self.decoding)

    def submit(self, sequence: Sequence) -> None:
        """Queue a sequence. How many may wait is bounded at the door (engine.runtime.intake.tickets)."""
        self.waiting.append(sequence)

    def admit(self) -> Sequence | None:
        """Move the oldest waiting sequence to prefill if there is room, and return it."""
        ahead = len(self.decoding) + len(self.prefilling)
        if not self.waiting or ahead >= self.max_at_once or len(self.prefilling) >= self.prefill_batch_size:
            return None
        sequence = self.waiting.popleft()
        sequence.stage = "prefill"
        self.prefilling.append(sequence)
        return sequence

    @property
    def max_at_once(self) -> int:
        """Sequences that are worked on at once, as far as memory has room for them."""
        return min(self.max_num_seqs, self.completion_batch_size + self.prefill_batch_size)

    @property
    def num_rows(self) -> int:
        """Answers that decode."""
        return sum(len(sequence.row_tokens) for sequence in self.decoding)

    def is_full(self, sequence: Sequence) -> bool:
        """Whether the rows of this sequence may not decode yet. Its prompt is then read but for its last token: who
        has a first token must not wait long for the second."""
        if sequence.scoring is not None:  # it never has rows there
            return False
        if self.next_to_join not in (None, sequence):
            return True
        num_rows = self.num_rows
        return num_rows > 0 and num_rows + sequence.request.n > self.completion_batch_size

    def plan(self) -> Plan | None:
        """What to do next, None when there is nothing. The caller executes it and says what came of it
        (`took_turn`, `restoring`, `restored`, `prefilled`, `scored`, `joined`, `stepped`) before it asks for more."""
        if self.step_is_due():
            if self.decoding:
                return DecodeStep()
            self.stepped()
        turn = self.next_prefill()
        if turn is None:
            return DecodeStep() if self.decoding else None
        sequence, num_tokens = turn
        if sequence.is_scored:
            return ScoreRows(sequence, max(1, num_tokens - (self.tokens_since_step if self.decoding else 0)))
        if sequence.is_open:
            return self.chunk(sequence, num_tokens)
        return (OpenPrompt if sequence.restore is None else RestorePrompt)(sequence, num_tokens)

    def step_is_due(self) -> bool:
        """Whether running rows get their token before any more prompt work: after half a chunk of prompt tokens. Not
        after each prompt, so that two or three short ones join the batch together."""
        return self.tokens_since_step >= max(1, self.chunk_tokens // 2)

    def next_prefill(self) -> tuple[Sequence, int] | None:
        """The sequence whose turn it is and the most tokens to compute for it now."""
        alone = len(self.prefilling) == 1 and not self.decoding and not self.waiting
        one_waits_for_memory = any(s.is_open and not self.try_grant(s) for s in self.prefilling)
        for _ in range(len(self.prefilling)):
            self.prefilling.rotate(-1)
            sequence = self.prefilling[-1]
            if sequence.restore is not None and not sequence.restore.ready:
                continue
            is_read = sequence.is_open and sequence.num_prefilled >= sequence.num_prompt - 1
            if (sequence.prompt.is_whole or is_read) and self.is_full(sequence):
                if sequence.granted and self.next_to_join is None:
                    self.next_to_join = sequence
                continue
            if sequence.granted or (not sequence.is_open and not one_waits_for_memory):
                return sequence, self.idle_chunk_tokens if alone else self.chunk_tokens
        return None

    def chunk(self, sequence: Sequence, num_tokens: int) -> PrefillChunk | None:
        """What is computed of an opened prompt in this turn, at most num_tokens; None while it waits for memory, or for
        room in the batch where it is read as a whole."""
        is_whole = sequence.prompt.is_whole
        if not self.try_grant(sequence) or (is_whole and self.is_full(sequence)):
            return None
        if self.decoding:
            num_tokens -= self.tokens_since_step
        start, num_prompt, is_full = sequence.num_prefilled, sequence.num_prompt, self.is_full(sequence)
        end = num_prompt
        if not is_whole:
            end = min(start + max(1, num_tokens), num_prompt - 1 if is_full else num_prompt)
        snapshot_ends = [at for at in sequence.snapshot_ends if start < at <= end]
        end = min([end, *snapshot_ends])
        keep = end in snapshot_ends
        join = end == num_prompt or (keep and end == num_prompt - 1 and not is_full)
        return PrefillChunk(sequence, start, end, keep, join)

    def try_grant(self, sequence: Sequence) -> bool:
        """Give an opened prompt its memory if there is room, and say whether it has it. Once granted, it keeps it to
        its end."""
        if not sequence.granted:
            sequence.granted = self._has_room(sequence.row_tokens)
        return sequence.granted

    def try_read(self, num_tokens: int) -> bool:
        """The same for a long text; whoever reads it takes the room, and gives it back."""
        return not self.reading_tokens and self._has_room([num_tokens])

    def _has_room(self, row_tokens: list[int]) -> bool:
        others = self._granted_tokens()
        needed = padded_tokens([*others, *row_tokens])
        return not others or self.max_row_tokens is None or needed <= self.max_row_tokens

    def _granted_tokens(self) -> list[int]:
        """KV tokens of each row that has its memory."""
        granted = [s for s in (*self.decoding, *self.prefilling) if s.granted]
        tokens = [num_tokens for s in granted for num_tokens in s.row_tokens]
        return [*tokens, self.reading_tokens] if self.reading_tokens else tokens

    def state(self) -> BatchState:
        """What is worked on now, and its limits."""
        return BatchState(
            num_rows=self.num_rows,
            max_rows=self.completion_batch_size,
            max_requests=self.max_at_once,
            kv_tokens=padded_tokens(self._granted_tokens()),
            max_kv_tokens=self.max_row_tokens,
            num_waiting_for_memory=sum(s.is_open and not s.granted for s in self.prefilling),
        )

    # What came of a step.

    def took_turn(self) -> None:
        """A prompt had a turn, whatever was done in it."""
        self.tokens_since_step += _TURN_TOKENS

    def restoring(self, sequence: Sequence) -> None:
        """Its blocks are being read from disk."""
        sequence.stage = "restoring"

    def restored(self, sequence: Sequence, is_last: bool) -> None:
        """A share of what is on disk is in memory: running rows take a step before the next share."""
        self.tokens_since_step = max(self.tokens_since_step, self.chunk_tokens // 2)
        if is_last:
            sequence.stage = "prefill"

    def prefilled(self, sequence: Sequence, end: int) -> None:
        """Prompt tokens up to `end` are computed."""
        self.tokens_since_step += end - sequence.num_prefilled
        sequence.num_prefilled = end

    def scored(self, num_tokens: int) -> None:
        """Rows of questions with so many tokens are computed."""
        self.tokens_since_step += num_tokens

    def joined(self, sequence: Sequence) -> None:
        """Its prompt is computed: it decodes from now on."""
        self._joins_no_more(sequence)
        self.prefilling.remove(sequence)
        sequence.stage = "decode"
        self.decoding.append(sequence)

    def stepped(self) -> None:
        """Every row got a token, or there was none."""
        self.tokens_since_step = 0

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence, whatever its stage. Nothing happens to one that is not held."""
        for queue in (self.waiting, self.prefilling, self.decoding):
            if sequence in queue:
                queue.remove(sequence)
        self._joins_no_more(sequence)
        sequence.stage = "finished"

    def _joins_no_more(self, sequence: Sequence) -> None:
        if self.next_to_join is sequence:
            self.next_to_join = None
