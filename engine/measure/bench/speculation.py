"""The suite `speculation`: answers with and without it, to a text that is copied, to one that is not, and side by side.

It needs a trained model: random weights copy nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from engine.measure.bench.plan import (
    SPECULATION_OFF,
    BenchSettings,
    Case,
    Fact,
    Group,
    MeasuredRound,
    Round,
    ScheduledQuestion,
)
from engine.measure.bench.questions import WORDS, Question

STREAMS = 8
ANSWER_TOKENS = 160
ROWS = 8
COPIED, FRESH, MANY = (Case("speculation", name) for name in ("copied text", "fresh text", f"{STREAMS} streams"))
GOALS = {COPIED: ("generation_tps", 1.5), FRESH: ("generation_tps", 0.98), MANY: ("total_tps", 1.0)}


def groups(settings: BenchSettings) -> Sequence[Group]:
    def copied(number: int) -> Round:
        return (_asked(settings, COPIED, _table_again, number),)

    def fresh(number: int) -> Round:
        return (_asked(settings, FRESH, _story, number),)

    def many(number: int) -> Round:
        return (tuple(ask for stream in range(STREAMS) for ask in _asked(settings, MANY, _story, number, stream)),)

    return [
        Group((case,), make, facts=_facts, only_target=SPECULATION_OFF, goals=(GOALS[case],))
        for case, make in ((COPIED, copied), (FRESH, fresh), (MANY, many))
    ]


def _asked(
    settings: BenchSettings, case: Case, text: Callable[[random.Random], str], *place: int
) -> tuple[ScheduledQuestion, ...]:
    """Greedy, so that both targets are asked for the same answer whatever the model's own sampling is."""
    choose = random.Random(f"speculation/{settings.seed}/{case.name}/{place}")
    # A number first, so that nothing is shared with the text of another seed.
    question = Question(f"{choose.randrange(10**9)}. {text(choose)}", min(settings.max_tokens, ANSWER_TOKENS))
    return (ScheduledQuestion(question, case),)


def _table_again(choose: random.Random) -> str:
    rows = [
        f"| {choose.choice(WORDS.split())} | {choose.choice(WORDS.split())} | {choose.randrange(10_000)} |"
        for _ in range(ROWS)
    ]
    return "\n".join(
        ["Write this table again exactly as it is:\n", "| name | place | number |", "|---|---|---|", *rows]
    )


def _story(choose: random.Random) -> str:
    return "Write a short story about a {}, a {} and a {}.".format(*choose.sample(WORDS.split(), 3))


def _facts(rounds: Sequence[MeasuredRound]) -> Sequence[Fact]:
    """What share of the tokens was accepted, of the target that speculates."""
    pairs = [pair for measured in rounds for pair in measured.samples]
    num_accepted = sum(sample.accepted_tokens for _, sample in pairs)
    if not num_accepted:
        return ()
    share = num_accepted / sum(sample.completion_tokens for _, sample in pairs)
    return (Fact(f"accepted of the tokens of {pairs[0][0].name}", 100 * share, "%"),)
