"""Measured rounds -> points, ratios and facts. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.measure.bench.canary import Proofs, judge
from engine.measure.bench.plan import Fact, Group, MeasuredRound
from engine.measure.bench.result import LESS_IS_BETTER, Comparison, Point, is_noisy
from engine.measure.bench.stats import NOISY, Ratio, paired_ratio

BETWEEN_TARGETS = ("generation_tps", "ttft", "total_tps", "e2e", "cpu")
PARITY, PARITY_WITH_LIBRARY = 1.0, 0.97
"""Goal of the ratio of two targets, turned so that more is better. A server has work that a library does not have."""

TargetPairs = Sequence[tuple[str, str, bool]]
"""(name of the first target, name of the other, whether the other answers in this process) for each comparison."""

TargetRounds = Sequence[MeasuredRound | None]
"""A target's rounds of a group; None for a round that failed."""


def points_of(
    group: Group,
    target: str,
    rounds: TargetRounds,
    errors: Sequence[str],
    proofs: Proofs,
) -> list[Point]:
    """A point for each case of the group that this target has answered or failed."""
    points = []
    for case in group.cases:
        samples = tuple(tuple(measured.of(case)) if measured else () for measured in rounds)
        if any(samples) or errors:
            point = Point(case, target, samples, errors=tuple(dict.fromkeys(errors)))
            points.append(
                replace(point, canary=judge(point.samples, proofs.get((target, case))), noise=noise_of(point))
            )
    return points


def noise_of(point: Point) -> tuple[str, ...]:
    """What makes these numbers less reliable, in words."""
    notes = []
    if is_noisy(point):
        name, spread = max(point.spreads.items(), key=lambda item: item[1])
        notes.append(f"noisy: {name} spreads over {spread:.0%} (more than {NOISY:.0%})")
    if bursts := sum(sample.came_at_once for sample in point.samples):
        notes.append(f"{bursts} answers came at once, not token by token: their TPOT says nothing")
    if others := sum(sample.others for sample in point.samples):
        notes.append(f"others asked meanwhile ({others})")
    return tuple(notes)


def facts_of(group: Group, rounds: TargetRounds) -> Sequence[Fact]:
    """The group's facts, from the rounds that did not fail."""
    measured = [one_round for one_round in rounds if one_round]
    return group.facts(measured) if measured else ()


def comparisons(group: Group, targets: Sequence[str], pairs: TargetPairs, points: Sequence[Point]) -> list[Comparison]:
    """The group's contrasts for each target, then each pair of targets on each case."""
    by_name = {(point.target, point.case): point for point in points}
    out = []
    for target in targets:
        for contrast in group.contrasts:
            ratio = _ratio(contrast.metric, *(by_name.get((target, case)) for case in (contrast.over, contrast.under)))
            if ratio:
                names = (contrast.over.name, contrast.under.name)
                out.append(Comparison(contrast.title, contrast.metric, target, *names, ratio, contrast.goal))
    for first, second, is_library in pairs:
        for case in group.cases:
            point_pair = (by_name.get((first, case)), by_name.get((second, case)))
            for metric in group.parity or BETWEEN_TARGETS:
                if ratio := _ratio(metric, *point_pair):
                    goal, at_most = _goal(group, metric, PARITY_WITH_LIBRARY if is_library else PARITY)
                    title = f"{first} / {second}"
                    name = point_pair[0].name if point_pair[0] else case.name
                    out.append(Comparison(title, metric, name, first, second, ratio, goal, at_most=at_most))
    return out


def _goal(group: Group, metric: str, parity: float) -> tuple[float | None, bool]:
    """The goal of a ratio of two targets, and whether it is an upper limit."""
    if group.parity:
        return (1 / parity, True) if metric in LESS_IS_BETTER else (parity, False)
    if metric in (goals := dict(group.goals)):
        return goals[metric], False
    return dict(group.limits).get(metric), True


def _ratio(metric: str, over: Point | None, under: Point | None) -> Ratio | None:
    return paired_ratio(over.by_round(metric), under.by_round(metric)) if over and under else None
