"""Samples -> numbers -> a table and JSON. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from engine.bench.sources import Sample

Numbers = dict[str, float]


def summary(samples: Sequence[Sample]) -> dict[str, Any]:
    """Mean, median and p95 of what one source did."""
    rates = [sample.decode_tps for sample in samples if sample.decode_tps is not None]
    return {
        "answers": len(samples),
        "prompt_tokens": sum(sample.prompt_tokens for sample in samples),
        "completion_tokens": sum(sample.completion_tokens for sample in samples),
        "ttft_ms": spread([sample.ttft_s * 1000 for sample in samples]),
        "decode_tps": spread(rates) if rates else None,
    }


def spread(values: Sequence[float]) -> Numbers:
    """mean, median, p95 (nearest rank), all of at least one value."""
    ranked = sorted(values)
    rank = max(0, -(-len(ranked) * 95 // 100) - 1)
    return {"mean": statistics.fmean(ranked), "median": statistics.median(ranked), "p95": ranked[rank]}


def ratios(ours: Sequence[Sample], theirs: Sequence[Sample]) -> dict[str, Any]:
    """Question by question, ours over theirs, then the median. decode_tps above 1 and ttft below 1 are good for us.

    comparable counts the questions where both read and wrote equally many tokens; same_text, where both said the same.
    """
    pairs = list(zip(ours, theirs, strict=True))
    return {
        "decode_tps": _median_ratio(pairs, lambda sample: sample.decode_tps),
        "ttft": _median_ratio(pairs, lambda sample: sample.ttft_s),
        "comparable": sum(_tokens(a) == _tokens(b) for a, b in pairs),
        "same_text": sum(a.text_sha256 == b.text_sha256 for a, b in pairs),
        "of": len(pairs),
    }


def table(summaries: dict[str, dict[str, Any]]) -> str:
    """The summaries for a terminal."""
    lines = [f"{'':10}{'TTFT ms':>27}{'decode tok/s':>27}", f"{'':10}" + f"{'mean':>9}{'median':>9}{'p95':>9}" * 2]
    for name, numbers in summaries.items():
        cells = _cells(numbers["ttft_ms"]) + _cells(numbers["decode_tps"])
        lines.append(f"{name:10}{cells}")
    return "\n".join(lines)


def ratio_line(name: str, peer: str, numbers: dict[str, Any]) -> str:
    """One line that says how `name` does against `peer`."""
    said = [
        f"{label} {value:.3f}"
        for label, value in (("decode", numbers["decode_tps"]), ("TTFT", numbers["ttft"]))
        if value
    ]
    line = f"{name} / {peer} (median of pairs): {', '.join(said) or 'nothing to compare'}; "
    line += f"same text {numbers['same_text']} of {numbers['of']}"
    if numbers["comparable"] < numbers["of"]:
        line += f"; CAUTION: only {numbers['comparable']} pairs had equally many tokens"
    return line


def _median_ratio(pairs: Sequence[tuple[Sample, Sample]], measure: Callable[[Sample], float | None]) -> float | None:
    measured = [(measure(a), measure(b)) for a, b in pairs]
    found = [a / b for a, b in measured if a is not None and b]
    return statistics.median(found) if found else None


def _tokens(sample: Sample) -> tuple[int, int]:
    return sample.prompt_tokens, sample.completion_tokens


def _cells(numbers: Numbers | None) -> str:
    if numbers is None:
        return f"{'-':>9}" * 3
    return "".join(f"{numbers[key]:9.1f}" for key in ("mean", "median", "p95"))
