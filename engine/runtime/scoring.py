"""The questions of a request while their options are scored: which rows are left, what the others gave. Pure.

    shared prompt, computed once ──> rows, as many at a time as a turn has room for ──> decisions

A row is a question, and behind it the ways of its options until only their last token is left. Most have none: where
options are single tokens, all is read behind the question.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import ContextOverflow
from engine.prompt.option_tree import Branch, Tokens
from engine.prompt.question_tokens import QuestionSet, QuestionTokens
from engine.types import Decision

_MAX_TAILS = 32
"""Ways behind a question in one row; a question with more has several rows."""


@dataclass(frozen=True, slots=True)
class BranchRead:
    """A branch of a question's options, and the token of its row or tail behind which it is read."""

    index: int
    question: int
    branch: Branch


@dataclass(frozen=True, slots=True)
class ScoreTail:
    """Tokens that go on from a row. reads: by their place, ascending."""

    ids: Tokens
    reads: tuple[BranchRead, ...]

    @property
    def places(self) -> tuple[int, ...]:
        return tuple(read.index for read in self.reads)


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """Tokens that go on from the shared prompt, and the tails that go on from them."""

    question: int
    ids: Tokens
    reads: tuple[BranchRead, ...]
    tails: tuple[ScoreTail, ...] = ()

    @property
    def places(self) -> tuple[int, ...]:
        return tuple(read.index for read in self.reads)

    @property
    def all_reads(self) -> tuple[BranchRead, ...]:
        """In the order of engine.models.branching."""
        return (*self.reads, *(read for tail in self.tails for read in tail.reads))

    @property
    def longest(self) -> int:
        return len(self.ids) + max((len(tail.ids) for tail in self.tails), default=0)


class Scoring:
    """The rows of a set of questions, the shortest first, so that those of a pass need little padding."""

    def __init__(self, questions: QuestionSet) -> None:
        self.questions = questions
        numbered = list(enumerate(questions.questions))
        self.prompt_reads = tuple(
            BranchRead(0, i, branch) for i, question in numbered if not question.suffix for branch in _root(question)
        )
        """What is read behind the prompt itself, where a question is a part of it."""
        rows = [row for i, question in numbered for row in _rows(i, question)]
        self._rows = sorted(rows, key=lambda row: len(row.ids))
        self._num_done = 0
        self._is_begun = not self.prompt_reads
        self._logprobs: list[dict[Tokens, Sequence[float]]] = [{} for _ in questions.questions]
        self._decisions: dict[int, Decision] = {}

    @property
    def num_tokens(self) -> int:
        """Of all questions, beside the shared prompt; a token that several options begin with counts once."""
        return sum(len(q.suffix) + _num_path_tokens(q) for q in self.questions.questions)

    @property
    def is_done(self) -> bool:
        return self._is_begun and self._num_done == len(self._rows)

    def check_fits(self, num_shared: int, context_tokens: int) -> None:
        """Raise ContextOverflow for the first question that does not fit behind the prompt."""
        for row in self._rows:
            if num_shared + row.longest > context_tokens:
                question = self.questions.questions[row.question]
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
            num_rows = max(len(more), sum(len(one.tails) for one in more))
            num_kv = num_rows * (num_shared + max(one.longest for one in more))
            if rows and (self.size_of(more) > num_tokens or num_kv > max_kv_tokens):
                break
            rows = more
        return rows

    @staticmethod
    def size_of(rows: Sequence[ScoreRow]) -> int:
        """Tokens that a pass over these rows computes, padding included."""
        tails = [len(tail.ids) for row in rows for tail in row.tails]
        return len(rows) * max(len(row.ids) for row in rows) + len(tails) * max(tails, default=0)

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
        for number in range(len(self._logprobs)):
            if number not in self._decisions:  # one option only: there is nothing to read
                self._decide(number)
        return tuple(self._decisions[number] for number in range(len(self._logprobs)))

    def _decide(self, number: int) -> None:
        question = self.questions.questions[number]
        self._decisions[number] = Decision(question.tree.probabilities(self._logprobs[number], question.temperature))
        self._logprobs[number] = {}


def _root(question: QuestionTokens) -> tuple[Branch, ...]:
    return tuple(branch for branch in question.tree.branches if not branch.path)


def _rows(number: int, question: QuestionTokens) -> list[ScoreRow]:
    """The question with the ways of its options; where it is a part of the prompt, only these."""
    tails = _tails(number, question)
    if not question.suffix:
        return [ScoreRow(number, tail.ids, tail.reads) for tail in tails]
    behind = len(question.suffix) - 1
    reads = tuple(BranchRead(behind, number, branch) for branch in _root(question))
    if not reads:
        return []
    first = ScoreRow(number, question.suffix, reads, tuple(tails[:_MAX_TAILS]))
    rest = range(_MAX_TAILS, len(tails), _MAX_TAILS)
    return [first, *(ScoreRow(number, question.suffix, (), tuple(tails[at : at + _MAX_TAILS])) for at in rest)]


def _tails(number: int, question: QuestionTokens) -> list[ScoreTail]:
    """One for each path; a branch that several pass by is read in the first of them."""
    paths = question.tree.paths  # ascending, so a path comes right before those that begin with it
    passed: dict[Tokens, list[BranchRead]] = {}
    for branch in question.tree.branches:
        if branch.path:
            read = BranchRead(len(branch.path) - 1, number, branch)
            passed.setdefault(paths[bisect_left(paths, branch.path)], []).append(read)
    return [ScoreTail(path, tuple(sorted(reads, key=lambda read: read.index))) for path, reads in passed.items()]


def _num_path_tokens(question: QuestionTokens) -> int:
    return len({path[:at] for path in question.tree.paths for at in range(1, len(path) + 1)})
