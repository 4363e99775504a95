"""Records what the engine computes, on the engine thread. The thread that sent a request reads its record once the
request has ended; of a running request it reads only how many tokens there are."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np

from engine.measure.selftest import reference
from engine.measure.selftest.fixtures import DrawnMedium
from engine.measure.selftest.judge import ObservedRun, StepLogprobs
from engine.measure.selftest.reference import Arrays, Reference
from engine.models import sampling
from engine.models.registry import Loaded
from engine.runtime.sequence import Choice, Sequence
from engine.types.prompt import Span

log = logging.getLogger(__name__)


@dataclass
class Observation:
    """One request: tokens and their log-probabilities, the spans of its media, the arrays that the model was given.

    turns: for each token, how many tokens all requests together had by then. reference: what the processor makes of the
    medium by itself; trouble: why that failed. sampler_agrees: see ObservedRun.
    """

    tokens: list[int] = field(default_factory=list)
    logprobs: list[StepLogprobs] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    spans: tuple[Span, ...] = ()
    arrays: Arrays = field(default_factory=dict)
    reference: Reference | None = None
    trouble: str = ""
    sampler_agrees: bool | None = None
    sampler: Any = None

    def run(self) -> ObservedRun:
        return ObservedRun(tuple(self.tokens), tuple(self.logprobs), self.sampler_agrees)


@dataclass
class Observer:
    """Called by the worker for every token. loaded: the model, known after its first token.

    followed: ids of the requests whose log-probabilities are recorded. media: by request id, the picture or clip whose
    arrays are to be compared with the processor's. observations: by request id.
    """

    loaded: Loaded | None = None
    followed: set[str] = field(default_factory=set)
    media: dict[str, DrawnMedium] = field(default_factory=dict)
    observations: dict[str, Observation] = field(default_factory=dict)
    num_tokens: int = 0

    def __call__(self, loaded: Loaded, choice: Choice, token: Any) -> None:
        sequence = choice.sequence
        self.loaded = loaded
        self.num_tokens += 1
        observation = self.observations.setdefault(sequence.id, Observation())
        observation.turns.append(self.num_tokens)
        if sequence.id not in self.followed:
            return
        if not observation.tokens:
            self._open(loaded, sequence, observation)
        observation.tokens.append(token.id)
        observation.logprobs.append(np.array(token.logprobs.astype(mx.float32)))
        if observation.sampler is not None:
            sampled = int(observation.sampler(token.logprobs[None]).item())
            observation.sampler_agrees = observation.sampler_agrees is not False and sampled == token.id

    def _open(self, loaded: Loaded, sequence: Sequence, observation: Observation) -> None:
        """At the first token: record the prompt's media, and make a second sampler with the request's seed."""
        observation.spans = sequence.prompt.spans
        if sequence.sampling.temperature:
            observation.sampler = sampling.make_sampler(sequence.sampling)
        medium = self.media.get(sequence.id)
        if medium is None:
            return
        observation.arrays = reference.arrays(sequence.prompt.inputs)
        try:
            observation.reference = reference.read(
                loaded, medium, [index for index, _ in sequence.prompt.media[0].media.frames]
            )
        except Exception as error:
            log.debug("the processor alone failed", exc_info=True)
            observation.trouble = f"{type(error).__name__}: {error}"
