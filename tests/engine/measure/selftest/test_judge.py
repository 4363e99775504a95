"""judge: equal, a near tie, a fault; and how they are told to the user."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine.config import EngineConfig
from engine.measure.selftest import judge, report
from engine.measure.selftest.judge import CheckRow, ObservedRun
from engine.types import DeviceInfo, ModelCard

CARD = ModelCard("m", "/m", "llama", "bfloat16", 1_000_000, 2, 4096)
MACHINE = DeviceInfo("macOS 27.1", "Apple M4 Max", "Metal GPU", 64 * 2**30, 16, "Accelerate", "0.32.4")


def run(*tokens: int, best: float = 0.0, second: float = -5.0, sampler_agrees: bool | None = None) -> ObservedRun:
    """Each step gives its token `best` and every other `second`."""
    logprobs = [np.full(8, second, np.float32) for _ in tokens]
    for step, token in zip(logprobs, tokens, strict=True):
        step[token] = best
    return ObservedRun(tokens, logprobs, sampler_agrees)


def test_equal_tokens_are_one_answer() -> None:
    assert judge.same(run(1, 2, 3), run(1, 2, 3), 0.01)[0] == "ok"


@pytest.mark.parametrize(("gap", "outcome"), [(0.2, "tie"), (0.3, "fault"), (5.0, "fault")])
def test_where_answers_part_both_runs_must_be_unsure(gap: float, outcome: str) -> None:
    assert judge.same(run(1, 2, second=-gap), run(1, 3, second=-gap), 0.25)[0] == outcome
    sure = run(1, 3, second=-4.0)
    assert judge.same(run(1, 2, second=-gap), sure, 0.25)[0] == "fault", "one run was sure of its token"


def test_what_comes_after_a_near_tie_is_free() -> None:
    one, other = run(1, 2, 6, second=-0.1), run(1, 3, 7, second=-0.1)
    assert judge.same(one, other, 0.25)[0] == "tie"


def test_an_answer_that_ends_early_is_a_fault() -> None:
    outcome, said = judge.same(run(1, 2), run(1, 2, 3), 0.25)
    assert outcome == "fault" and "after 2 tokens" in said


def test_a_sampled_answer_may_take_the_lesser_token_but_only_by_its_own_seed() -> None:
    one, other = run(1, 2, sampler_agrees=True), run(1, 3, sampler_agrees=True)
    assert judge.same(one, other, 0.25)[0] == "fault", "the runs held other tokens likely"
    near = ObservedRun((1, 3), one.logprobs, True)
    assert judge.same(one, near, 0.25)[0] == "tie"
    assert judge.same(one, ObservedRun((1, 2), one.logprobs, False), 0.25)[0] == "fault"


def test_noise_goes_by_dtype_and_device() -> None:
    noises = [judge.noise(dtype, "CPU") for dtype in ("float32", "float16", "bfloat16", "4-bit")]
    assert noises[0] < noises[1] < noises[2] == noises[3]
    assert judge.noise("float32", "Metal GPU") == judge.noise("float32", "CUDA GPU") == noises[1]


def test_first_logits_apart() -> None:
    assert math.isclose(judge.apart(run(1), run(2)), 5.0) and judge.apart(run(1), run(1)) == 0.0


def test_a_near_tie_is_neither_a_tick_nor_a_fault_and_the_rest_is_never_ticked() -> None:
    rows = [CheckRow("a", "ok", ""), CheckRow("b", "tie", "near"), CheckRow("c", "n/a", "this model takes no pictures")]
    assert not report.failed(rows)
    lines = [report.line(row) for row in rows]
    assert [line[0] for line in lines] == ["✓", "≈", "–"] and "not applicable: this model takes no pictures" in lines[2]
    said = report.ending(rows, CARD, MACHINE)
    assert said.startswith("1 passed, 1 parted at a near tie") and "file it" not in said


def test_a_fault_says_what_to_file() -> None:
    rows = [CheckRow("batched = alone: text", "fault", "token 3 differs")]
    assert report.failed(rows) and not report.to_json(rows, CARD, MACHINE, EngineConfig())["passed"]
    said = report.ending(rows, CARD, MACHINE)
    for fact in (
        "1 FAILED",
        "batched = alone: text",
        "llama",
        "bfloat16",
        "Apple M4 Max",
        "Metal GPU",
        "Paste",
        "--json",
    ):
        assert fact in said
    head = report.head(CARD, MACHINE)
    for fact in ("Apple M4 Max", "64 GiB", "macOS 27.1", "mlx-lm 0", "mlx-vlm 0", "python 3"):
        assert fact in head
