"""The progress of a benchmark for a page: events -> rows and loads. Pure; the caller passes the time.

A row is a point as in Result.json(), without its rounds. A case that is being measured has a row of the answers that it
has so far, so that charts grow from answer to answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from engine.measure.bench.about import roofline
from engine.measure.bench.compare import samples_of
from engine.measure.bench.events import Finished, Noise, Progress, RunEvent, Started
from engine.measure.bench.load import Load
from engine.measure.bench.plan import BenchSettings, Case, case_words
from engine.measure.bench.result import UNITS, Point, Result, round_values
from engine.measure.bench.samples import Sample
from engine.types import Json
from workbench.language import t

EACH = ("ttft", "generation_tps")
"""Metrics that are drawn answer by answer for a suite with a single case."""

SO_FAR = tuple(name for name in UNITS if name != "itl")
"""Metrics of a case that is being measured. ITL, with a value for every token, is computed when the case is done."""


@dataclass(frozen=True, slots=True)
class DisplayedRun:
    """A run for charts and tables: running, ended or saved. key: the name it is saved under; "" for an unsaved run.

    rows: points as in Result.json() without rounds, with "each" (metric -> a value per answer) and "running". loads: as
    in Result.json(). result_json: Result.json(); None while it runs.
    """

    key: str
    name: str
    rows: tuple[Json, ...]
    loads: tuple[Json, ...]
    result_json: Json | None = None


@dataclass
class Live:
    """One run. facts: machine, model and versions; {} until they are known. saved_name: "" until it is saved."""

    suite: str
    title: str
    settings: BenchSettings
    began_s: float
    facts: Json = field(default_factory=dict)
    saved_name: str = ""
    error: str = ""
    ended: bool = False
    done: int = 0
    total: int = 0
    result: Result | None = None
    result_json: Json | None = None
    noise: list[Noise] = field(default_factory=list)
    _current_case: Case | None = None
    _loads: list[Json] = field(default_factory=list)
    _rows: dict[tuple[str, Case], Json] = field(default_factory=dict)
    _points: dict[tuple[str, Case], Point] = field(default_factory=dict)
    _samples: dict[tuple[str, Case], list[Sample]] = field(default_factory=dict)
    _order: list[Case] = field(default_factory=list)
    _answered_s: deque[float] = field(default_factory=deque)

    def add(self, event: RunEvent, now_s: float) -> None:
        """Add one event."""
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
            self._current_case = event.case
            if event.counts and event.sample is not None:
                self._samples.setdefault((event.target, event.case), []).append(event.sample)
                self._rows.pop((event.target, event.case), None)

    @property
    def current_case(self) -> str:
        """Name of the case of the last answer."""
        return self._current_case.name if self._current_case else ""

    @property
    def points(self) -> list[Point]:
        """A point for each case that has answers, in the order of the suite."""
        points_by_key = {key: self._points.get(key) or so_far(*key, samples) for key, samples in self._samples.items()}
        place = {case: i for i, case in enumerate(self._order)}
        points = [*points_by_key.values(), *(point for key, point in self._points.items() if key not in points_by_key)]
        return sorted(points, key=lambda point: place.get(point.case, len(place)))

    def displayed(self) -> DisplayedRun:
        rows = []
        for point in self.points:
            key = point.target, point.case
            if key not in self._rows:
                self._rows[key] = row_of(point, SO_FAR) | {"running": True}
            rows.append(self._rows[key] | {"running": key not in self._points})
        return DisplayedRun(
            self.saved_name, self.saved_name or t("this run"), tuple(rows), tuple(self._loads), self.result_json
        )

    @property
    def roofline(self) -> Json:
        """As in Result.json(), from the answers so far."""
        points = self.points
        machine, model = self.facts.get("machine", {}), self.facts.get("model", {})
        return roofline(points, points[0].target, machine, model) if points else {}

    def remaining_s(self, now_s: float) -> float | None:
        """Seconds until the end, at the pace of the last answers: cases grow, so the first answers predict little."""
        if len(self._answered_s) < 2 or not self.total:
            return None
        each_s = (self._answered_s[-1] - self._answered_s[0]) / (len(self._answered_s) - 1)
        return max(0.0, each_s * (self.total - self.done) - (now_s - self._answered_s[-1]))


def case_in_words(name: str) -> str:
    """A case's name as the page writes it, in the reader's language."""
    return case_words(name, t("picture of {size}"))


def so_far(target: str, case: Case, samples: Sequence[Sample]) -> Point:
    """A point of a case that is not done. Answers of concurrent streams make a round once all of them have come."""
    num_streams = int(dict(case.labels).get("streams", 1))
    rounds = [tuple(samples[i : i + num_streams]) for i in range(0, len(samples), num_streams)]
    complete = tuple(answers for answers in rounds if len(answers) == num_streams)
    return Point(case, target, complete or tuple(rounds))


def row_of(point: Point, names: Sequence[str] = tuple(UNITS)) -> Json:
    return {**point.summary(names), "each": _each(point.rounds), "running": False}


def from_json(name: str, result_json: Json) -> DisplayedRun:
    """A saved run from its JSON."""
    rows = [
        {**{key: value for key, value in point.items() if key != "rounds"}, "each": _each(samples_of(point))}
        for point in result_json["points"]
    ]
    return DisplayedRun(
        name, name, tuple(row | {"running": False} for row in rows), tuple(result_json.get("load", ())), result_json
    )


def _each(rounds: Sequence[Sequence[Sample]]) -> Json:
    return {name: [value for samples in rounds for value in round_values(name, samples)] for name in EACH}
