"""The rows of questions: few of them, in passes that keep their limits, whatever the options."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from engine.errors import ContextOverflow, NotShared
from engine.prompt.option_tree import OptionTree, Tokens
from engine.prompt.question_tokens import QuestionSet, QuestionTokens
from engine.runtime.decisions.scoring import RowRules, ScoreRow, Scoring


def asked(suffix: Tokens, *options: Tokens) -> QuestionTokens:
    return QuestionTokens(suffix, OptionTree([[option] for option in options]), 1.0, "questions[0]")


def scoring(*questions: QuestionTokens, max_places: int = 10**6, can_branch: bool = True) -> Scoring:
    return Scoring(QuestionSet(tuple(questions), ()), RowRules(max_places, can_branch))


def check_places(row: ScoreRow) -> None:
    """Each branch is read behind the last token of the path to it."""
    reads = iter(row.reads)
    for ids, places in ((row.stem.ids, row.stem.places), *((tail.ids, tail.places) for tail in row.stem.tails)):
        for place in places:
            path = next(reads).branch.path
            assert 0 <= place < len(ids) and ids[place + 1 - len(path) : place + 1] == path, "read at another place"
    assert not [*reads], "a read without a place"


def run(of: Scoring, num_tokens: int = 64, max_kv_tokens: int = 10**6, num_shared: int = 10) -> list[list[str]]:
    """Do all passes, every token as likely as any of a hundred. Returns by pass its rows as "length+tails"."""
    passes = []
    while not of.is_done:
        rows = of.next_rows(num_tokens, max_kv_tokens, num_shared)
        for row in rows:
            check_places(row)
        reads = [read for row in rows for read in row.reads]
        of.add(reads, [[-4.6] * len(read.branch.tokens) for read in reads], len(rows))
        stems = [row.stem for row in rows]
        passes.append(["+".join(map(str, [len(one.ids), *(len(t.ids) for t in one.tails)])) for one in stems])
    return passes


def test_options_of_one_token_are_one_row() -> None:
    of = scoring(asked((1, 2, 3), (4,), (5,)), asked((1, 2), (4,), (5,), (6,)))
    assert run(of) == [["2", "3"]]
    assert of.decisions()[0].probabilities == pytest.approx((1 / 2, 1 / 2))
    assert of.decisions()[1].probabilities == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert of.num_tokens == 5


def test_questions_of_the_same_tokens_are_computed_once() -> None:
    """Two rows with the same tokens may differ in their last digits, and the order of options must not count."""
    of = scoring(asked((1, 2), (4,), (5,)), asked((1, 3), (4,), (5,)), asked((1, 2), (5,), (4,)))
    rows = of.next_rows(64, 10**6, 10)
    assert [row.stem.ids for row in rows] == [(1, 2), (1, 3)]
    of.add([read for row in rows for read in row.reads], [[-0.1, -2.3], [-0.7, -0.6]], len(rows))
    first, other, turned = (decision.probabilities for decision in of.decisions())
    assert of.is_done and turned == first[::-1] and first[0] > first[1] and other[0] < other[1]
    assert of.num_tokens == 6, "each question is counted"


def test_longer_options_go_on_from_their_question() -> None:
    of = scoring(asked((1, 2), (7, 8, 1), (7, 8, 2), (7, 9), (5, 1), (5, 2), (6,)))
    assert run(of) == [["2+1+2"]], "one tail for each of the two ways that go furthest"
    assert of.num_tokens == 2 + 3, "5, 7 and 8 are read; no token is counted twice"
    assert sum(of.decisions()[0].probabilities) == pytest.approx(1.0)


def test_a_question_inside_the_prompt_is_read_behind_it() -> None:
    of = scoring(asked((), (4, 1), (4, 2), (5,)))
    (read,) = of.prompt_reads
    assert read.branch.path == ()
    assert not of.is_done
    of.add([read], [[math.log(0.4), math.log(0.2)]], 0)
    assert run(of) == [["1"]]
    one = 0.4 * math.exp(-4.6)
    assert of.decisions()[0].probabilities == pytest.approx([p / (2 * one + 0.2) for p in (one, one, 0.2)])


def test_nothing_to_read_is_done_at_once() -> None:
    of = scoring(asked((1, 2), (4, 5)))
    assert of.is_done and of.decisions()[0].probabilities == (1.0,)


def test_many_ways_are_several_rows() -> None:
    of = scoring(asked((1,) * 5, *((i, 1) for i in range(2, 72))))
    assert [row.split("+")[0] for rows in run(of) for row in rows] == ["5"] * 3


LISTED = (
    asked((1, 2, 3), (7, 8, 1), (7, 8, 2), (7, 9), (5, 1), (5, 2), (6,)),
    asked((1, 2), *((i, i + 1, 3) for i in range(10, 80))),
    asked((4,), tuple(range(30)), tuple(range(29)), (9,)),
)
"""Few options and many, and some that are long."""


@pytest.mark.parametrize("max_places", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("can_branch", [True, False])
def test_the_places_of_a_pass_have_a_limit_and_none_is_left_out(max_places: int, can_branch: bool) -> None:
    """Whether a question stands behind the prompt or is a part of it: its logits are what takes memory."""
    for questions in (LISTED, (replace(LISTED[2], suffix=()),)):
        of = scoring(*questions, max_places=max_places, can_branch=can_branch)
        free = scoring(*questions)
        for one in (of, free):
            one.add(one.prompt_reads, [[-4.6] * len(read.branch.tokens) for read in one.prompt_reads], 0)
        found = [*of.prompt_reads]
        while not of.is_done:
            rows = of.next_rows(10**6, 10**6, 10)
            reads = [read for row in rows for read in row.reads]
            assert 0 < len(reads) <= max_places, "more logits than there is room for"
            for row in rows:
                check_places(row)
            found += reads
            of.add(reads, [[-4.6] * len(read.branch.tokens) for read in reads], len(rows))
        branches = [(i, branch.path) for i, question in enumerate(questions) for branch in question.tree.branches]
        assert sorted((read.question, read.branch.path) for read in found) == sorted(branches)
        run(free)
        assert of.decisions() == free.decisions()


def test_where_rows_cannot_branch_each_way_is_counted_as_the_row_that_it_is() -> None:
    """A row with tails would be as many rows as these, each with the whole question before it."""
    options = ((7, 8, 1), (7, 8, 2), (7, 9), (5, 1), (5, 2), (6,))
    apart = {"can_branch": False, "max_places": 100}
    assert run(scoring(asked((1, 2), *options), **apart), max_kv_tokens=24) == [["2"], ["3"], ["4"]]
    assert run(scoring(LISTED[1], **apart), max_kv_tokens=4 * 14)[1] == ["4"] * 4
    assert run(scoring(LISTED[1], **apart), num_tokens=12)[1] == ["4"] * 3


def test_passes_keep_their_limits_and_never_stand_still() -> None:
    questions = [asked(tuple(range(n)), (4,), (5,)) for n in (3, 9, 4, 40, 5, 90)]
    assert run(scoring(*questions), num_tokens=20) == [["3", "4", "5"], ["9"], ["40"], ["90"]]
    assert run(scoring(*questions), num_tokens=1000, max_kv_tokens=240, num_shared=50) == [
        ["3", "4", "5", "9"],
        ["40"],
        ["90"],
    ]


def test_255_options_and_400_questions_are_bounded_passes() -> None:
    numbers = [tuple(int(digit) for digit in str(i)) for i in range(255)]
    of = scoring(*(asked((1,) * 20, *numbers) for _ in range(400)))
    sizes = []
    while not of.is_done:
        rows = of.next_rows(512, 10**6, 10)
        sizes.append(of.size_of(rows))
        reads = [read for row in rows for read in row.reads]
        of.add(reads, [[-4.6] * len(read.branch.tokens) for read in reads], len(rows))
    assert max(sizes) <= 512
    assert len(of.decisions()) == 400


def test_one_that_does_not_fit_is_named() -> None:
    with pytest.raises(ContextOverflow, match=r"questions\[0\]: with the input's 95 tokens it has 101; .* 100"):
        scoring(asked((1,) * 5, (4, 1), (4, 2))).check_fits(95, 100)
    scoring(asked((1,) * 4, (4, 1), (4, 2))).check_fits(95, 100)


def test_a_prompt_that_ends_otherwise_shares_nothing() -> None:
    questions = QuestionSet((asked((8, 9), (4,), (5,)),), (8, 9))
    assert questions.num_shared([1, 2, 8, 9]) == 2
    for ids in ([1, 2, 8, 7], [8, 9], [1]):
        with pytest.raises(NotShared):
            questions.num_shared(ids)
