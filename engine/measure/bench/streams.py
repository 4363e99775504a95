"""The suite `concurrency`: many streams at once, and how long a new prompt delays a running stream."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from engine.measure.bench.plan import (
    BenchSettings,
    Case,
    Contrast,
    Fact,
    Group,
    MeasuredRound,
    Proof,
    Round,
    ScheduledQuestion,
    Step,
)
from engine.measure.bench.questions import COLOUR_QUESTION, Question, blank, colour, picture, scene, words

STREAMS = (1, 2, 4, 8, 16, 32)
QUICK_STREAMS = (1, 4, 16)
ARRIVALS_PER_S = 16.0
SIZE = (448, 448)
PROMPT_TOKENS = 128
LONG_TOKENS, SHORTEST_LONG_TOKENS = 4000, 1000
"""A prompt that is long; in a shorter context it is as long as there is room for, down to the second."""

LONG_ROOM = 0.85
"""Of a context, for a prompt of about so many tokens, its template and its answer."""

CHUNK_TOKENS = 512
"""The engine's default --prefill-step-size: gaps are also reported in chunks of it."""

RUNNING_TOKENS = 192
HEAD_START_S = 0.1
GOALS = {16: 3.5}


def groups(settings: BenchSettings) -> Sequence[Group]:
    return (_many(settings), _beside_a_long_one(settings))


def long_tokens(settings: BenchSettings) -> int:
    """Length of the long prompt, in hundreds of tokens."""
    room = LONG_TOKENS if settings.context is None else int(settings.context * LONG_ROOM) // 100 * 100
    return max(SHORTEST_LONG_TOKENS, min(LONG_TOKENS, room))


def _many(settings: BenchSettings) -> Group:
    """All numbers of streams in each round, so that their ratios are of measurements at about the same time."""
    counts = QUICK_STREAMS if settings.quick else STREAMS
    every = {
        count: Case("concurrency", f"{count} stream{'s' * (count > 1)}", (("streams", count),)) for count in counts
    }
    cases = {count: case for count, case in every.items() if not settings.only or case.name in settings.only} or every

    def question(seed: object) -> Question:
        return Question(
            COLOUR_QUESTION,
            min(settings.max_tokens, 64),
            media=(picture(scene(SIZE, seed)),),
            expect=colour(seed),
            claim="cold",
        )

    def ask(number: int, count: int, stream: int, at_s: float) -> ScheduledQuestion:
        """Every second stream brings a picture, if the model takes pictures."""
        seed = (settings.seed, "streams", number, count, stream)
        text = words(seed, settings.words_of(PROMPT_TOKENS))
        media = (picture(scene(SIZE, seed)),) if settings.pictures and stream % 2 else ()
        prompt = Question(text, settings.max_tokens, media=media, temperature=settings.temperature, claim="cold")
        return ScheduledQuestion(prompt, cases[count], at_s)

    def step(number: int, count: int) -> Step:
        times = arrivals(count, (settings.seed, number, count))
        return tuple(ask(number, count, stream, at_s) for stream, at_s in enumerate(times))

    def make(number: int) -> Round:
        return tuple(step(number, count) for count in cases)

    def prove() -> Sequence[Proof]:
        if not settings.pictures:
            return ()
        with_picture = question((settings.seed, "streams", "proof"))
        blanked = replace(with_picture, media=(blank(SIZE),), expect="")
        return tuple(Proof(case, with_picture, blanked) for count, case in cases.items() if count > 1)[:1]

    contrasts = tuple(
        Contrast(f"throughput: {count} streams / 1", "total_tps", case, cases[1], GOALS.get(count))
        for count, case in cases.items()
        if count > 1 and 1 in cases
    )
    num_tokens = PROMPT_TOKENS + settings.max_tokens
    return Group(tuple(cases.values()), make, prove, contrasts, num_tokens=num_tokens)


def arrivals(count: int, seed: object) -> list[float]:
    """Arrival times of `count` questions in seconds: a Poisson process of ARRIVALS_PER_S, the first at 0."""
    choose, times = random.Random(f"arrivals/{seed}"), [0.0]
    while len(times) < count:
        times.append(times[-1] + choose.expovariate(ARRIVALS_PER_S))
    return times


def _beside_a_long_one(settings: BenchSettings) -> Group:
    """A long prompt arrives while a stream runs."""
    num_tokens = long_tokens(settings)
    running = Case("concurrency", f"a stream beside a {num_tokens:,}-token prompt")
    long = Case("concurrency", f"a {num_tokens:,}-token prompt beside a stream")

    def make(number: int) -> Round:
        seed = (settings.seed, "long", number)
        first = Question(words((*seed, 1), 16), RUNNING_TOKENS, min_tokens=RUNNING_TOKENS, claim="cold")
        second = Question(words((*seed, 2), settings.words_of(num_tokens)), 8, claim="cold")
        return ((ScheduledQuestion(first, running), ScheduledQuestion(second, long, HEAD_START_S, after_first=True)),)

    def facts(rounds: Sequence[MeasuredRound]) -> Sequence[Fact]:
        gaps = [gap for measured in rounds for gap in gaps_of(measured, running, long)]
        if not gaps:
            return ()
        title = f"longest gap of a running stream while a {num_tokens:,}-token prompt arrives"
        return (
            Fact(title, max(gap for gap, _ in gaps) * 1e3, "ms"),
            Fact(f"{title} (median of rounds)", median(chunks for _, chunks in gaps), "chunks", goal=2.0, at_most=True),
        )

    return Group((running, long), make, facts=facts, num_tokens=num_tokens)


def gaps_of(measured: MeasuredRound, running: Case, long: Case) -> list[tuple[float, float]]:
    """The longest gap while the long prompt was read, for each round: (in seconds, in chunks of the long prompt).

    The time of a chunk is the long prompt's time to first token over its number of chunks. It includes the decoding
    between chunks, as a running stream experiences it.
    """
    gaps = []
    for stream, prompt in zip(measured.of(running), measured.of(long), strict=True):
        num_chunks = max(1, -(-prompt.prompt_tokens // CHUNK_TOKENS))
        gap_s = stream.gap_s(prompt.started_s, prompt.started_s + prompt.ttft_s)
        gaps.append((gap_s, gap_s / (prompt.ttft_s / num_chunks)))
    return gaps
