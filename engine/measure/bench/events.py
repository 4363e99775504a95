"""The events of a run: frozen values, described in engine.measure.bench's docstring. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from engine.measure.bench.load import Load
from engine.measure.bench.plan import BenchSettings, Case
from engine.measure.bench.result import Point, Result
from engine.measure.bench.samples import Sample


@dataclass(frozen=True, slots=True)
class Started:
    """The first event. num_answers: how many answers Progress counts to; the canary's questions are not among them."""

    suites: tuple[str, ...]
    cases: tuple[Case, ...]
    targets: tuple[str, ...]
    num_answers: int
    settings: BenchSettings


@dataclass(frozen=True, slots=True)
class Progress:
    """An answer has come. sample None: it failed. case None: it is not measured. counts: False for a warm-up round."""

    done: int
    total: int
    target: str
    case: Case | None
    sample: Sample | None
    counts: bool


@dataclass(frozen=True, slots=True)
class Noise:
    """Something that makes the numbers less reliable. kind: "traffic", "swap", "busy", "thermal", "spread", or
    "skipped" for cases that are not measured."""

    at_s: float
    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event."""

    result: Result


RunEvent = Started | Progress | Load | Noise | Point | Finished
