"""Sampling -> a sampler with its own random key, and logits processors. Engine thread only.

Each request has its own sampler object and key, so the same seed gives the same tokens in any batch. All greedy
requests share ONE function: mlx-lm's batcher then samples the whole batch in one call.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.sample_utils import apply_min_p, apply_top_k, apply_top_p, greedy_sampler
from numpy.typing import NDArray

from engine.types import Sampling

Sampler = Callable[[mx.array], mx.array]
LogitsProcessor = Callable[[mx.array, mx.array], mx.array]

DEFAULT_TEMPERATURE = 0.7
"""Where neither the request, the server nor the checkpoint says one."""

LEAST_TEMPERATURE = 1e-4
"""Below it is greedy: the logits divided by so little are no numbers any more."""


class SeededSampler:
    """Temperature, top-p, min-p, top-k over log-probabilities (1, vocab) -> token (1,), from the request's own key.

    Each token of the vocabulary gets a random number, and the one that is greatest with it is drawn (Gumbel). Whoever
    draws from nearly the same log-probabilities with the same numbers draws nearly always the same token. state: of the
    random numbers; set back to what it was, it gives the same ones again.
    """

    def __init__(self, sampling: Sampling) -> None:
        self.temperature = sampling.temperature or 0.0
        self._top_p = sampling.top_p or 1.0
        self._min_p = sampling.min_p or 0.0
        self._top_k = sampling.top_k or 0
        self.state = mx.random.key(secrets.randbits(64) if sampling.seed is None else sampling.seed % 2**64)

    def __call__(self, logprobs: mx.array) -> mx.array:
        return mx.argmax(self.scores(self.filtered(logprobs), self.noise(logprobs.shape[-1])), axis=-1)

    def noise(self, num_ids: int) -> mx.array:
        """The random numbers of the next token, (1, num_ids)."""
        self.state, key = mx.random.split(self.state)
        return mx.random.gumbel((1, num_ids), key=key)

    def scores(self, logprobs: mx.array, noise: mx.array) -> mx.array:
        """Of these the greatest is drawn."""
        return logprobs / self.temperature + noise

    def filtered(self, logprobs: mx.array) -> mx.array:
        """-inf for tokens that cannot come; the same object where there is no filter."""
        if 0.0 < self._top_p < 1.0:
            logprobs = apply_top_p(logprobs, self._top_p)
        if self._min_p > 0.0:
            logprobs = apply_min_p(logprobs, self._min_p)
        if 0 < self._top_k < logprobs.shape[-1]:
            logprobs = apply_top_k(logprobs, self._top_k)
        return logprobs

    def keeps(self, logprobs: mx.array, own: mx.array, more: float) -> mx.array:
        """Whether every filter would keep one of the tokens of each place, if it had so much more against every other.

        logprobs: (places, vocabulary) in float32; own: the token's, (places, 1). A tie counts against more."""
        is_above = (logprobs > own + more) if more > 0 else (logprobs >= own + more)
        num_own = 0 if more > 0 else 1
        num_above = is_above.sum(axis=-1, keepdims=True) - num_own
        kept = mx.ones(num_above.shape, mx.bool_)
        if 0.0 < self._top_p < 1.0:
            probabilities = mx.exp(logprobs)
            mass = mx.where(is_above, probabilities, 0.0).sum(axis=-1, keepdims=True) - num_own * mx.exp(own)
            rest, factor = probabilities.sum(axis=-1, keepdims=True) - mass, math.exp(-more)
            kept = kept & (mass * factor < self._top_p * (mass * factor + rest))
        if self._min_p > 0.0:
            least = logprobs.max(axis=-1, keepdims=True) + math.log(self._min_p)
            kept = kept & ((own + more >= least) | (num_above == 0))
        if self._top_k > 0:
            kept = kept & (num_above < self._top_k)
        return kept


class Bias:
    """A logits processor that adds to the logits of some tokens. bias: (token id, what is added)."""

    def __init__(self, bias: Sequence[tuple[int, float]]) -> None:
        self._ids = mx.array([token for token, _ in bias])
        self._values = mx.array([value for _, value in bias])

    def __call__(self, _tokens: mx.array, logits: mx.array) -> mx.array:
        return logits.at[:, self._ids].add(self._values.astype(logits.dtype))


class Penalties:
    """A logits processor for penalties on tokens that came before, as vLLM and OpenAI define them.

    presence and frequency, which are subtracted, look at the answer alone; repetition, which divides (a negative logit
    is multiplied), at the prompt too. gain: how many times as far apart it may put two logits. state: (num_logits,),
    how often the answer has each token, and whether it or the prompt has it; None before the first call, and as it was
    where it is set back.
    """

    def __init__(self, presence: float, frequency: float, repetition: float) -> None:
        self.gain = max(repetition, 1.0 / repetition)
        self.state: tuple[mx.array, mx.array] | None = None
        self._presence = presence
        self._frequency = frequency
        self._repetition = repetition

    def __call__(self, tokens: mx.array, logits: mx.array) -> mx.array:
        counts, is_seen = self._take(tokens, logits.shape[-1])
        repeated = mx.where(logits > 0, logits / self._repetition, logits * self._repetition)
        out = mx.where(is_seen, repeated, logits)
        out = out - self._frequency * counts - self._presence * (counts > 0)
        return out.astype(logits.dtype)

    def _take(self, tokens: mx.array, num_logits: int) -> tuple[mx.array, mx.array]:
        """Look at the token that came since the last call, or at the prompt. Returns the state."""
        if self.state is None:
            prompt = np.array(tokens)  # may hold placeholders that the model has no logit for
            in_prompt = np.zeros(num_logits, np.bool_)
            in_prompt[prompt[(prompt >= 0) & (prompt < num_logits)]] = True
            counts, is_seen = mx.zeros(num_logits), mx.array(in_prompt)
        else:
            counts, is_seen = self.state
            counts = counts.at[tokens[-1:]].add(1.0)
            is_seen = is_seen | (counts > 0)
        self.state = counts, is_seen
        return self.state


def token_logprobs(logprobs: mx.array, token: int, num_top: int) -> tuple[float, tuple[tuple[int, float], ...]]:
    """From (vocabulary,) log-probabilities: the token's own, and (id, log-probability) of the num_top likeliest, the
    likeliest first; of equal ones the lower id first. What cannot come at all is not among them.

    logprobs: evaluated; nothing is computed here, so a step's rows are told of while the next step's pass runs."""
    values = _on_host(logprobs)
    ids = _best_ids(values, min(num_top, len(values)))
    return float(values[token]), _in_order(ids[None], values[ids][None])[0]


def _on_host(logprobs: mx.array) -> NDArray[np.float32]:
    """An evaluated array, read without a computation: that would wait for the next step's pass, which runs by now."""
    if logprobs.dtype != mx.bfloat16:
        return np.array(logprobs, copy=False).astype(np.float32, copy=False)
    buffer: Any = logprobs  # which mlx does not say in its types
    bits = np.frombuffer(buffer, np.uint16)  # numpy has no bfloat16: the upper half of a float32
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _best_ids(values: NDArray[np.float32], num: int) -> NDArray[np.intp]:
    """Of the num greatest values; of those that equal the least of them, the first."""
    if num < 1:
        return np.zeros(0, np.intp)
    least = np.partition(values, len(values) - num)[len(values) - num]
    above = np.flatnonzero(values > least)
    return np.concatenate([above, np.flatnonzero(values == least)[: num - len(above)]])


def prompt_logprobs(
    logits: mx.array, tokens: Sequence[int], num_top: int
) -> list[tuple[float, tuple[tuple[int, float], ...]]]:
    """Of (places, vocabulary) logits in float32 and the token that comes at each place: see token_logprobs."""
    own = chosen_logprobs(logits, [[token] for token in tokens])
    logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    return [(value, top) for (value,), top in zip(own, _likeliest(logprobs, num_top), strict=True)]


def _likeliest(logprobs: mx.array, num_top: int) -> list[tuple[tuple[int, float], ...]]:
    """Of (places, vocabulary) log-probabilities in float32, for each place: see token_logprobs."""
    num_top = min(num_top, logprobs.shape[-1])
    if num_top < 1:
        return [()] * logprobs.shape[0]
    best = mx.argpartition(-logprobs, kth=num_top - 1, axis=-1)[:, :num_top]
    return _in_order(np.array(best), np.array(mx.take_along_axis(logprobs, best, axis=-1)))


def _in_order(ids: NDArray[Any], values: NDArray[np.float32]) -> list[tuple[tuple[int, float], ...]]:
    """Of ids and log-probabilities (places, num) in any order, for each place: see token_logprobs."""
    order = np.lexsort((ids, -values), axis=-1)
    ids, values = np.take_along_axis(ids, order, axis=-1), np.take_along_axis(values, order, axis=-1)
    return [
        tuple((token, value) for token, value in zip(*row, strict=True) if value > -math.inf)
        for row in zip(ids.tolist(), values.tolist(), strict=True)
    ]


def chosen_logprobs(logits: mx.array, tokens: Sequence[Sequence[int]]) -> list[list[float]]:
    """Of logits (places, vocabulary): for each place the natural log-probabilities of its tokens."""
    logits = logits.astype(mx.float32)
    width = max(map(len, tokens))
    ids = mx.array([[*chosen, *[0] * (width - len(chosen))] for chosen in tokens])
    values = mx.take_along_axis(logits, ids, axis=-1) - mx.logsumexp(logits, axis=-1, keepdims=True)
    return [row[: len(chosen)].tolist() for row, chosen in zip(np.array(values), tokens, strict=True)]


def resolve(asked: Sampling, *defaults: Sampling) -> Sampling:
    """Fill what the request left open from the defaults, first one wins (server settings, then generation config)."""
    out = asked
    for default in defaults:
        missing = {
            name: getattr(default, name)
            for name in Sampling.__dataclass_fields__
            if getattr(out, name) is None and getattr(default, name) is not None
        }
        out = replace(out, **missing)
    return out


class Forced:
    """Teacher forcing: plays the tokens it was given, one after the other; the last one again after the end."""

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens = tokens
        self._next = 0

    def __call__(self, _logprobs: mx.array) -> mx.array:
        token = self._tokens[min(self._next, len(self._tokens) - 1)]
        self._next += 1
        return mx.array([token], mx.uint32)


def make_sampler(sampling: Sampling, forced: Sequence[int] = (), index: int = 0) -> Sampler:
    """A sampler for one answer. temperature None or below LEAST_TEMPERATURE is greedy; forced tokens are what is said
    in any case.

    index: of the answer among those of its request; each has random numbers of its own, the first those of the seed.
    """
    if forced:
        return Forced(forced)
    if (sampling.temperature or 0.0) < LEAST_TEMPERATURE:
        return greedy_sampler
    if sampling.seed is not None:
        sampling = replace(sampling, seed=sampling.seed + index)
    return SeededSampler(sampling)


def is_greedy(sampler: Sampler) -> bool:
    """Whether it takes the likeliest token, whatever came before."""
    return sampler is greedy_sampler


def make_processors(sampling: Sampling) -> list[LogitsProcessor]:
    """Logits processors (tokens (n,), logits (1, vocab)) -> logits, for bias and penalties; empty for most requests.

    Called before each token of one answer, first with the prompt, then with what has come since behind it.
    """
    out: list[LogitsProcessor] = [Bias(sampling.logit_bias)] if sampling.logit_bias else []
    presence, frequency = sampling.presence_penalty or 0.0, sampling.frequency_penalty or 0.0
    repetition = sampling.repetition_penalty or 1.0
    if (presence, frequency, repetition) != (0.0, 0.0, 1.0):
        out.append(Penalties(presence, frequency, repetition))
    return out
