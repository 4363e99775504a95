"""What a run measured, as frozen values and as JSON. Pure.

Result ── Point ── Sample          a point is one case of one target
   └── machine, settings, loads    what was measured, and under which conditions
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from engine.measure.bench.load import Load
from engine.measure.bench.plan import BenchSettings, Case, Fact, case_words
from engine.measure.bench.samples import Sample
from engine.measure.bench.stats import NOISY, Numbers, Ratio, numbers, reached, spread

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1

UNITS = {
    "ttft": "ms",
    "tpot": "ms",
    "itl": "ms",
    "e2e": "ms",
    "generation_tps": "tok/s",
    "prompt_tps": "tok/s",
    "total_tps": "tok/s",
    "requests_per_s": "1/s",
    "cpu": "ms",
    "memory": "MiB",
}
"""Metrics by their usual names. total_tps: answer tokens of all streams together; cpu: processor time of this process
up to the first text; memory: the largest resident memory of the server's process at the end of an answer."""

LESS_IS_BETTER = {"ttft", "tpot", "itl", "e2e", "cpu", "memory"}
MiB = 2**20
GiB = 2**30


@dataclass(frozen=True, slots=True)
class Check:
    """One check of the canary. ok None: it could not be decided. said: the finding or the reason, in words."""

    name: str
    ok: bool | None
    said: str = ""


@dataclass(frozen=True, slots=True)
class Canary:
    """The proof that a point's run was real."""

    checks: tuple[Check, ...] = ()

    @property
    def ok(self) -> bool | None:
        """False when a check failed, None when nothing could be checked."""
        outcomes = [check.ok for check in self.checks if check.ok is not None]
        return all(outcomes) if outcomes else None

    @property
    def failed(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.ok is False)

    def json(self) -> dict[str, Any]:
        return {"ok": self.ok, "checks": [asdict(check) for check in self.checks]}


@dataclass(frozen=True, slots=True)
class Point:
    """One case of one target. rounds: its samples, round by round. errors: why answers failed.

    noise: what makes these numbers less reliable, in words.
    """

    case: Case
    target: str
    rounds: tuple[tuple[Sample, ...], ...]
    canary: Canary = field(default_factory=Canary)
    noise: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()

    @property
    def frames(self) -> int | None:
        """Frames that every answer saw, where these are not as many as the case asks for: a clip may be too short, and
        a model have a least number. None where they are, or it is not known."""
        seen = {sum(medium.frames for medium in sample.seen) for sample in self.samples if sample.seen}
        asked = dict(self.case.labels).get("frames")
        return seen.pop() if asked is not None and len(seen) == 1 and asked not in seen else None

    @property
    def name(self) -> str:
        """The case's, and where it would not be true, first what was seen."""
        return self.case.name if self.frames is None else f"{self.frames} frames, asked for {self.case.name}"

    @property
    def words(self) -> str:
        """The name as a person reads it."""
        return case_words(self.name)

    @property
    def labels(self) -> dict[str, Any]:
        """The case's, with the frames that were seen."""
        return dict(self.case.labels) | ({} if self.frames is None else {"frames": self.frames})

    @property
    def samples(self) -> list[Sample]:
        return [sample for samples in self.rounds for sample in samples]

    def values(self, metric: str) -> list[float]:
        """Every value of a metric of UNITS, in its unit."""
        return [value for samples in self.rounds for value in round_values(metric, samples)]

    def by_round(self, metric: str) -> list[float | None]:
        """One value for each round, the mean of its answers; None for a round without an answer."""
        rounds = [round_values(metric, samples) for samples in self.rounds]
        return [sum(values) / len(values) if values else None for values in rounds]

    def metric(self, name: str) -> Numbers | None:
        return numbers(self.values(name))

    @property
    def spreads(self) -> dict[str, float]:
        """Spread of TTFT and TPOT from round to round."""
        return {name: spread([v for v in self.by_round(name) if v is not None]) for name in ("ttft", "tpot")}

    def json(self) -> dict[str, Any]:
        return {**self.summary(), "rounds": [[asdict(sample) for sample in samples] for samples in self.rounds]}

    def summary(self, names: Sequence[str] = tuple(UNITS)) -> dict[str, Any]:
        """The JSON without the rounds, with the metrics of these names."""
        samples = self.samples
        metrics = {name: self.metric(name) for name in names}
        return {
            "suite": self.case.suite,
            "case": self.name,
            "labels": self.labels,
            "target": self.target,
            "answers": len(samples),
            "prompt_tokens": sum(sample.prompt_tokens for sample in samples),
            "cached_tokens": sum(sample.cached_tokens or 0 for sample in samples),
            "completion_tokens": sum(sample.completion_tokens for sample in samples),
            "right": right_share(samples),
            **{name: value.json() if value else None for name, value in metrics.items()},
            "canary": self.canary.json(),
            "noise": list(self.noise),
            "errors": list(self.errors),
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """A measured ratio of two targets on one case, or of two cases of one target. case: that case, or that target.
    over, under: what is compared. at_most: the goal is an upper limit."""

    title: str
    metric: str
    case: str
    over: str
    under: str
    ratio: Ratio
    goal: float | None = None
    at_most: bool = False

    @property
    def reached(self) -> bool | None:
        return reached(self.ratio.value, self.goal, self.at_most)

    @property
    def good(self) -> Ratio:
        """The ratio turned so that above 1 is good for `over`."""
        return self.ratio.inverse() if self.metric in LESS_IS_BETTER else self.ratio


@dataclass(frozen=True, slots=True)
class Result:
    """Everything of a run. started: ISO time in UTC. stopped: the run was stopped before its end.

    machine, model, versions: of engine.measure.bench.about. facts: (target, fact).
    """

    suites: tuple[str, ...]
    started: str
    settings: BenchSettings
    targets: tuple[str, ...]
    machine: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    points: tuple[Point, ...] = ()
    compared: tuple[Comparison, ...] = ()
    facts: tuple[tuple[str, Fact], ...] = ()
    loads: tuple[Load, ...] = ()
    notes: tuple[str, ...] = ()
    roofline: dict[str, Any] = field(default_factory=dict)
    stopped: bool = False

    @property
    def canary(self) -> bool | None:
        """False when any point's canary failed; None when nothing could be checked."""
        outcomes = [point.canary.ok for point in self.points if point.canary.ok is not None]
        return all(outcomes) if outcomes else None

    def to_frame(self) -> pd.DataFrame:
        """A row for each answer: see engine.measure.bench.frames."""
        from engine.measure.bench.frames import to_frame

        return to_frame(self.json())

    def json(self) -> dict[str, Any]:
        """Everything. The latencies at the top level are of the first target's answers to all cases together."""
        first = [point for point in self.points if self.targets and point.target == self.targets[0]]
        overall = {
            name: numbers([value for point in first for value in point.values(name)])
            for name in ("ttft", "tpot", "itl", "e2e")
        }
        return {
            "format": FORMAT,
            "suites": list(self.suites),
            "started": self.started,
            "stopped": self.stopped,
            "settings": {**asdict(self.settings), "video": self.settings.video and self.settings.video.name},
            "targets": list(self.targets),
            "machine": self.machine,
            "model": self.model,
            "versions": self.versions,
            "units": UNITS,
            **{name: value.json() if value else None for name, value in overall.items()},
            "canary": {
                "ok": self.canary,
                "failed": [
                    {"target": point.target, "case": point.name, **asdict(check)}
                    for point in self.points
                    for check in point.canary.failed
                ],
            },
            "roofline": self.roofline,
            "points": [point.json() for point in self.points],
            "compared": [{**asdict(comparison), "reached": comparison.reached} for comparison in self.compared],
            "facts": [{"target": target, **asdict(fact), "reached": fact.reached} for target, fact in self.facts],
            "notes": list(self.notes),
            "load": [asdict(load) for load in self.loads],
        }


def round_values(metric: str, samples: Sequence[Sample]) -> list[float]:
    """The values of a metric in one round of one case, in the unit of UNITS."""
    if metric == "itl":
        return [gap * 1e3 for sample in samples for gap in sample.itl_s]
    if metric == "memory":
        sizes = [sample.process_bytes / MiB for sample in samples if sample.process_bytes]
        return [max(sizes)] if sizes else []
    if metric in ("total_tps", "requests_per_s"):
        return _together(metric, samples)
    values = [PER_ANSWER[metric](sample) for sample in samples]
    return [value for value in values if value is not None]


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3


PER_ANSWER: dict[str, Callable[[Sample], float | None]] = {
    "ttft": lambda sample: _ms(sample.ttft_s),
    "tpot": lambda sample: _ms(sample.tpot_s),
    "e2e": lambda sample: _ms(sample.e2e_s),
    "generation_tps": lambda sample: sample.generation_tps,
    "prompt_tps": lambda sample: sample.prompt_tps,
    "cpu": lambda sample: _ms(sample.cpu_s),
}
"""Metrics with a value for each answer."""


def _together(metric: str, samples: Sequence[Sample]) -> list[float]:
    """A rate over all answers of a round, from the start of the first to the end of the last."""
    if not samples:
        return []
    began = min(sample.started_s for sample in samples)
    span = max(sample.started_s + sample.e2e_s for sample in samples) - began
    amount = len(samples) if metric == "requests_per_s" else sum(sample.completion_tokens for sample in samples)
    return [amount / span] if span > 0 else []


def right_share(samples: Sequence[Sample]) -> float | None:
    """The share of right answers among those with an expected word. Returns None without any."""
    graded = [sample.right for sample in samples if sample.right is not None]
    return sum(graded) / len(graded) if graded else None


def is_noisy(point: Point) -> bool:
    return any(value > NOISY for value in point.spreads.values())
