"""What a suite is: groups of cases, each with a function that makes its rounds. Pure.

    Suite ── Group ── Case          a row of the results: "448x448", "16 streams", "same picture (warm)"
               └──── Round(n) ── Step ── ScheduledQuestion     the questions of the n-th time

The questions of a step run at the same time, steps one after the other. Every round has other questions: nothing is
reused but what the round itself repeats.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from engine.measure.bench.questions import Question
from engine.measure.bench.samples import Sample
from engine.measure.bench.stats import reached
from engine.measure.bench.targets import Status

Needs = Literal["text", "image", "video"]

CACHE_OFF = "cache off"
"""Name of the target that is the same engine without a prefix cache."""

SPECULATION_OFF = "speculation off"
"""Name of the target that is the same engine without speculation."""

PICTURE = "picture of {size}"
SIDES = re.compile(r"\d+x\d+")
BETWEEN_SIDES = re.compile(r"(?<=\d)x(?=\d)")


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """How a suite is run. prompts: rounds that count; warmup: rounds before them that do not.

    seed: of the questions; 0 lets the run choose one at random, so that a server that keeps running has not seen them.
    only: names of the cases to run; empty for all. video: a clip in place of the one that ships. pictures: whether the
    model takes pictures. context: tokens of the model's, None where it is not known. tokens_per_word: of this model's
    tokenizer, and tokens_per_shot: of a screenshot as it sees it; the run measures both for suites that are `sized`.
    """

    prompts: int = 5
    max_tokens: int = 256
    temperature: float = 0.7
    warmup: int = 1
    quick: bool = False
    seed: int = 0
    prompt_words: int = 64
    only: tuple[str, ...] = ()
    video: Path | None = None
    pictures: bool = True
    context: int | None = None
    tokens_per_word: float = 1.4
    tokens_per_shot: int = 144

    def words_of(self, num_tokens: int) -> int:
        """The number of words that make about so many tokens."""
        return max(1, round(num_tokens / self.tokens_per_word))

    def tokens_of(self, num_words: int) -> int:
        """About so many tokens have that many words."""
        return round(num_words * self.tokens_per_word)


@dataclass(frozen=True, slots=True)
class Case:
    """labels: numbers that differ from case to case and can be the axis of a chart, e.g. pixels or frames."""

    suite: str
    name: str
    labels: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class ScheduledQuestion:
    """A question of a step. case None: asked, but not measured. at_s: seconds to wait, counted from the start of the
    step or, with after_first, from the first text of the answer to the step's first question."""

    question: Question
    case: Case | None
    at_s: float = 0.0
    after_first: bool = False


Step = tuple[ScheduledQuestion, ...]
Round = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Proof:
    """What the canary asks for a case, greedily: a question with its media, and the same with blank media."""

    case: Case
    question: Question
    blanked: Question


@dataclass(frozen=True, slots=True)
class Contrast:
    """The ratio of two cases of one group, round by round: metric of `over` / metric of `under`.

    goal: what the ratio should reach; None for no goal.
    """

    title: str
    metric: str
    over: Case
    under: Case
    goal: float | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """Another number of a group. at_most: the goal is an upper limit."""

    title: str
    value: float
    unit: str
    goal: float | None = None
    at_most: bool = False

    @property
    def reached(self) -> bool | None:
        return reached(self.value, self.goal, self.at_most)


@dataclass(frozen=True, slots=True)
class MeasuredRound:
    """One round of one target: its samples with their cases, and the target's status before it and after each step."""

    samples: tuple[tuple[Case, Sample], ...]
    before: Status
    after_steps: tuple[Status, ...]

    def of(self, case: Case) -> list[Sample]:
        return [sample for sample_case, sample in self.samples if sample_case == case]


@dataclass(frozen=True)
class Group:
    """Cases that are measured together. make(n): the n-th round; draws media, so not on an event loop.

    prove(): what the canary asks, a proof for each case with media; draws too. facts: computed from a target's rounds.
    only_target: name of the one target that this group is measured on besides the first; "" for all targets that no
    other group names so.
    limits: (metric, largest ratio of the first target to another); goals: (metric, what that ratio should reach).
    parity: metrics in which the first target should be no worse than another; only these are compared. servers: only
    servers are asked. num_tokens: about how many its longest question and answer have, 0 where that is not known; a
    context without room for them is not asked.
    """

    cases: tuple[Case, ...]
    make: Callable[[int], Round]
    prove: Callable[[], Sequence[Proof]] = tuple
    contrasts: tuple[Contrast, ...] = ()
    facts: Callable[[Sequence[MeasuredRound]], Sequence[Fact]] = field(default=lambda rounds: ())
    only_target: str = ""
    limits: tuple[tuple[str, float], ...] = ()
    goals: tuple[tuple[str, float], ...] = ()
    parity: tuple[str, ...] = ()
    servers: bool = False
    num_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Suite:
    """needs: the input that a model must take. servers: for servers that the run starts itself. sized: its texts have
    lengths in tokens, so the run measures first how many a word and a screenshot have."""

    name: str
    title: str
    needs: Needs
    groups: Callable[[BenchSettings], Sequence[Group]]
    servers: bool = False
    sized: bool = False


def case_words(name: str, picture: str = PICTURE) -> str:
    """A case's name as a person reads it: "224x224" is "picture of 224 × 224". Runs are kept and compared by the name.

    picture: PICTURE in the reader's language.
    """
    words = BETWEEN_SIDES.sub(" × ", name)
    return picture.format(size=words) if SIDES.fullmatch(name) else words


def select_groups(groups: Sequence[Group], only: Sequence[str]) -> list[Group]:
    """The groups with a case of one of these names, or of these words; all groups where `only` is empty."""

    def is_wanted(case: Case) -> bool:
        return case.name in only or case_words(case.name) in only

    return [group for group in groups if not only or any(map(is_wanted, group.cases))]
