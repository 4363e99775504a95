"""How long a kind of work takes, learnt from the work that was done: online and robust. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

KEPT = 96
"""Observations that are looked at, the newest."""

_FADE = 0.98
"""Weight of an observation beside the one after it: a machine gets slower and faster."""

_DOUBT = 0.2
"""An observation that is off by this much, as a logarithm, counts half; one far off hardly at all."""

_ROUNDS = 6
_RIDGE = 1e-6
_LEAST_MS = 1e-3

Vector = np.ndarray[Any, np.dtype[np.float64]]


class Curve:
    """Milliseconds as a sum of terms (e.g. 1, tokens, tokens²) with a factor each, none below 0: more work never takes
    less time.

    The factors minimise the error of the logarithms, so that twice too long and twice too short weigh the same, at
    small sizes as at large ones; iteratively reweighted, so that outliers (a pause, a first call) have no say.
    """

    def __init__(self, num_terms: int) -> None:
        self._num_terms = num_terms
        self._seen: deque[tuple[tuple[float, ...], float]] = deque(maxlen=KEPT)
        self._factors: Vector | None = None

    def add(self, terms: Sequence[float], ms: float) -> None:
        """Work with these terms, at least one of them above 0, took so long."""
        assert len(terms) == self._num_terms
        self._seen.append((tuple(terms), max(ms, _LEAST_MS)))
        self._factors = None

    def ms(self, terms: Sequence[float]) -> float | None:
        """How long work with these terms takes; None before any was seen."""
        if not self._seen:
            return None
        if self._factors is None:
            self._factors = _fit(
                np.array([terms for terms, _ in self._seen], np.float64),
                np.array([ms for _, ms in self._seen], np.float64),
            )
        return float(np.dot(self._factors, np.array(terms, np.float64)))


def _fit(terms: Vector, ms: Vector) -> Vector:
    """(observations, terms) and (observations,) -> factors (terms,)."""
    age = _FADE ** np.arange(len(ms) - 1, -1, -1)
    weights = age / ms**2
    factors = _least_squares(terms, ms, weights)
    for _ in range(_ROUNDS):
        expected = np.maximum(terms @ factors, _LEAST_MS)
        off = np.log(ms / expected)
        # (expected - ms)² / (expected * ms) is about off² where off is small.
        weights = age / (ms * expected) / (1 + (off / _DOUBT) ** 2)
        factors = _least_squares(terms, ms, weights)
    return factors


def _least_squares(terms: Vector, ms: Vector, weights: Vector) -> Vector:
    """Weighted least squares with no factor below 0. The ridge settles what the observations leave open."""
    gram = (terms * weights[:, None]).T @ terms
    target = (terms * weights[:, None]).T @ ms
    size = np.sqrt(np.maximum(np.diag(gram), np.finfo(np.float64).tiny))  # of each term as it is weighed
    gram = gram / np.outer(size, size) + np.eye(len(gram)) * _RIDGE
    target = target / size
    used = list(range(len(gram)))
    while used:
        solved = np.linalg.solve(gram[np.ix_(used, used)], target[used])
        if solved.min() >= 0:
            break
        used.pop(int(solved.argmin()))
    factors = np.zeros(len(gram))
    if used:
        factors[used] = solved
    return factors / size
