"""Two results that were measured at different times, case by case: B over A. Pure; takes their JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.measure.bench.report import NAMES, rows_to_text
from engine.measure.bench.result import LESS_IS_BETTER, round_values
from engine.measure.bench.samples import Sample, SeenMedia
from engine.measure.bench.stats import Ratio, unpaired_ratio

METRICS = ("ttft", "tpot", "e2e", "total_tps")


def ratios(a: dict[str, Any], b: dict[str, Any]) -> list[tuple[str, str, Ratio]]:
    """(case, metric, B over A) for every case that both have: the targets of a case in the order of each result."""
    found = []
    ours, theirs = _by_case(a), _by_case(b)
    for case in ours:
        for before, after in zip(ours[case], theirs.get(case, ()), strict=False):
            for metric in METRICS:
                ratio = unpaired_ratio(_values(after, metric), _values(before, metric))
                if ratio is not None:
                    found.append((case, metric, ratio))
    return found


def table(a: dict[str, Any], b: dict[str, Any]) -> str:
    """The ratios for a terminal, and what differs between the runs beside the numbers."""
    rows = []
    for case, metric, ratio in ratios(a, b):
        if ratio.low is None or ratio.high is None or ratio.low <= 1 <= ratio.high:
            verdict = "no difference shown"
        else:
            verdict = "better" if (ratio.value < 1) == (metric in LESS_IS_BETTER) else "worse"
        interval = "" if ratio.low is None else f"{ratio.low:.3g} to {ratio.high:.3g}"
        rows.append([case, NAMES[metric], f"{ratio.value:.3f}", interval, verdict])
    if not rows:
        return "The two runs have no case in common."
    text = rows_to_text(["case", "metric", "B / A", "95 % interval", ""], rows)
    return "\n".join([text, *(f"CAUTION: {name} differs" for name in differing(a, b))])


def differing(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """What makes two runs not comparable: another machine, model, version or setting."""
    out = []
    for part, skipped in (("machine", ()), ("model", ()), ("versions", ()), ("settings", ("seed",))):
        left, right = a.get(part) or {}, b.get(part) or {}
        names = [name for name in {**left, **right} if name not in skipped and left.get(name) != right.get(name)]
        out += [f"{part} {name}" for name in names]
    return out


def samples_of(point: dict[str, Any]) -> list[list[Sample]]:
    """The rounds of a point's JSON as samples again."""
    return [[_sample(raw) for raw in taken] for taken in point["rounds"]]


def _sample(raw: dict[str, Any]) -> Sample:
    seen = raw["seen"]
    again = (
        None if seen is None else tuple(SeenMedia(s["kind"], s["tokens"], tuple(s["px"]), s["frames"]) for s in seen)
    )
    return Sample(**{**raw, "itl_s": tuple(raw["itl_s"]), "seen": again, "logprobs": ()})


def _by_case(result: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for point in result["points"]:
        found.setdefault(f"{point['suite']}: {point['case']}", []).append(point)
    return found


def _values(point: dict[str, Any], metric: str) -> Sequence[float]:
    """One value a round."""
    found = [round_values(metric, taken) for taken in samples_of(point)]
    return [sum(values) / len(values) for values in found if values]
