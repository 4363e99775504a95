"""One request in the engine, from admission to its end: Sequence, and a Choice for each answer it gives.

Owned by the engine thread. MLX objects are only held here, so this file imports none of them when it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine.errors import EngineError
from engine.types import Delta, Event, FinishReason, GeneratedToken, Request, Sampling, Stage, StageClock
from engine.types.media import Media
from engine.types.prompt import Prompt

if TYPE_CHECKING:
    from engine.cache.disk.restore import Restore
    from engine.cache.prefix import Lease
    from engine.grammar.follow import CompiledGrammar
    from engine.grammar.mask import AnswerMask
    from engine.models.embeddings import Embeddings, Encoding
    from engine.models.proposer import Proposer
    from engine.runtime.decisions.scoring import Scoring
    from engine.runtime.estimates.expectation import Observed
    from engine.runtime.output.detokenizer import Detokenizer

SCORED_ROWS = 4
"""While options are scored, a sequence has memory for so many rows beside its prompt."""


@dataclass(eq=False)
class Choice:
    """One answer of a sequence; while it decodes it is a row of the batch.

    row: its number in the batch, None before it joined and after it left. token_ids: the answer so far, a stop token
    included. mask: what may not come next in it, where anything is forbidden. pending: text that waits to be handed out
    (EngineConfig.stream_interval). num_reasoning: tokens handed out so far that were thoughts. proposer: of
    tokens for it, None for none; num_accepted: tokens handed out so far that were proposed.
    """

    sequence: Sequence
    index: int
    detokenizer: Detokenizer
    mask: AnswerMask | None = None
    row: int | None = None
    token_ids: list[int] = field(default_factory=list)
    pending: list[Delta] = field(default_factory=list)
    num_reasoning: int = 0
    proposer: Proposer | None = None
    num_accepted: int = 0
    finish_reason: FinishReason | None = None


@dataclass(eq=False)
class Sequence:
    """A request that the engine holds. It is told from others by identity; its id is only the request's label.

    post hands an event (or the error that ends the stream) to the reader; it never blocks and never raises.
    Times in seconds of time.perf_counter. prepared_prompt: of a long text, built off the engine thread
    (engine.prompt.text). grammar: that its answers follow, compiled there too. granted: there is memory for its KV.
    scoring: it asks questions in place of writing an answer; num_prompt is then what these share. loaded_s: when its
    media were there. observed: what the next one's expectation is made of. clock: is told of each stage as it begins.

    From admission on (engine.runtime.admission): prompt; restore, what is being read from disk for it; lease, what it
    holds of the prefix cache; embeddings of a prompt with media, and encoding, what the vision tower did for them;
    cache, the KV layers of its one prefill; snapshot_ends, token positions at which prefill pauses to store a row
    snapshot; sampling, max_tokens and stop_ids (tokens that end an answer) as they were resolved; prompt_tokens with
    their log-probabilities, where they were asked for and not handed out yet; choices, one for each answer of the n.
    """

    request: Request
    post: Callable[[Event | EngineError], None]
    accepted_s: float
    submitted_s: float
    loaded_s: float = 0.0
    clock: StageClock = field(default_factory=StageClock)
    media: tuple[Media, ...] = ()
    prepared_prompt: Prompt | None = None
    grammar: CompiledGrammar | None = None
    scoring: Scoring | None = None
    stage: Stage = "waiting"
    num_prompt: int = 0
    num_cached: int = 0
    num_prefilled: int = 0
    started_s: float = 0.0
    first_token_s: float = 0.0
    observed: Observed | None = None
    granted: bool = False

    prompt: Prompt = field(default_factory=lambda: Prompt([], []))
    restore: Restore | None = None
    lease: Lease | None = None
    embeddings: Embeddings | None = None
    encoding: Encoding | None = None
    cache: list[Any] = field(default_factory=list)
    snapshot_ends: tuple[int, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int = 0
    stop_ids: frozenset[int] = frozenset()
    media_first: bool = False
    prompt_tokens: list[GeneratedToken] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)

    @property
    def id(self) -> str:
        """The request's label, for the log and the tabs."""
        return self.request.id

    @property
    def is_open(self) -> bool:
        """Whether admission is over: its KV can be computed."""
        return bool(self.choices)

    @property
    def num_generated(self) -> int:
        """Tokens of all its answers so far."""
        return sum(len(choice.token_ids) for choice in self.choices)

    @property
    def num_read(self) -> int:
        """Tokens that its request has the model read: the prompt's, and those of questions."""
        return self.num_prompt + (self.scoring.num_tokens if self.scoring else 0)

    @property
    def is_scored(self) -> bool:
        """Whether its prompt is computed, and what is left are questions."""
        return self.scoring is not None and self.is_open and self.num_prefilled == self.num_prompt

    @property
    def row_tokens(self) -> list[int]:
        """KV tokens of each row it has, or will have, in the batch."""
        if self.scoring is not None:
            return [self.num_prompt] * (1 + SCORED_ROWS)
        if not self.choices:
            return [self.num_prompt] * self.request.n
        return [self.num_prompt + len(c.token_ids) for c in self.choices if c.finish_reason is None]
