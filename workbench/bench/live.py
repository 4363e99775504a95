"""What a benchmark has told so far, for a page: events in, rows and loads out. Pure; the caller brings the time.

A row is a point as in Result.json(), without its rounds. A case that is still being asked has a row too, of the answers
that have come, so that charts grow from answer to answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from engine.measure.bench.about import roofline
from engine.measure.bench.compare import samples_of
from engine.measure.bench.events import Finished, Noise, Progress, RunEvent, Started
from engine.measure.bench.load import Load
from engine.measure.bench.plan import BenchSettings, Case
from engine.measure.bench.result import UNITS, Point, Result, round_values
from engine.measure.bench.samples import Sample
from engine.types import Json

EACH = ("ttft", "generation_tps")
"""Metrics that are drawn answer by answer where a suite has one case only."""

SO_FAR = tuple(name for name in UNITS if name != "itl")
"""Metrics of a case that is being asked; every gap between tokens is looked at once it is done."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A run as charts and tables take it: going on, ended or kept. key: its kept name, "" while it has none.

    rows: points as in Result.json() without rounds, with "each" (metric -> a value per answer) and "running". loads: as
    in Result.json(). whole: Result.json(), None while it goes on.
    """

    key: str
    name: str
    rows: tuple[Json, ...]
    loads: tuple[Json, ...]
    whole: Json | None = None


@dataclass
class Live:
    """One run. facts: machine, model and versions, {} until they are known. kept: the name it is kept under."""

    suite: str
    title: str
    settings: BenchSettings
    began_s: float
    facts: Json = field(default_factory=dict)
    kept: str = ""
    error: str = ""
    ended: bool = False
    done: int = 0
    total: int = 0
    result: Result | None = None
    whole: Json | None = None
    noise: list[Noise] = field(default_factory=list)
    _asked: Case | None = None
    _loads: list[Json] = field(default_factory=list)
    _rows: dict[tuple[str, Case], Json] = field(default_factory=dict)
    _points: dict[tuple[str, Case], Point] = field(default_factory=dict)
    _samples: dict[tuple[str, Case], list[Sample]] = field(default_factory=dict)
    _order: list[Case] = field(default_factory=list)
    _answered_s: deque[float] = field(default_factory=deque)

    def take(self, event: RunEvent, now_s: float) -> None:
        """Note one event."""
        if isinstance(event, Started):
            self.total, self.settings, self._order = event.num_answers, event.settings, list(event.cases)
            self._answered_s = deque([now_s], maxlen=2 + self.total // max(1, len(event.cases)))
        elif isinstance(event, Progress):
            self._progress(event, now_s)
        elif isinstance(event, Load):
            self._loads.append(asdict(event))
        elif isinstance(event, Noise):
            self.noise.append(event)
        elif isinstance(event, Point):
            self._points[event.target, event.case] = event
            self._rows[event.target, event.case] = row_of(event)
        elif isinstance(event, Finished):
            self.result, self.ended = event.result, True

    def _progress(self, event: Progress, now_s: float) -> None:
        self.done, self.total = event.done, max(self.total, event.total)
        self._answered_s.append(now_s)
        if event.case is not None:
            self._asked = event.case
            if event.counts and event.sample is not None:
                self._samples.setdefault((event.target, event.case), []).append(event.sample)
                self._rows.pop((event.target, event.case), None)

    @property
    def asked(self) -> str:
        """The case of the last answer."""
        return self._asked.name if self._asked else ""

    @property
    def points(self) -> list[Point]:
        """Cases that are done, and what has come of the others."""
        found = {key: self._points.get(key) or so_far(*key, samples) for key, samples in self._samples.items()}
        place = {case: i for i, case in enumerate(self._order)}
        points = [*found.values(), *(point for key, point in self._points.items() if key not in found)]
        return sorted(points, key=lambda point: place.get(point.case, len(place)))

    def shown(self) -> Shown:
        rows = []
        for point in self.points:
            key = point.target, point.case
            if key not in self._rows:
                self._rows[key] = row_of(point, SO_FAR) | {"running": True}
            rows.append(self._rows[key] | {"running": key not in self._points})
        return Shown(self.kept, self.kept or "this run", tuple(rows), tuple(self._loads), self.whole)

    @property
    def roofline(self) -> Json:
        """As in Result.json(), of what has come so far."""
        points = self.points
        machine, model = self.facts.get("machine", {}), self.facts.get("model", {})
        return roofline(points, points[0].target, machine, model) if points else {}

    def left_s(self, now_s: float) -> float | None:
        """Seconds until the end, if the rest goes as the last answers did: cases grow, so the first say little."""
        if len(self._answered_s) < 2 or not self.total:
            return None
        each_s = (self._answered_s[-1] - self._answered_s[0]) / (len(self._answered_s) - 1)
        return max(0.0, each_s * (self.total - self.done) - (now_s - self._answered_s[-1]))


def so_far(target: str, case: Case, samples: Sequence[Sample]) -> Point:
    """The answers of a case that is not done. Those of streams that ran together are one round, once all have come."""
    together = int(dict(case.labels).get("streams", 1))
    rounds = [tuple(samples[i : i + together]) for i in range(0, len(samples), together)]
    whole = tuple(taken for taken in rounds if len(taken) == together)
    return Point(case, target, whole or tuple(rounds))


def row_of(point: Point, names: Sequence[str] = tuple(UNITS)) -> Json:
    return {**point.summary(names), "each": _each(point.rounds), "running": False}


def kept(name: str, whole: Json) -> Shown:
    """A run from its JSON."""
    rows = [
        {**{key: value for key, value in point.items() if key != "rounds"}, "each": _each(samples_of(point))}
        for point in whole["points"]
    ]
    return Shown(name, name, tuple(row | {"running": False} for row in rows), tuple(whole.get("load", ())), whole)


def _each(rounds: Sequence[Sequence[Sample]]) -> Json:
    return {name: [value for taken in rounds for value in round_values(name, taken)] for name in EACH}
