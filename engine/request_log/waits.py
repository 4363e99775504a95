"""Who waited for whom, and what the time to the first token was spent on. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from engine.request_log.record import LoggedRequest
from engine.types import WAITS, WORK, StageName, StageSpan

MAX_ROWS = 32


@dataclass(frozen=True, slots=True)
class RanMeanwhile:
    """A request that was worked on while another one waited. step: on what mostly; ms: how much of the wait it was in
    such stages, which is more than what it was computed for, as requests take turns."""

    record: LoggedRequest
    step: StageName
    ms: float


@dataclass(frozen=True, slots=True)
class Wait:
    """A stage in which a request waited for others, and what ran meanwhile, the longest first. place: which of its
    spans it is."""

    place: int
    span: StageSpan
    rows: tuple[RanMeanwhile, ...]


@dataclass(frozen=True, slots=True)
class FirstTokenPart:
    """A stage's part of the time to the first token. share: 0 to 1."""

    step: StageName
    ms: float
    share: float


def waits(record: LoggedRequest, others: Iterable[LoggedRequest]) -> list[Wait]:
    """Every wait of a request, with the requests of the same model that ran meanwhile."""
    spans = list(enumerate(record.clock.spans()))
    waiting = [(place, span) for place, span in spans if span.step in WAITS]
    if not waiting:
        return []
    rows = [other for other in others if other is not record and other.request.model == record.request.model]
    begun = record.clock.accepted_s
    worked = [(other, other.clock.accepted_s - begun, other.clock.spans()) for other in rows]
    return [Wait(place, span, _meanwhile(span, worked)) for place, span in waiting]


def _meanwhile(
    wait: StageSpan, worked: list[tuple[LoggedRequest, float, tuple[StageSpan, ...]]]
) -> tuple[RanMeanwhile, ...]:
    found = []
    for other, later_s, spans in worked:
        by_step: dict[StageName, float] = {}
        for span in spans:
            shared_s = min(wait.end_s, span.end_s + later_s) - max(wait.start_s, span.start_s + later_s)
            if span.step in WORK and shared_s > 0:
                by_step[span.step] = by_step.get(span.step, 0.0) + shared_s
        if by_step:
            most = max(by_step, key=by_step.__getitem__)
            found.append(RanMeanwhile(other, most, 1e3 * sum(by_step.values())))
    return tuple(sorted(found, key=lambda row: -row.ms)[:MAX_ROWS])


def first_token(record: LoggedRequest) -> tuple[FirstTokenPart, ...]:
    """What the time to the first token was spent on, in the order in which the stages began; () before it has come."""
    until_s = record.clock.first_token_s()
    if not until_s:
        return ()
    sums: dict[StageName, float] = {}
    for span in record.clock.spans():
        if span.start_s < until_s:
            sums[span.step] = sums.get(span.step, 0.0) + min(span.end_s, until_s) - span.start_s
    return tuple(FirstTokenPart(step, 1e3 * s, s / until_s) for step, s in sums.items())
