"""What a row says behind several tokens that were read together: its own sampler and processors, asked as one step
after the other would ask them, and set back to where the row goes on. Engine thread only.

A proposed token stays while it is what the row itself draws at that place, with the random numbers that are the place's
own. Of tokens that are proposed for certain this is the rule of rejection sampling: one of probability p is drawn, and
so stays, with probability p; what is drawn otherwise comes in its place. Answers are thus drawn as without speculation,
and a seed gives the same tokens with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from engine.grammar.mask import AnswerMask, Watched
from engine.models.sampling import Bias, LogitsProcessor, Penalties, Sampler, SeededSampler, is_greedy


def can_draw_ahead(sampler: Sampler, processors: Sequence[LogitsProcessor]) -> bool:
    """Whether a row with these can be asked for several tokens and be set back: one that plays tokens cannot."""
    drawing = _unwatched(sampler)
    is_known = is_greedy(drawing) or isinstance(drawing, SeededSampler)
    return is_known and all(isinstance(process, Bias | Penalties | AnswerMask) for process in processors)


def _unwatched(sampler: Sampler) -> Sampler:
    return sampler.sampler if isinstance(sampler, Watched) else sampler


_Part = SeededSampler | Penalties | AnswerMask
"""Of a row, what remembers."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a row says behind each token that was read. tokens: (places,), and said, the same in numbers; is_sure: each
    is the same, whatever a pass over several tokens may have got wrong; logprobs: (vocabulary,) that each was chosen
    from; _parts, _states: what of the row remembers, and what it did before the first place and behind each."""

    tokens: mx.array
    said: list[int]
    is_sure: list[bool]
    logprobs: list[mx.array]
    _parts: list[_Part]
    _states: list[list[Any]]

    def go_on_behind(self, num_tokens: int) -> None:
        """Set the row back to where only so many of the tokens were read."""
        for part, state in zip(self._parts, self._states[num_tokens], strict=True):
            part.state = state
            if isinstance(part, AnswerMask) and num_tokens:
                part.drawn = self.tokens[num_tokens - 1 : num_tokens]


def draw_behind(
    logits: mx.array, ids: Sequence[int], sampler: Sampler, processors: Sequence[LogitsProcessor], slack: float
) -> Drawn:
    """Of logits (places, vocabulary) behind each of these tokens, of a row that can draw ahead; evaluated.

    slack: how much further apart any two logits may be, or nearer, in a pass over one token."""
    sampler = _unwatched(sampler)
    asked: list[Any] = [sampler, *processors]
    parts: list[_Part] = [part for part in asked if isinstance(part, _Part)]
    states: list[list[Any]] = [[part.state for part in parts]]
    context = mx.array(list(ids))
    rows, noise, is_held = [], [], []
    for place, token in enumerate(ids):
        row = logits[place : place + 1]
        for process in processors:
            row = process.behind(token, row) if isinstance(process, AnswerMask) else process(context[: place + 1], row)
        rows.append(row)
        is_held.append(not any(isinstance(part, AnswerMask) and part.error for part in parts))
        noise += [sampler.noise(row.shape[-1])] if isinstance(sampler, SeededSampler) else []
        states.append([part.state for part in parts])
    processed = mx.concatenate(rows)
    logprobs = processed - mx.logsumexp(processed, axis=-1, keepdims=True)
    slack *= math.prod(part.gain for part in parts if isinstance(part, Penalties))
    if isinstance(sampler, SeededSampler):
        tokens, is_sure = _drawn(sampler, logprobs, mx.concatenate(noise), slack)
    else:
        tokens = sampler(logprobs)
        is_sure = ~_near(tokens, logprobs, slack).any(axis=-1)
    is_sure = is_sure & mx.array(is_held)
    by_place = list(logprobs)
    mx.eval(tokens, is_sure, by_place)
    return Drawn(tokens, np.array(tokens).tolist(), np.array(is_sure).tolist(), by_place, parts, states)


def _drawn(sampler: SeededSampler, logprobs: mx.array, noise: mx.array, slack: float) -> tuple[mx.array, mx.array]:
    """Tokens as they are drawn, and whether each surely is: the filters keep it, and drop all that come near it."""
    filtered = sampler.filtered(logprobs)
    tokens = mx.argmax(sampler.scores(filtered, noise), axis=-1)
    is_near = _near(tokens, sampler.scores(logprobs, noise), slack / sampler.temperature)
    is_first = ~is_near.any(axis=-1, keepdims=True)
    if filtered is logprobs:
        return tokens, is_first[:, 0]
    logprobs = logprobs.astype(mx.float32)
    own = mx.take_along_axis(logprobs, tokens[:, None], axis=-1)
    likeliest = mx.where(is_near, logprobs, -mx.inf).max(axis=-1, keepdims=True)  # dropped, so are the others
    is_sure = sampler.keeps(logprobs, own, -slack) & (is_first | ~sampler.keeps(logprobs, likeliest, slack))
    return tokens, is_sure[:, 0]


def _near(tokens: mx.array, scores: mx.array, slack: float) -> mx.array:
    """Which others of (places, vocabulary) are at most so far below the place's token, or above it."""
    at = tokens[:, None]
    others = mx.arange(scores.shape[-1])[None] != at
    return others & (scores >= mx.take_along_axis(scores, at, axis=-1) - slack)
