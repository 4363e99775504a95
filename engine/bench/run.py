"""Ask the sources in turns. One at a time: what is measured is the answer, not the queue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from engine.bench import workloads
from engine.bench.sources import Sample, Source
from engine.bench.workloads import Settings

WARM_UP = 1_000_000
"""Warm-up questions are numbered from here, so that none of them is asked again when it counts."""


async def samples(sources: Sequence[Source], settings: Settings, warm_up: int = 1) -> AsyncIterator[Sample]:
    """One sample per source and question, after `warm_up` rounds that do not count.

    Who is first changes from question to question, so that a machine that gets slower or faster favours nobody.
    """
    for number in range(warm_up):
        for source in sources:
            await source.ask(workloads.make(settings, WARM_UP + number)[0])
    for number, workload in enumerate(workloads.make(settings)):
        turns = sources if number % 2 == 0 else tuple(reversed(sources))
        for source in turns:
            yield await source.ask(workload)
