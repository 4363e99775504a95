"""The ratio of two results measured at different times, case by case: B over A, from their JSON. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

from engine.errors import BadRequest
from engine.measure.bench import seal
from engine.measure.bench.judging import differs, judge_together
from engine.measure.bench.plan import case_words
from engine.measure.bench.report import NAMES, rows_to_text
from engine.measure.bench.result import LESS_IS_BETTER, round_values
from engine.measure.bench.samples import Sample, SeenMedia
from engine.measure.bench.stats import Ratio, unpaired_ratio

METRICS = ("ttft", "tpot", "e2e", "total_tps")

Verdict = Literal["better", "worse", "even"]


def ratios(a: dict[str, Any], b: dict[str, Any]) -> list[tuple[str, str, Ratio]]:
    """(case, metric, B over A) for every case that both have. The n-th target of A is compared with the n-th of B.

    The intervals are those of Holm's steps: with many cases, some would differ by chance.
    """
    pairs = []
    before_cases, after_cases = _by_case(a), _by_case(b)
    for case in before_cases:
        for before, after in zip(before_cases[case], after_cases.get(case, ()), strict=False):
            pairs += [(case, metric, _values(after, metric), _values(before, metric)) for metric in METRICS]
    judged = judge_together([partial(unpaired_ratio, over, under) for _, _, over, under in pairs])
    return [(pair[0], pair[1], ratio) for pair, ratio in zip(pairs, judged, strict=True) if ratio is not None]


def verdict(metric: str, ratio: Ratio) -> Verdict:
    """Whether B is shown to be better or worse than A. "even" shows nothing, not that they are the same."""
    if not differs(ratio):
        return "even"
    return "better" if (ratio.value < 1) == (metric in LESS_IS_BETTER) else "worse"


def table(a: dict[str, Any], b: dict[str, Any]) -> str:
    """The ratios for a terminal, and which settings differ between the runs."""
    rows = []
    for case, metric, ratio in ratios(a, b):
        judged = verdict(metric, ratio).replace("even", "no difference shown")
        interval = "" if ratio.low is None else f"{ratio.low:.3g} to {ratio.high:.3g}"
        suite, _, name = case.partition(": ")
        rows.append([f"{suite}: {case_words(name)}", NAMES[metric], f"{ratio.value:.3f}", interval, judged])
    if not rows:
        return "The two runs have no case in common."
    text = rows_to_text(["case", "metric", "B / A", "interval", ""], rows)
    return "\n".join([text, *(f"CAUTION: {name} differs" for name in differing(a, b))])


def judged(a: dict[str, Any], b: dict[str, Any]) -> str:
    """The same as `table`, of files that may be anybody's. Raises BadRequest for what only looks like a result."""
    try:
        return "\n".join([table(a, b), *_seals(a, b)])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise BadRequest(
            f"One of the two cannot be read as a result of vllm-mlx-bench ({why}).", param="compare"
        ) from error


def _seals(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Which of the two is sealed, and what that says."""
    found = {name: run[seal.NAME]["sha256"][:16] for name, run in (("A", a), ("B", b)) if seal.NAME in run}
    lines = [f"{name} is sealed: {digits}" for name, digits in found.items()]
    return [*lines, f"A seal: {seal.SHOWS} {seal.SHOWS_NOT}"] if lines else []


def differing(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """What differs in machine, model, versions or settings, so that the two runs are not comparable."""
    out = []
    for part, skipped in (("machine", ()), ("model", ()), ("versions", ()), ("settings", ("seed",))):
        left, right = a.get(part) or {}, b.get(part) or {}
        names = [name for name in {**left, **right} if name not in skipped and left.get(name) != right.get(name)]
        out += [f"{part} {name}" for name in names]
    return out


def samples_of(point: dict[str, Any]) -> list[list[Sample]]:
    """The samples in a point's JSON, round by round."""
    return [[_sample(raw) for raw in samples] for samples in point["rounds"]]


def _sample(raw: dict[str, Any]) -> Sample:
    media = raw["seen"]
    seen = (
        None if media is None else tuple(SeenMedia(s["kind"], s["tokens"], tuple(s["px"]), s["frames"]) for s in media)
    )
    return Sample(**{**raw, "itl_s": tuple(raw["itl_s"]), "seen": seen, "logprobs": ()})


def _by_case(result: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    points: dict[str, list[dict[str, Any]]] = {}
    for point in result["points"]:
        points.setdefault(f"{point['suite']}: {point['case']}", []).append(point)
    return points


def _values(point: dict[str, Any], metric: str) -> Sequence[float]:
    """One value for each round: the mean of its answers."""
    rounds = [round_values(metric, samples) for samples in samples_of(point)]
    return [sum(values) / len(values) for values in rounds if values]
