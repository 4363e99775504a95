"""What a row says behind several tokens that were read together: its own sampler and processors, asked as one step
after the other would ask them, and set back to where the row goes on. Engine thread only.

A proposed token stays while it is what the row itself draws at that place, with the random number that is the place's
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

from engine.models.sampling import Bias, LogitsProcessor, Penalties, Sampler, SeededSampler, draw, is_greedy

_ROUNDING, _MOST_EXPONENT = 1e-4, 80.0
"""What sums of float32 are off by, as an exponent; and the greatest that still is a number there."""


def can_draw_ahead(sampler: Sampler, processors: Sequence[LogitsProcessor]) -> bool:
    """Whether a row with these can be asked for several tokens and be set back: a mask or forced tokens cannot."""
    is_known = is_greedy(sampler) or isinstance(sampler, SeededSampler)
    return is_known and all(isinstance(process, Bias | Penalties) for process in processors)


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a row says behind each token that was read. tokens: (places,), and said, the same in numbers; is_sure: each
    is the same, whatever a pass over several tokens may have got wrong; logprobs: (vocabulary,) that each was chosen
    from; _parts, _states: what of the row remembers, and what it did before the first place and behind each."""

    tokens: mx.array
    said: list[int]
    is_sure: list[bool]
    logprobs: list[mx.array]
    _parts: list[SeededSampler | Penalties]
    _states: list[list[Any]]

    def go_on_behind(self, num_tokens: int) -> None:
        """Set the row back to where only so many of the tokens were read."""
        for part, state in zip(self._parts, self._states[num_tokens], strict=True):
            part.state = state


def draw_behind(
    logits: mx.array, ids: Sequence[int], sampler: Sampler, processors: Sequence[LogitsProcessor], slack: float
) -> Drawn:
    """Of logits (places, vocabulary) behind each of these tokens, of a row that can draw ahead; evaluated.

    slack: how much further apart any two logits may be, or nearer, in a pass over one token."""
    asked: list[Any] = [sampler, *processors]
    parts: list[SeededSampler | Penalties] = [part for part in asked if isinstance(part, SeededSampler | Penalties)]
    states: list[list[Any]] = [[part.state for part in parts]]
    context = mx.array(list(ids))
    rows, numbers = [], []
    for place in range(len(ids)):
        row = logits[place : place + 1]
        for process in processors:
            row = process(context[: place + 1], row)
        rows.append(row)
        numbers += [sampler.number()] if isinstance(sampler, SeededSampler) else []
        states.append([part.state for part in parts])
    processed = mx.concatenate(rows)
    logprobs = processed - mx.logsumexp(processed, axis=-1, keepdims=True)
    slack *= math.prod(part.gain for part in parts if isinstance(part, Penalties))
    if isinstance(sampler, SeededSampler):
        tokens, is_sure = _drawn(sampler, logprobs, mx.concatenate(numbers), slack)
    else:
        tokens, is_sure = _greatest(sampler, logprobs, slack)
    by_place = list(logprobs)
    mx.eval(tokens, is_sure, by_place)
    return Drawn(tokens, np.array(tokens).tolist(), np.array(is_sure).tolist(), by_place, parts, states)


def _greatest(sampler: Sampler, logprobs: mx.array, slack: float) -> tuple[mx.array, mx.array]:
    """The likeliest tokens, and whether each is that much likelier than the next."""
    tokens = sampler(logprobs)
    at = tokens[:, None]
    others = mx.put_along_axis(logprobs, at, mx.array(-mx.inf, logprobs.dtype), axis=-1)
    best = mx.take_along_axis(logprobs, at, axis=-1)[:, 0].astype(mx.float32)
    return tokens, best - others.max(axis=-1).astype(mx.float32) > slack


def _drawn(sampler: SeededSampler, logprobs: mx.array, numbers: mx.array, slack: float) -> tuple[mx.array, mx.array]:
    """Tokens as they are drawn, and whether each number would hit the same one, whichever of the tokens before it and
    behind it have the difference, and are kept by the filters."""
    filtered, shares = sampler.filtered(logprobs), sampler.weights(logprobs)
    if filtered is logprobs:
        sums = mx.cumsum(shares, axis=-1)
        tokens = draw(shares, sums, numbers)
        at = tokens[:, None]
        own = mx.take_along_axis(shares, at, axis=-1)
        least = most = _around(sums, own, at)
        is_kept = mx.array(True)
    else:
        weights = sampler.weights(filtered)
        tokens = draw(weights, mx.cumsum(weights, axis=-1), numbers)
        at = tokens[:, None]
        own = mx.take_along_axis(shares, at, axis=-1)
        surely, perhaps = sampler.kept_within(logprobs.astype(mx.float32), filtered > -mx.inf, slack)
        is_kept = mx.take_along_axis(surely, at, axis=-1)
        # Where the token itself is not surely kept, nothing is sure, and these are not looked at.
        least, most = (
            _around(mx.cumsum(mx.where(those, shares, 0.0), axis=-1), own, at) for those in (surely, perhaps)
        )
    factor = math.exp(min(slack / sampler.temperature + _ROUNDING, _MOST_EXPONENT))
    latest_start = factor * most[0] / (factor * most[0] + own + least[1])
    earliest_end = (least[0] + own) / (least[0] + own + factor * most[1])
    return tokens, ((numbers >= latest_start) & (numbers < earliest_end) & is_kept)[:, 0]


def _around(sums: mx.array, own: mx.array, at: mx.array) -> tuple[mx.array, mx.array]:
    """What comes before the token in sums over the vocabulary, and what behind it, (places, 1)."""
    upto = mx.take_along_axis(sums, at, axis=-1)
    return mx.maximum(upto - own, 0.0), sums[:, -1:] - upto
