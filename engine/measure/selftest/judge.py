"""Two runs of one request -> equal, a near tie, or a fault. Pure.

A batch sums in another order than a single row, and a prompt in two pieces in another order than in one, so the last
bits of the logits differ. Where two tokens are that near each other, either is right, and everything after it differs.
Such a near tie is told from a fault by its size: at the first token where the runs part, each run must hold the two
tokens to be equally good, within NOISE. It is reported as what it is, neither as a tick nor as a fault.
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
"""For bfloat16, which quantized models compute in too: a logit of 20 has steps of 0.125. A fault is whole units."""


@dataclass(frozen=True)
class CheckRow:
    """A line of the table."""

    name: str
    outcome: Outcome
    detail: str


@dataclass(frozen=True)
class ObservedRun:
    """An answer: its tokens, and the log-probabilities (vocab,) each was chosen from, float32.

    drawn: for a sampled answer, whether each token is what its own seeded sampler draws from its own logprobs.
    """

    tokens: Sequence[int]
    logprobs: Sequence[StepLogprobs]
    drawn: bool | None = None


def noise(dtype: str, mlx_device: str) -> float:
    """How far apart two ways to the same logits may be, in nats, for a ModelCard.dtype and DeviceInfo.mlx_device.

    On a GPU float32 counts as float16: its products may run in TF32, which has as many bits.
    """
    return NOISE.get("float16" if dtype == "float32" and mlx_device != "CPU" else dtype, HALF_NOISE)


def same(one: ObservedRun, other: ObservedRun, within: float) -> tuple[Outcome, str]:
    """Whether two runs are one answer: equal token for token, or parted at a near tie."""
    if False in (one.drawn, other.drawn):
        return "fault", "a token is not what the request's own seed draws"
    if list(one.tokens) == list(other.tokens):
        return "ok", f"{len(one.tokens)} tokens equal"
    pairs = zip(one.tokens, other.tokens, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
    if at is None:
        return "fault", f"one answer ends after {min(len(one.tokens), len(other.tokens))} tokens, the other goes on"
    gap = _gap(one, other, at)
    said = f"token {at + 1} differs ({one.tokens[at]}, {other.tokens[at]}; {gap:.3g} nats apart, noise is {within:g})"
    return ("tie" if gap <= within else "fault"), said


def _gap(one: ObservedRun, other: ObservedRun, at: int) -> float:
    """How far apart the two tokens are at the step where the runs part: greedy, in each run's own eyes; sampled, where
    the better one need not be taken, how far the runs disagree about either."""
    a, b = one.tokens[at], other.tokens[at]
    mine, yours = one.logprobs[at], other.logprobs[at]
    if one.drawn is None:
        return float(max(mine[a] - mine[b], yours[b] - yours[a]))
    return float(max(abs(mine[a] - yours[a]), abs(mine[b] - yours[b])))


def apart(one: ObservedRun, other: ObservedRun) -> float:
    """The largest difference between the first tokens' log-probabilities, in nats."""
    return float(np.abs(one.logprobs[0] - other.logprobs[0]).max())


def worst(outcomes: Sequence[tuple[Outcome, str]]) -> tuple[Outcome, str]:
    """One outcome of several: the first fault, else the first tie, else the first."""
    for wanted in ("fault", "tie"):
        for outcome in outcomes:
            if outcome[0] == wanted:
                return outcome
    return outcomes[0]
