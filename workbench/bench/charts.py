"""Runs -> what is drawn of them: numbers as in Result.json(). workbench.bench.figures makes figures of it. Pure.

line   series of [x, y, words, mark], joined by a line
bars   for cases without a number as axis: a bar for each, in each series
mark   "" | "noisy" | "false" (a check of the canary failed) | "running" (answers still come)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.types import Json
from workbench.bench.live import DisplayedRun, case_in_words
from workbench.language import catalogued, t

MAX_MOMENTS = 240
"""Points in a chart over time. Of several samples for one point the largest is drawn, so that no peak is lost."""


@dataclass(frozen=True, slots=True)
class Axis:
    """label: of Case.labels, on x. scale: "linear" or "log". divide: the label's number is divided by it."""

    label: str
    title: str
    scale: str = "linear"
    divide: float = 1.0


AXES = {
    "image": Axis("pixels", catalogued("megapixels"), divide=1e6),
    "video": Axis("frames", catalogued("frames")),
    "concurrency": Axis("streams", catalogued("streams"), "log"),
}
NAMES = {
    "ttft": (catalogued("Time to first token"), "ms"),
    "generation_tps": (catalogued("Decode, one stream"), "tok/s"),
    "total_tps": (catalogued("Throughput of all streams"), "tok/s"),
}
METRICS = {"concurrency": ("ttft", "total_tps"), "cache": ("ttft",), "decisions": ("ttft",)}
DEFAULT_METRICS = ("ttft", "generation_tps")

MEMORY = {
    "process_bytes": catalogued("process"),
    "mlx_active_bytes": catalogued("MLX, in use"),
    "mlx_cache_bytes": catalogued("MLX, free and kept"),
}


def charts(runs: Sequence[DisplayedRun]) -> list[Json]:
    """The charts of every suite that a run has rows of; then memory and CPU over time."""
    suites = list(dict.fromkeys(row["suite"] for run in runs for row in run.rows))
    by_suite = [_chart(suite, metric, runs) for suite in suites for metric in METRICS.get(suite, DEFAULT_METRICS)]
    return [*by_suite, *_over_time(runs)]


def _chart(suite: str, metric: str, runs: Sequence[DisplayedRun]) -> Json:
    title, unit = NAMES[metric]
    head = {"key": f"{suite}-{metric}", "title": t(title), "unit": unit}
    axis = AXES.get(suite)
    if axis:
        series = _series(runs, suite, lambda row: _point(row, axis, metric))
        return {**head, "kind": "line", "x": {"title": t(axis.title), "scale": axis.scale}, "series": series}
    if suite == "text":
        series = _series(
            runs,
            suite,
            lambda row: [[i + 1, y, case_in_words(row["case"]), ""] for i, y in enumerate(row["each"][metric])],
        )
        return {**head, "kind": "line", "x": {"title": t("answer"), "scale": "count"}, "series": series}
    return {**head, "kind": "bars", "series": _series(runs, suite, lambda row: _bar(row, metric))}


def _series(runs: Sequence[DisplayedRun], suite: str, points: Callable[[Json], list[list[Any]]]) -> list[Json]:
    """A series for each target of each run. place: of the run among the runs, for its colour."""
    series = []
    for place, run in enumerate(runs):
        targets = list(dict.fromkeys(row["target"] for row in run.rows if row["suite"] == suite))
        for target in targets:
            rows = [row for row in run.rows if row["suite"] == suite and row["target"] == target]
            name = f"{run.name}: {target}" if len(targets) > 1 else run.name
            series.append(
                {
                    "key": f"{run.key}/{target}",
                    "name": name,
                    "place": place + len(runs) * targets.index(target),
                    "points": [point for row in rows for point in points(row)],
                }
            )
    return series


def _point(row: Json, axis: Axis, metric: str) -> list[list[Any]]:
    at = row["labels"].get(axis.label)
    return [] if at is None or not row.get(metric) else [[at / axis.divide, *_bar(row, metric)[0][1:]]]


def _bar(row: Json, metric: str) -> list[list[Any]]:
    case = case_in_words(row["case"])
    return [[case, row[metric]["median"], case, mark(row)]] if row.get(metric) else []


def mark(row: Json) -> str:
    """The mark of a row: the most severe of those in the module's docstring."""
    if row["canary"]["ok"] is False:
        return "false"
    return "running" if row["running"] else "noisy" if row["noise"] else ""


def _over_time(runs: Sequence[DisplayedRun]) -> list[Json]:
    """Memory and CPU. Memory by kind for a single run, of the process for each of several runs."""
    measured = [(place, run) for place, run in enumerate(runs) if run.loads]
    if not measured:
        return []
    if len(runs) == 1:
        memory = [
            {"key": kind, "name": t(name), "place": place, "points": moments(runs[0].loads, kind)}
            for place, (kind, name) in enumerate(MEMORY.items())
        ]
    else:
        memory = [_of_run(place, run, "process_bytes") for place, run in measured]
    cpu = [_of_run(place, run, "cpu_percent") for place, run in measured]
    others = spans(runs[0].loads) if len(runs) == 1 else []
    head = {"kind": "time", "x": {"title": t("seconds"), "scale": "linear"}, "bands": others}
    return [
        {**head, "key": "memory", "title": t("Memory"), "unit": "bytes", "series": [s for s in memory if s["points"]]},
        {**head, "key": "cpu", "title": "CPU", "unit": "%", "series": cpu},
    ]


def _of_run(place: int, run: DisplayedRun, kind: str) -> Json:
    return {"key": run.key, "name": run.name, "place": place, "points": moments(run.loads, kind)}


def moments(loads: Sequence[Json], kind: str) -> list[list[Any]]:
    """[seconds, value, "", ""] at no more than MAX_MOMENTS times: the largest value of each stretch, at its own time.

    The first CPU reading is left out, as it covers no time.
    """
    readings = [load for load in loads[1 if kind == "cpu_percent" else 0 :] if load[kind] is not None]
    step = 1
    while len(readings) > MAX_MOMENTS * step:
        step *= 2
    largest = (max(readings[i : i + step], key=lambda load: load[kind]) for i in range(0, len(readings), step))
    return [[round(load["at_s"], 1), load[kind], "", ""] for load in largest]


def spans(loads: Sequence[Json]) -> list[list[float]]:
    """Stretches of time in which the engine served requests of others, as [start, end] in seconds."""
    stretches: list[list[float]] = []
    before = 0.0
    busy = False
    for load in loads:
        if load["others"]:
            if busy:
                stretches[-1][1] = load["at_s"]
            else:
                stretches.append([before, load["at_s"]])
        busy, before = bool(load["others"]), load["at_s"]
    return [[round(start, 1), round(end, 1)] for start, end in stretches]
