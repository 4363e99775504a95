"""Concurrent streams whose stored KV pushes out each other's, for minutes: every answer is what it was alone. Any event
loop.

This is what machines have panicked under (https://github.com/ml-explore/mlx/issues/3186), so it runs by itself, with a
cache that has no room for all of its prompts.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from engine.config import EngineConfig
from engine.errors import EngineError, say_bytes
from engine.measure.selftest import judge
from engine.measure.selftest.checks import DESCRIBE, Finding
from engine.measure.selftest.fixtures import DrawnMedium, square
from engine.measure.selftest.harness import WORDS, Harness, ObservedAnswer
from engine.measure.selftest.judge import CheckRow
from engine.types import Request

STREAMS = 4
NUM_TEXTS = 6
CANCELLED_SHARE = 0.2
_BLOCKS_OF_A_TEXT = 4
_LEAST_CONTEXT = 8 * 64
_SEED = 11


def churning(config: EngineConfig) -> EngineConfig:
    """The configuration with a cache that holds about half of what is asked here."""
    cache = config.cache
    blocks = min(cache.max_blocks, NUM_TEXTS // 2 * _BLOCKS_OF_A_TEXT)
    return replace(config, cache=replace(cache, max_blocks=blocks, max_snapshots=min(cache.max_snapshots, 2)))


@dataclass
class _Tally:
    """What came of it. findings: of the answers, with how often each came."""

    findings: Counter[Finding] = field(default_factory=Counter)
    num_cancelled: int = 0
    num_reused: int = 0


async def churn(harness: Harness, minutes: float) -> CheckRow:
    """The row of the table, after so many minutes."""
    ends_s = time.monotonic() + 60 * minutes
    outcome, detail = await under_churn(harness, lambda: time.monotonic() >= ends_s)
    return CheckRow(f"churned for {minutes:g} minutes = alone", outcome, detail)


async def under_churn(harness: Harness, is_over: Callable[[], bool]) -> Finding:
    """Whether every answer is what it was alone, until it is over. The first fault ends it."""
    if not harness.engine.config.cache.enabled:
        return "n/a", "the prefix cache is off, so nothing is evicted"
    requests = _requests(harness)
    try:
        alone = [await harness.cold(request) for request in requests]
        await harness.forget()
        before = harness.engine.snapshot().cache.evictions
        tally = _Tally()
        streams = [_stream(harness, list(zip(requests, alone, strict=True)), tally, i, is_over) for i in range(STREAMS)]
        await asyncio.gather(*streams)
        await harness.quiet()
    except EngineError as error:
        return "fault", error.message
    except TimeoutError:
        return "fault", "the engine did not answer"
    snapshot = harness.engine.snapshot()
    return _finding(tally, snapshot.cache.evictions - before, snapshot.peak_bytes)


def _finding(tally: _Tally, num_evicted: int, peak_bytes: int) -> Finding:
    if not tally.findings:
        return "fault", "no answer came to its end, so nothing is shown"
    outcome, words = judge.worst(list(tally.findings))
    if outcome == "fault":
        return outcome, words
    if not num_evicted or not tally.num_reused:
        return "fault", "nothing was evicted, or nothing reused, so nothing is shown"
    answers = f"{tally.findings.total()} answers of {STREAMS} streams, {tally.num_reused} of them with a hit"
    rest = f"{tally.num_cancelled} cancelled, {num_evicted} evictions, peak {say_bytes(peak_bytes)}"
    ties = sum(number for (kind, _), number in tally.findings.items() if kind == "tie")
    return outcome, f"{answers}, {rest}" + (f"; {ties} parted at a near tie" if ties else "")


def _requests(harness: Harness) -> list[Request]:
    """Texts of some blocks each that differ from their first words on, and where the model sees, two pictures."""
    block_tokens = harness.engine.config.cache.block_tokens
    most = max(8, min(_BLOCKS_OF_A_TEXT * block_tokens, harness.card.context_tokens - _LEAST_CONTEXT // 2) // 2)
    words = [[WORDS[(j * j + i * j) % len(WORDS)] for j in range(most)] for i in range(NUM_TEXTS)]
    texts = [" ".join([f"Number {i}.", *words[i]]) for i in range(NUM_TEXTS)]
    pictures: list[DrawnMedium] = [harness.picture, square(harness.picture.size)] if harness.card.vision else []
    return [*(harness.short(text) for text in texts), *(harness.show(medium, DESCRIBE) for medium in pictures)]


async def _stream(
    harness: Harness,
    asked: list[tuple[Request, ObservedAnswer]],
    tally: _Tally,
    number: int,
    is_over: Callable[[], bool],
) -> None:
    """One reader: a request after the other, some of them given up while they run."""
    rng = random.Random(_SEED + number)
    while not is_over() and not any(kind == "fault" for kind, _ in tally.findings):
        request, alone = rng.choice(asked)
        if rng.random() < CANCELLED_SHARE:
            reading = asyncio.create_task(harness.ask(request))
            await asyncio.wait([reading], timeout=rng.random() * 0.2)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            tally.num_cancelled += 1
            continue
        answer = await harness.ask(request)
        tally.findings[judge.same(alone.run, answer.run, harness.noise)] += 1
        tally.num_reused += answer.reused > 0
