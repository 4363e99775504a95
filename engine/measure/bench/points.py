"""Measured rounds -> points, ratios and facts. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from engine.measure.bench.canary import Proven, judge
from engine.measure.bench.plan import Case, Fact, Group, Measured
from engine.measure.bench.result import LESS_IS_BETTER, Compared, Point, is_noisy
from engine.measure.bench.stats import NOISY, Ratio, paired_ratio

BETWEEN_TARGETS = ("generation_tps", "ttft", "total_tps", "e2e", "cpu")
EVEN, EVEN_TO_A_LIBRARY = 1.0, 0.97
"""What a ratio of two targets should reach, turned so that more is better: a server has work that a library lacks."""

Rivals = Sequence[tuple[str, str, bool]]
"""Whom is held against whom, by name; and whether both answer in this process."""

Taking = Sequence[Measured | None]
"""A target's rounds of a group; None for one that failed."""


def points_of(
    group: Group, target: str, taken: Taking, errors: Sequence[str], proven: Mapping[tuple[str, Case], Proven | str]
) -> list[Point]:
    """A point for each case of the group that this target was asked, or could not be asked."""
    found = []
    for case in group.cases:
        rounds = tuple(tuple(one.of(case)) if one else () for one in taken)
        if any(rounds) or errors:
            point = Point(case, target, rounds, errors=tuple(dict.fromkeys(errors)))
            found.append(replace(point, canary=judge(point.samples, proven.get((target, case))), noise=noise_of(point)))
    return found


def noise_of(point: Point) -> tuple[str, ...]:
    """Why these numbers are to be read with care."""
    said = []
    if is_noisy(point):
        name, spread = max(point.spreads.items(), key=lambda item: item[1])
        said.append(f"noisy: {name} spreads over {spread:.0%} (more than {NOISY:.0%})")
    if bursts := sum(sample.came_at_once for sample in point.samples):
        said.append(f"{bursts} answers came at once, not token by token: their TPOT says nothing")
    if others := sum(sample.others for sample in point.samples):
        said.append(f"others asked meanwhile ({others})")
    return tuple(said)


def facts_of(group: Group, taken: Taking) -> Sequence[Fact]:
    whole = [one for one in taken if one]
    return group.facts(whole) if whole else ()


def compared(group: Group, targets: Sequence[str], rivals: Rivals, points: Sequence[Point]) -> list[Compared]:
    """The group's contrasts for each target, then the rivals on each case."""
    by_name = {(point.target, point.case): point for point in points}
    found = []
    for target in targets:
        for contrast in group.contrasts:
            ratio = _ratio(contrast.metric, *(by_name.get((target, case)) for case in (contrast.over, contrast.under)))
            if ratio:
                names = (contrast.over.name, contrast.under.name)
                found.append(Compared(contrast.title, contrast.metric, target, *names, ratio, contrast.goal))
    for ours, other, in_process in rivals:
        for case in group.cases:
            pair = (by_name.get((ours, case)), by_name.get((other, case)))
            for metric in group.even or BETWEEN_TARGETS:
                if ratio := _ratio(metric, *pair):
                    goal, at_most = _goal(group, metric, EVEN_TO_A_LIBRARY if in_process else EVEN)
                    title = f"{ours} / {other}"
                    found.append(Compared(title, metric, case.name, ours, other, ratio, goal, at_most=at_most))
    return found


def _goal(group: Group, metric: str, even: float) -> tuple[float | None, bool]:
    """What a ratio of two targets should be, and whether at most."""
    if group.even:
        return (1 / even, True) if metric in LESS_IS_BETTER else (even, False)
    return dict(group.limits).get(metric), True


def _ratio(metric: str, over: Point | None, under: Point | None) -> Ratio | None:
    return paired_ratio(over.by_round(metric), under.by_round(metric)) if over and under else None
