"""What a suite is: groups of cases, each with a maker of rounds. Pure.

    Suite ── Group ── Case          what is told apart in the results: "448x448", "16 streams", "same picture (warm)"
               └──── Round(n) ── Step ── Ask       what is asked for it the n-th time

The asks of a step run together, steps one after the other. Every round asks other questions, so that nothing is reused
but what the round itself repeats.
"""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """How a suite is run. prompts: rounds that count; warmup: rounds before them that do not.

    seed: other questions; a run draws one where none is given, so that a server that still runs has not seen them.
    only: names of the cases to run, all where empty. video: a clip in place of the one that ships. pictures: the model
    sees. tokens_per_word: of this model's tokenizer; a run measures it where a suite asks for lengths in tokens.
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
    tokens_per_word: float = 1.4

    def words_of(self, num_tokens: int) -> int:
        """How many words make a text of about so many tokens."""
        return max(1, round(num_tokens / self.tokens_per_word))


@dataclass(frozen=True, slots=True)
class Case:
    """labels: what differs from case to case and can be an axis of a chart, e.g. {"pixels": 200704, "frames": 8}."""

    suite: str
    name: str
    labels: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Ask:
    """One question of a step. case None: asked, not measured. at_s: seconds after the step began or, with after_first,
    after the first text of the step's first ask."""

    question: Question
    case: Case | None
    at_s: float = 0.0
    after_first: bool = False


Step = tuple[Ask, ...]
Round = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Proof:
    """What the canary asks for a case, greedily: the question with its media, and the same with blank ones."""

    case: Case
    shown: Question
    blanked: Question


@dataclass(frozen=True, slots=True)
class Contrast:
    """Two cases of one group held against each other, round by round: metric of `over` / metric of `under`.

    goal: what the ratio should reach, None where nothing is asked of it.
    """

    title: str
    metric: str
    over: Case
    under: Case
    goal: float | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """One more number of a group. at_most: the goal is an upper limit."""

    title: str
    value: float
    unit: str
    goal: float | None = None
    at_most: bool = False

    @property
    def reached(self) -> bool | None:
        return reached(self.value, self.goal, self.at_most)


@dataclass(frozen=True, slots=True)
class Measured:
    """One measured round of one target: its samples with their cases, and the target before it and after each step."""

    samples: tuple[tuple[Case, Sample], ...]
    before: Status
    after_steps: tuple[Status, ...]

    def of(self, case: Case) -> list[Sample]:
        return [sample for its, sample in self.samples if its == case]


@dataclass(frozen=True)
class Group:
    """Cases that are measured together. make(n): the n-th round; slow for media, so not on an event loop.

    prove(): what the canary asks, one proof a case that has media; slow too. facts: from a target's rounds.
    beside: name of a target that only this group is asked of, in turns with the first; without it all others are.
    limits: (metric, value) that the first target's ratio to another should not be above. even: the metrics that are
    told of it, in which the first target should be no worse than another. servers: asked of servers only.
    """

    cases: tuple[Case, ...]
    make: Callable[[int], Round]
    prove: Callable[[], Sequence[Proof]] = tuple
    contrasts: tuple[Contrast, ...] = ()
    facts: Callable[[Sequence[Measured]], Sequence[Fact]] = field(default=lambda taken: ())
    beside: str = ""
    limits: tuple[tuple[str, float], ...] = ()
    even: tuple[str, ...] = ()
    servers: bool = False


@dataclass(frozen=True, slots=True)
class Suite:
    """needs: what a model must take. servers: only for servers that the run starts itself. sized: it asks for
    lengths in tokens, so the run measures BenchSettings.tokens_per_word first."""

    name: str
    title: str
    needs: Needs
    groups: Callable[[BenchSettings], Sequence[Group]]
    servers: bool = False
    sized: bool = False


def chosen(groups: Sequence[Group], only: Sequence[str]) -> list[Group]:
    """The groups with a case of one of these names; all where there are no names."""
    return [group for group in groups if not only or any(case.name in only for case in group.cases)]
