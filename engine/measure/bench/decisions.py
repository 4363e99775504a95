"""The suite `decisions`: many yes-or-no questions about one picture, and what one of them costs elsewhere.

A server that has no /v1/decisions is asked one question after the other, as its clients would; a few of them tell what
one costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from engine.measure.bench.plan import (
    BenchSettings,
    Case,
    Fact,
    Group,
    MeasuredRound,
    Proof,
    Round,
    ScheduledQuestion,
)
from engine.measure.bench.questions import COLOUR_QUESTION, COLOURS, Question, blank, colour, picture, scene

SIZE = (1024, 1024)
NUM_QUESTIONS, QUICK_QUESTIONS = 100, 20
MOST_TIMES = 3.0
SIDE = f"{SIZE[0]}x{SIZE[1]} picture"
SHAPES = ("circle", "square", "triangle", "star", "line", "ring")


def questions(count: int) -> tuple[str, ...]:
    """So many yes-or-no questions, all different."""
    asked = [f"Is there a {name} {shape}?" for shape in SHAPES for name in COLOURS]
    asked += [f"Are there more than {i} {shape}s?" for i in range(1, 20) for shape in SHAPES]
    return tuple(asked[:count])


def groups(settings: BenchSettings) -> Sequence[Group]:
    num_questions = QUICK_QUESTIONS if settings.quick else NUM_QUESTIONS
    return [_one_picture(settings, num_questions), _each(settings, num_questions)]


def _question(seed: object, num_questions: int, *, each: bool = False) -> Question:
    return Question(
        "", 1, media=(picture(scene(SIZE, seed)),), predicates=questions(num_questions), claim="cold", each=each
    )


def _one_picture(settings: BenchSettings, num_questions: int) -> Group:
    """One question about a new picture, and many about another new one: seconds until all are answered."""
    one, many = Case("decisions", f"{SIDE}, 1 question"), Case("decisions", f"{SIDE}, {num_questions} questions")

    def make(number: int) -> Round:
        seed = (settings.seed, "decisions", number)
        asks = ((_question((*seed, "one"), 1), one), (_question((*seed, "many"), num_questions), many))
        return tuple((ScheduledQuestion(*ask),) for ask in asks)

    def prove() -> Sequence[Proof]:
        seed = (settings.seed, "decisions", "proof")
        seen = Question(COLOUR_QUESTION, 16, media=(picture(scene(SIZE, seed)),), expect=colour(seed))
        blind = Question(COLOUR_QUESTION, 16, media=(blank(SIZE),))
        return tuple(Proof(case, seen, blind) for case in (one, many))

    def facts(rounds: Sequence[MeasuredRound]) -> Sequence[Fact]:
        times = [measured.of(many)[0].e2e_s / measured.of(one)[0].e2e_s for measured in rounds]
        if not times:
            return ()
        goal = MOST_TIMES if num_questions == NUM_QUESTIONS else None
        return (Fact(f"time, {num_questions} questions / 1 question", median(times), "times", goal, at_most=True),)

    return Group((one, many), make, prove, facts=facts)


def _each(settings: BenchSettings, num_questions: int) -> Group:
    """Servers only: seconds for each of many questions about a new picture."""
    case = Case("decisions", f"{SIDE}, each of {num_questions} questions")

    def make(number: int) -> Round:
        question = _question((settings.seed, "decisions each", number), num_questions, each=True)
        return ((ScheduledQuestion(question, case),),)

    return Group((case,), make, servers=True)
