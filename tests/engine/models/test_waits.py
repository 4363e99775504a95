"""waits: what the host does with a step's tokens needs no computation, so it does not wait for the next step's pass.

MLX computes in the order of a stream: even to cut one number out of a finished array waits for the pass that was queued
meanwhile. A thread that does not own the stream can read what is finished, and nothing else: there a computation fails.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import mlx.core as mx
import numpy as np
import pytest

from engine.grammar.mask import AnswerMask, BadWords
from engine.models import sampling
from engine.models.sampling import make_sampler, token_logprobs
from engine.types import Sampling

T = TypeVar("T")
COMPUTES = "no Stream"
DTYPES = [mx.float32, mx.float16, mx.bfloat16]


def without_computing(read: Callable[[], T]) -> T:
    """What read() gives. Raises RuntimeError (COMPUTES) where it has MLX compute anything."""
    stream = mx.default_stream(mx.default_device())

    def inside() -> T:
        with mx.stream(stream):
            return read()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(inside).result()


def rows(dtype: mx.Dtype) -> list[mx.array]:
    """The log-probabilities of a step's rows as the batcher hands them out, (50,) each."""
    logits = mx.random.normal((3, 50), key=mx.random.key(1)).astype(dtype)
    found = list(logits - mx.logsumexp(logits, axis=-1, keepdims=True))
    mx.eval(found)
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("num_top", [0, 1, 7, 50, 60])
def test_logprobs_are_read(dtype: mx.Dtype, num_top: int) -> None:
    for row in rows(dtype):
        own, top = without_computing(lambda row=row: token_logprobs(row, 5, num_top))  # type: ignore[misc]
        values = np.array(row.astype(mx.float32)).tolist()
        assert own == values[5]
        assert list(top) == sorted(enumerate(values), key=lambda pair: (-pair[1], pair[0]))[:num_top]


def test_of_equal_ones_the_lower_ids_are_told() -> None:
    row = mx.array([-2.0, -1.0, -2.0, -2.0, -1.0, -2.0])
    assert [i for i, _ in token_logprobs(row, 0, 3)[1]] == [1, 4, 0]


def next_masked(mask: AnswerMask, sampling: Sampling) -> mx.array:
    """A token is drawn as the batcher draws it, and the next one's logits are masked while their pass runs."""
    sampler = mask.watch(make_sampler(sampling))
    logits = mx.array([[0.0, 5.0, 0.0, 4.0]])
    token = sampler(mask(mx.array([7, 8]), logits))
    tokens = mx.concatenate([mx.array([7, 8]), token])  # the batcher's own copy, which is not computed yet
    mx.eval(token, logits)
    return without_computing(lambda: mask(tokens, logits))


@pytest.mark.parametrize("drawing", [Sampling(temperature=0.0), Sampling(temperature=0.01, seed=1)])
def test_a_mask_reads_what_was_drawn(drawing: Sampling) -> None:
    masked = next_masked(AnswerMask([BadWords([[1, 3]])]), drawing)
    assert np.isneginf(np.array(masked)).tolist() == [[False, False, False, True]], "3 may not come behind 1"


# -- sabotage ----------------------------------------------------------------------------------------------------------


def test_sabotage_numbers_that_are_cut_out_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_on_host", lambda logprobs: np.array(logprobs.astype(mx.float32) + 0))
    with pytest.raises(RuntimeError, match=COMPUTES):
        test_logprobs_are_read(mx.float32, 1)


def test_sabotage_a_mask_that_reads_the_batchers_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AnswerMask, "watch", lambda _mask, sampler: sampler)
    mask = AnswerMask([BadWords([[1, 3]])])
    next_masked(mask, Sampling(temperature=0.0))
    assert mask.error is not None, "a mask never raises: it ends its answer"
