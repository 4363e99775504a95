"""Two runs of one request -> equal, a near tie, or a fault. Pure.

A batch sums in another order than a single row, and a prompt in two pieces in another order than in one, so the last
bits of the logits differ. If the two likeliest tokens are closer than that, either is right, and later tokens differ.
A near tie differs from a fault by its size: at the first token where the runs differ, both runs must find the two
tokens equally likely, within NOISE. It is reported as a tie, neither as passed nor as a fault.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Outcome = Literal["ok", "tie", "fault", "n/a"]
StepLogprobs = np.ndarray[Any, np.dtype[np.float32]]

NOISE = {"float32": 0.01, "float16": 0.1}
"""In nats, by ModelCard.dtype."""

HALF_NOISE = 0.25
"""For bfloat16, which quantized models compute in too: a logit of 20 has steps of 0.125. A fault is larger than 1."""


@dataclass(frozen=True)
class CheckRow:
    """A line of the table."""

    name: str
    outcome: Outcome
    detail: str


@dataclass(frozen=True)
class ObservedRun:
    """An answer: its tokens, and for each the log-probabilities (vocab,) it was chosen from, float32.

    sampler_agrees: whether a sampler with the request's seed draws the same tokens from these log-probabilities; None
    for a greedy answer.
    """

    tokens: Sequence[int]
    logprobs: Sequence[StepLogprobs]
    sampler_agrees: bool | None = None


def noise(dtype: str, mlx_device: str) -> float:
    """The largest difference in nats that rounding explains, for a ModelCard.dtype and DeviceInfo.mlx_device.

    On a GPU float32 counts as float16: its products may run in TF32, which has as many bits.
    """
    return NOISE.get("float16" if dtype == "float32" and mlx_device != "CPU" else dtype, HALF_NOISE)


def same(first: ObservedRun, second: ObservedRun, within: float) -> tuple[Outcome, str]:
    """Whether two runs are the same answer: equal token for token, or different from a near tie on."""
    if False in (first.sampler_agrees, second.sampler_agrees):
        return "fault", "a token is not what the request's own seed draws"
    if list(first.tokens) == list(second.tokens):
        return "ok", f"{len(first.tokens)} tokens equal"
    pairs = zip(first.tokens, second.tokens, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
    if at is None:
        return "fault", f"one answer ends after {min(len(first.tokens), len(second.tokens))} tokens, the other goes on"
    gap = _gap(first, second, at)
    words = (
        f"token {at + 1} differs ({first.tokens[at]}, {second.tokens[at]}; {gap:.3g} nats apart, noise is {within:g})"
    )
    return ("tie" if gap <= within else "fault"), words


def _gap(first: ObservedRun, second: ObservedRun, at: int) -> float:
    """How far apart, in nats, the two tokens are at the step where the runs differ.

    Greedy: how much likelier each run finds its own token. Sampled, where the less likely token may be drawn: how much
    the runs disagree about the likelihood of either token.
    """
    a, b = first.tokens[at], second.tokens[at]
    first_logprobs, second_logprobs = first.logprobs[at], second.logprobs[at]
    if first.sampler_agrees is None:
        return float(max(first_logprobs[a] - first_logprobs[b], second_logprobs[b] - second_logprobs[a]))
    return float(max(abs(first_logprobs[a] - second_logprobs[a]), abs(first_logprobs[b] - second_logprobs[b])))


def apart(first: ObservedRun, second: ObservedRun) -> float:
    """The largest difference between the first tokens' log-probabilities, in nats."""
    return float(np.abs(first.logprobs[0] - second.logprobs[0]).max())


def worst(outcomes: Sequence[tuple[Outcome, str]]) -> tuple[Outcome, str]:
    """The first fault, else the first tie, else the first."""
    for level in ("fault", "tie"):
        for outcome in outcomes:
            if outcome[0] == level:
                return outcome
    return outcomes[0]
