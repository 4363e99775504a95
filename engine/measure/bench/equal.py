"""The suite `equal`: are two equal runs told apart? Every question is asked twice, as if by two runs in turns.

Five rounds make a try. What is judged of each try is what `--compare` judges, on pairs: a difference anywhere in its
table is a mistake, for there is none.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.measure.bench.judging import differs, judge_together, paired
from engine.measure.bench.plan import BenchSettings, Case, Fact, Group, MeasuredRound, Round, ScheduledQuestion, Step
from engine.measure.bench.questions import Question, picture, scene, words
from engine.measure.bench.result import round_values

ROUNDS_PER_TRY = 5
METRICS = ("ttft", "tpot", "e2e")
PROMPT_WORDS = (16, 64)
SIZE = (224, 224)
ANSWER_TOKENS = 16
GOAL_PERCENT = 95.0
RUNS = ("A", "B")


def groups(settings: BenchSettings) -> Sequence[Group]:
    """Two lengths of text, and a picture."""
    kinds = [f"{count} words" for count in PROMPT_WORDS] + ([f"picture of {SIZE[0]}x{SIZE[1]}"] * settings.pictures)
    cases = {(kind, run): Case("equal", f"{kind}, run {run}") for kind in kinds for run in RUNS}

    def question(kind: str, seed: tuple[object, ...]) -> Question:
        count = next((count for count in PROMPT_WORDS if kind == f"{count} words"), 8)
        media = (picture(scene(SIZE, seed)),) if kind.startswith("picture") else ()
        tokens = min(settings.max_tokens, ANSWER_TOKENS)
        return Question(words(seed, count), tokens, media=media, min_tokens=tokens, claim="cold")

    def make(number: int) -> Round:
        runs = RUNS if number % 2 == 0 else RUNS[::-1]

        def step(kind: str, run: str) -> Step:
            return (ScheduledQuestion(question(kind, (settings.seed, "equal", kind, number, run)), cases[kind, run]),)

        return tuple(step(kind, run) for kind in kinds for run in runs)

    def facts(rounds: Sequence[MeasuredRound]) -> Sequence[Fact]:
        pairs = [(cases[kind, "A"], cases[kind, "B"]) for kind in kinds]
        starts = range(0, len(rounds) - ROUNDS_PER_TRY + 1, ROUNDS_PER_TRY)
        tries = [rounds[start : start + ROUNDS_PER_TRY] for start in starts]
        if not tries:
            return ()
        even = sum(not told_apart(rounds_of, pairs) for rounds_of in tries)
        title = f"tries in which two equal runs came out without a difference, of {len(tries)}"
        return (Fact(title, 100 * even / len(tries), "%", GOAL_PERCENT),)

    return (Group(tuple(cases.values()), make, facts=facts),)


def told_apart(rounds: Sequence[MeasuredRound], pairs: Sequence[tuple[Case, Case]]) -> bool:
    """Whether any metric of any pair of cases shows a difference."""

    def values(case: Case, metric: str) -> list[float | None]:
        each = [round_values(metric, measured.of(case)) for measured in rounds]
        return [sum(found) / len(found) if found else None for found in each]

    comparisons = [paired(values(b, metric), values(a, metric)) for a, b in pairs for metric in METRICS]
    return any(ratio is not None and differs(ratio) for ratio in judge_together(comparisons))
