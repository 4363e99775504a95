"""What a run tells while it goes on: frozen values, in the order of engine.measure.bench's docstring. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from engine.measure.bench.load import Load
from engine.measure.bench.plan import BenchSettings, Case
from engine.measure.bench.result import Point, Result
from engine.measure.bench.samples import Sample


@dataclass(frozen=True, slots=True)
class Started:
    """The first event. num_answers: how many Progress events there will be, the canary's questions not counted."""

    suites: tuple[str, ...]
    cases: tuple[Case, ...]
    targets: tuple[str, ...]
    num_answers: int
    settings: BenchSettings


@dataclass(frozen=True, slots=True)
class Progress:
    """An answer has come (or, sample None, has not). case None: it was not to be measured. counts: not warm-up."""

    done: int
    of: int
    target: str
    case: Case | None
    sample: Sample | None
    counts: bool


@dataclass(frozen=True, slots=True)
class Noise:
    """What makes the numbers of this moment worth less: what is "traffic", "swap", "busy", "thermal", "spread" or
    "skipped"."""

    at_s: float
    what: str
    said: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event."""

    result: Result


RunEvent = Started | Progress | Load | Noise | Point | Finished
