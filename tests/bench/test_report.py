"""Samples to numbers, with numbers that were worked out by hand."""

from __future__ import annotations

import pytest

from engine.bench.report import ratio_line, ratios, spread, summary, table
from engine.bench.sources import Sample


def sample(ttft_s: float, decode_s: float, tokens: int = 11, source: str = "engine", text: str = "same") -> Sample:
    return Sample(source, ttft_s, decode_s, 50, tokens, text)


def test_rate_counts_the_tokens_after_the_first() -> None:
    assert sample(1, 2.0, tokens=11).decode_tps == 5.0
    assert sample(1, 0.5, tokens=1).decode_tps is None, "one token has no rate"


def test_mean_median_p95() -> None:
    assert spread([float(n) for n in range(1, 101)]) == {"mean": 50.5, "median": 50.5, "p95": 95.0}
    assert spread([4.0, 1.0, 1.0]) == {"mean": 2.0, "median": 1.0, "p95": 4.0}
    assert spread([3.0]) == {"mean": 3.0, "median": 3.0, "p95": 3.0}


def test_summary() -> None:
    numbers = summary([sample(0.1, 1.0), sample(0.3, 2.0)])
    assert numbers["answers"] == 2 and numbers["prompt_tokens"] == 100 and numbers["completion_tokens"] == 22
    assert numbers["ttft_ms"]["median"] == pytest.approx(200) and numbers["decode_tps"]["median"] == 7.5
    assert summary([sample(0.1, 0.0, tokens=1)])["decode_tps"] is None


def test_ratios_are_of_pairs() -> None:
    """Machine half as fast for the second question: the pairs still say 2 x the rate and half the wait."""
    ours = [sample(0.1, 1.0), sample(0.2, 2.0)]
    theirs = [sample(0.2, 2.0, source="mlx_lm"), sample(0.4, 4.0, source="mlx_lm")]
    numbers = ratios(ours, theirs)
    assert numbers["decode_tps"] == 2.0 and numbers["ttft"] == 0.5
    assert numbers["comparable"] == numbers["same_text"] == numbers["of"] == 2
    assert "CAUTION" not in ratio_line("engine", "mlx_lm", numbers)


def test_answers_that_cannot_be_compared_are_said() -> None:
    numbers = ratios([sample(1, 1, text="a")], [sample(1, 1, tokens=7, text="b")])
    assert numbers["comparable"] == 0 and numbers["same_text"] == 0
    assert "CAUTION: only 0 pairs" in ratio_line("engine", "mlx_lm", numbers)
    with pytest.raises(ValueError, match="zip"):
        ratios([sample(1, 1)], [])


def test_the_table_has_a_line_for_everyone() -> None:
    text = table({"engine": summary([sample(0.1, 1.0)]), "mlx_vlm": summary([sample(0.2, 0.0, tokens=1)])})
    assert [line.split()[0] for line in text.splitlines()[2:]] == ["engine", "mlx_vlm"]
    assert "100.0" in text and "10.0" in text and "-" in text.splitlines()[3]
