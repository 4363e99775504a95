"""Runs -> what bench/plot.js draws: numbers as they are in Result.json(), axes from zero. Pure.

line   series of [x, y, words, mark], joined by a line
bars   for cases that no number tells apart: a bar for each, in each series
mark   "" | "noisy" | "false" (a check of the canary failed) | "running" (answers still come)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.types import Json
from workbench.bench.live import Shown

MAX_MOMENTS = 240
"""Points in a chart over time; of what falls together the largest is drawn, so that no peak is lost."""


@dataclass(frozen=True, slots=True)
class Axis:
    """label: of Case.labels, on x. scale: "linear" or "log". divide: by how much the label's number is divided."""

    label: str
    title: str
    scale: str = "linear"
    divide: float = 1.0


AXES = {
    "image": Axis("pixels", "megapixels", divide=1e6),
    "video": Axis("frames", "frames"),
    "concurrency": Axis("streams", "streams", "log"),
}
NAMES = {
    "ttft": ("Time to first token", "ms"),
    "generation_tps": ("Decode, one stream", "tok/s"),
    "total_tps": ("Throughput of all streams", "tok/s"),
}
METRICS = {"concurrency": ("ttft", "total_tps"), "cache": ("ttft",)}
LEAST = ("ttft", "generation_tps")

MEMORY = {"process_bytes": "process", "mlx_active_bytes": "MLX, in use", "mlx_cache_bytes": "MLX, free and kept"}


def charts(runs: Sequence[Shown]) -> list[Json]:
    """By suite, as far as a run has rows of it; then memory and CPU over time."""
    suites = list(dict.fromkeys(row["suite"] for run in runs for row in run.rows))
    found = [_chart(suite, metric, runs) for suite in suites for metric in METRICS.get(suite, LEAST)]
    return [*found, *_over_time(runs)]


def _chart(suite: str, metric: str, runs: Sequence[Shown]) -> Json:
    title, unit = NAMES[metric]
    head = {"key": f"{suite}-{metric}", "title": title, "unit": unit}
    axis = AXES.get(suite)
    if axis:
        series = _series(runs, suite, lambda row: _point(row, axis, metric))
        return {**head, "kind": "line", "x": {"title": axis.title, "scale": axis.scale}, "series": series}
    if suite == "text":
        series = _series(
            runs, suite, lambda row: [[i + 1, y, row["case"], ""] for i, y in enumerate(row["each"][metric])]
        )
        return {**head, "kind": "line", "x": {"title": "answer", "scale": "count"}, "series": series}
    return {**head, "kind": "bars", "series": _series(runs, suite, lambda row: _bar(row, metric))}


def _series(runs: Sequence[Shown], suite: str, points: Callable[[Json], list[list[Any]]]) -> list[Json]:
    """One a run, or one a target of a run that asked several. place: which of the runs it is, for its colour."""
    found = []
    for place, run in enumerate(runs):
        targets = list(dict.fromkeys(row["target"] for row in run.rows if row["suite"] == suite))
        for target in targets:
            rows = [row for row in run.rows if row["suite"] == suite and row["target"] == target]
            name = f"{run.name}: {target}" if len(targets) > 1 else run.name
            found.append(
                {
                    "key": f"{run.key}/{target}",
                    "name": name,
                    "place": place + len(runs) * targets.index(target),
                    "points": [point for row in rows for point in points(row)],
                }
            )
    return found


def _point(row: Json, axis: Axis, metric: str) -> list[list[Any]]:
    at = row["labels"].get(axis.label)
    return [] if at is None or not row.get(metric) else [[at / axis.divide, *_bar(row, metric)[0][1:]]]


def _bar(row: Json, metric: str) -> list[list[Any]]:
    return [[row["case"], row[metric]["median"], row["case"], mark(row)]] if row.get(metric) else []


def mark(row: Json) -> str:
    """What is to be known of a row's numbers at a glance; the worst of it."""
    if row["canary"]["ok"] is False:
        return "false"
    return "running" if row["running"] else "noisy" if row["noise"] else ""


def _over_time(runs: Sequence[Shown]) -> list[Json]:
    """One run: its memory by kind. Several: the process of each."""
    measured = [(place, run) for place, run in enumerate(runs) if run.loads]
    if not measured:
        return []
    if len(runs) == 1:
        memory = [
            {"key": kind, "name": name, "place": f"memory-{kind}", "points": moments(runs[0].loads, kind)}
            for kind, name in MEMORY.items()
        ]
    else:
        memory = [_of_run(place, run, "process_bytes") for place, run in measured]
    cpu = [_of_run(place, run, "cpu_percent") for place, run in measured]
    others = spans(runs[0].loads) if len(runs) == 1 else []
    head = {"kind": "time", "x": {"title": "seconds", "scale": "linear"}, "bands": others}
    return [
        {**head, "key": "memory", "title": "Memory", "unit": "bytes", "series": [s for s in memory if s["points"]]},
        {**head, "key": "cpu", "title": "CPU", "unit": "%", "series": cpu},
    ]


def _of_run(place: int, run: Shown, kind: str) -> Json:
    return {"key": run.key, "name": run.name, "place": place, "points": moments(run.loads, kind)}


def moments(loads: Sequence[Json], kind: str) -> list[list[Any]]:
    """[seconds, value, "", ""] of at most MAX_MOMENTS moments: the largest of each stretch, at its own time.

    The first CPU reading of a process is of no time at all, so it is left out.
    """
    known = [load for load in loads[1 if kind == "cpu_percent" else 0 :] if load[kind] is not None]
    step = 1
    while len(known) > MAX_MOMENTS * step:
        step *= 2
    largest = (max(known[i : i + step], key=lambda load: load[kind]) for i in range(0, len(known), step))
    return [[round(load["at_s"], 1), load[kind], "", ""] for load in largest]


def spans(loads: Sequence[Json]) -> list[list[float]]:
    """Stretches of time in which the engine served requests of others, as [start, end] in seconds."""
    found: list[list[float]] = []
    before = 0.0
    busy = False
    for load in loads:
        if load["others"]:
            if busy:
                found[-1][1] = load["at_s"]
            else:
                found.append([before, load["at_s"]])
        busy, before = bool(load["others"]), load["at_s"]
    return [[round(start, 1), round(end, 1)] for start, end in found]
