"""Looks on from the engine thread while the self-test asks. A record is read by the asking thread once its request
has ended; of one that runs, only how many tokens it has."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np

from engine.measure.selftest import reference
from engine.measure.selftest.fixtures import Drawn
from engine.measure.selftest.judge import ObservedRun, StepLogprobs
from engine.measure.selftest.reference import Arrays, Reference
from engine.models import sampling
from engine.models.registry import Loaded
from engine.runtime.sequence import Choice, Sequence
from engine.types.prompt import Span

log = logging.getLogger(__name__)


@dataclass
class Observation:
    """One request: tokens and their log-probabilities, the spans of its media, the arrays the model was given.

    turns: the place of each token among all tokens of all requests. reference: what the processor makes of `drawn`
    alone; trouble: why that is not known.
    """

    tokens: list[int] = field(default_factory=list)
    logprobs: list[StepLogprobs] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    spans: tuple[Span, ...] = ()
    arrays: Arrays = field(default_factory=dict)
    reference: Reference | None = None
    trouble: str = ""
    drawn: bool | None = None
    sampler: Any = None

    def run(self) -> ObservedRun:
        return ObservedRun(tuple(self.tokens), tuple(self.logprobs), self.drawn)


@dataclass
class Observer:
    """Called by the worker at every token. loaded: the model, once it has given a token.

    followed: requests whose log-probabilities are kept. shown: what a followed request shows to the model, where its
    arrays are to be held against the processor's own.
    """

    loaded: Loaded | None = None
    followed: set[str] = field(default_factory=set)
    shown: dict[str, Drawn] = field(default_factory=dict)
    seen: dict[str, Observation] = field(default_factory=dict)
    num_tokens: int = 0

    def __call__(self, loaded: Loaded, choice: Choice, token: Any) -> None:
        sequence = choice.sequence
        self.loaded = loaded
        self.num_tokens += 1
        seen = self.seen.setdefault(sequence.id, Observation())
        seen.turns.append(self.num_tokens)
        if sequence.id not in self.followed:
            return
        if not seen.tokens:
            self._open(loaded, sequence, seen)
        seen.tokens.append(token.id)
        seen.logprobs.append(np.array(token.logprobs.astype(mx.float32)))
        if seen.sampler is not None:
            drawn = int(seen.sampler(token.logprobs[None]).item())
            seen.drawn = seen.drawn is not False and drawn == token.id

    def _open(self, loaded: Loaded, sequence: Sequence, seen: Observation) -> None:
        """At the first token: the prompt's media, and a sampler of the request's own to draw beside the batch's."""
        seen.spans = sequence.prompt.spans
        if sequence.sampling.temperature:
            seen.sampler = sampling.make_sampler(sequence.sampling)
        drawn = self.shown.get(sequence.id)
        if drawn is None:
            return
        seen.arrays = reference.arrays(sequence.prompt.inputs)
        try:
            seen.reference = reference.read(
                loaded, drawn, [index for index, _ in sequence.prompt.media[0].media.frames]
            )
        except Exception as error:
            log.debug("the processor alone failed", exc_info=True)
            seen.trouble = f"{type(error).__name__}: {error}"
