"""The questions of a request while their options are scored: which rows are left, what the others gave. No MLX call.

    shared prompt, computed once ──> rows, as many at a time as a turn has room for ──> decisions

A row is a question, and behind it the ways of its options until only their last token is left. Most have none: where
options are single tokens, all is read behind the question.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import ContextOverflow
from engine.models.branching import Stem, Tail
from engine.prompt.option_tree import Branch, Tokens
from engine.prompt.question_tokens import QuestionSet, QuestionTokens
from engine.types import Decision

_MAX_TAILS = 32
"""Ways behind a question in one row; a question with more has several rows."""

Way = tuple[Branch, ...]
"""Branches that are passed one after the other on the path to the last of them, the nearest first."""


@dataclass(frozen=True, slots=True)
class RowRules:
    """What a model's rows may be. max_places: at how many places one pass may compute logits. can_branch: tails go on
    from a row in the same pass; else each way is a row of its own, with the question before it."""

    max_places: int
    can_branch: bool


@dataclass(frozen=True, slots=True)
class BranchRead:
    """A branch of a question's options, which is read at one place of a row."""

    question: int
    branch: Branch


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """Tokens that go on from the shared prompt. reads: one for each place of the stem, then of its tails."""

    stem: Stem
    reads: tuple[BranchRead, ...]

    @property
    def longest(self) -> int:
        return len(self.stem.ids) + max((len(tail.ids) for tail in self.stem.tails), default=0)


class Scoring:
    """The rows of a set of questions, the shortest first, so that those of a pass need little padding."""

    def __init__(self, questions: QuestionSet, rules: RowRules) -> None:
        self.questions = questions
        self.num_tokens = sum(len(q.suffix) + _num_path_tokens(q) for q in questions.questions)
        """Of all questions, beside the shared prompt; a token that several options begin with counts once."""
        self._rules = rules
        self._alike = _alike(questions.questions)
        numbered = [(i, questions.questions[i]) for i in self._alike]
        self.prompt_reads = tuple(
            BranchRead(i, branch) for i, question in numbered if not question.suffix for branch in _root(question)
        )
        """What is read behind the prompt itself, where a question is a part of it."""
        rows = [row for i, question in numbered for row in _rows(i, question, rules)]
        self._rows = sorted(rows, key=lambda row: len(row.stem.ids))
        self._num_done = 0
        self._is_begun = not self.prompt_reads
        self._logprobs: list[dict[Tokens, Sequence[float]]] = [{} for _ in questions.questions]
        self._decisions: dict[int, Decision] = {}

    @property
    def is_done(self) -> bool:
        return self._is_begun and self._num_done == len(self._rows)

    def check_fits(self, num_shared: int, context_tokens: int) -> None:
        """Raise ContextOverflow for the first question that does not fit behind the prompt."""
        for row in self._rows:
            if num_shared + row.longest > context_tokens:
                question = self.questions.questions[row.reads[0].question]
                raise ContextOverflow(
                    f"{question.param}: with the input's {num_shared} tokens it has {num_shared + row.longest}; this "
                    f"model's context is {context_tokens}.",
                    param=question.param,
                )

    def next_rows(self, num_tokens: int, max_kv_tokens: int, num_shared: int) -> list[ScoreRow]:
        """The rows of the next pass: at least one, at most so many tokens with padding, and so many tokens of KV."""
        rows: list[ScoreRow] = []
        for row in self._rows[self._num_done :]:
            more = [*rows, row]
            num_rows = max(len(more), sum(len(one.stem.tails) for one in more))
            num_kv = num_rows * (num_shared + max(one.longest for one in more))
            num_places = sum(len(one.reads) for one in more)
            is_over = self.size_of(more) > num_tokens or num_kv > max_kv_tokens or num_places > self._rules.max_places
            if rows and is_over:
                break
            rows = more
        return rows

    @staticmethod
    def size_of(rows: Sequence[ScoreRow]) -> int:
        """Tokens that a pass over these rows computes, padding included."""
        tails = [len(tail.ids) for row in rows for tail in row.stem.tails]
        return len(rows) * max(len(row.stem.ids) for row in rows) + len(tails) * max(tails, default=0)

    def add(self, reads: Sequence[BranchRead], logprobs: Sequence[Sequence[float]], num_rows: int) -> None:
        """What so many of the next rows gave (0: the prompt), for each read the log-probabilities of its tokens."""
        for read, said in zip(reads, logprobs, strict=True):
            found, question = self._logprobs[read.question], self.questions.questions[read.question]
            found[read.branch.path] = said
            if len(found) == len(question.tree.branches):  # at once: all together would take their time at the end
                self._decide(read.question)
        self._num_done += num_rows
        self._is_begun = True

    def decisions(self) -> tuple[Decision, ...]:
        """Once all is done: one for each question."""
        for number in self._alike:
            if number not in self._decisions:  # one option only: there is nothing to read
                self._decide(number)
        return tuple(self._decisions[number] for number in range(len(self._logprobs)))

    def _decide(self, number: int) -> None:
        for alike in self._alike[number]:
            question = self.questions.questions[alike]
            self._decisions[alike] = Decision(question.tree.probabilities(self._logprobs[number], question.temperature))
        self._logprobs[number] = {}


def _alike(questions: Sequence[QuestionTokens]) -> dict[int, list[int]]:
    """Questions of the same tokens, by the first of them, which alone is computed. Two rows of a pass with the same
    tokens may differ in their last digits (BLAS sums them in another order), and what options came in another order
    must not."""
    alike: dict[tuple[Tokens, tuple[Branch, ...]], list[int]] = {}
    for number, question in enumerate(questions):
        alike.setdefault((question.suffix, question.tree.branches), []).append(number)
    return {numbers[0]: numbers for numbers in alike.values()}


def _root(question: QuestionTokens) -> tuple[Branch, ...]:
    return tuple(branch for branch in question.tree.branches if not branch.path)


def _rows(number: int, question: QuestionTokens, rules: RowRules) -> list[ScoreRow]:
    """The question with the ways of its options; where it is a part of the prompt, only these."""
    suffix, root, ways = question.suffix, _root(question), _ways(question, rules.max_places)
    if not root:
        return []
    if not suffix:
        return [_row(number, suffix, way) for way in ways]
    if not rules.can_branch:
        return [_row(number, suffix, way) for way in (root, *ways)]
    first, *others = _grouped(ways, rules.max_places)
    return [_row(number, suffix, root, first), *(_row(number, suffix, (), group) for group in others)]


def _row(number: int, before: Tokens, way: Way, tails: Sequence[Way] = ()) -> ScoreRow:
    """Tokens that nothing is read in, then a way; and those that go on from there."""
    stem = Stem(
        before + (way[-1].path if way else ()),
        _places(way, len(before)),
        tuple(Tail(tail[-1].path, _places(tail)) for tail in tails),
    )
    return ScoreRow(stem, tuple(BranchRead(number, branch) for one in (way, *tails) for branch in one))


def _places(way: Way, first: int = 0) -> tuple[int, ...]:
    """Of the last token of the path to each branch, where the paths begin at token `first`."""
    return tuple(first + len(branch.path) - 1 for branch in way)


def _ways(question: QuestionTokens, max_places: int) -> list[Way]:
    """One for each path, or several that go on to more and more of its branches; a branch that several paths pass by is
    read in the first of them."""
    paths = question.tree.paths  # ascending, so a path comes right before those that begin with it
    passed: dict[Tokens, list[Branch]] = {}
    for branch in question.tree.branches:  # ascending, too
        if branch.path:
            passed.setdefault(paths[bisect_left(paths, branch.path)], []).append(branch)
    return [
        tuple(branches[at : at + max_places])
        for branches in passed.values()
        for at in range(0, len(branches), max_places)
    ]


def _grouped(ways: Sequence[Way], max_places: int) -> list[list[Way]]:
    """The ways by the row behind whose question they are read. In the first row the question itself takes a place."""
    groups: list[list[Way]] = [[]]
    num_places = 1
    for way in ways:
        if len(groups[-1]) == _MAX_TAILS or num_places + len(way) > max_places:
            groups.append([])
            num_places = 0
        groups[-1].append(way)
        num_places += len(way)
    return groups


def _num_path_tokens(question: QuestionTokens) -> int:
    return len({path[:at] for path in question.tree.paths for at in range(1, len(path) + 1)})
