"""Where answers differ, word by word: marks in the trees from which the page draws them (chat/markdown.py). Pure.

Each answer is compared with the first one. In the others, words that the first lacks are marked; in the first, words
that none of the others has at that place. An answer without words is left out.
A block of code, a formula and a picture count as one word each; white space counts for nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from difflib import Match, SequenceMatcher
from itertools import count, pairwise

from workbench.chat.markdown import Tree

MAX_WORDS = 20_000
"""Of one answer; a longer one is not compared: the time grows with the product of two."""

_WORD = re.compile(r"\s+|\w+|[^\w\s]")
_AROUND = frozenset(
    "p h3 h4 h5 h6 ul ol li blockquote strong em s a code table thead tbody tr th td".split()  # noqa: SIM905
)
"""Tags whose words are compared one by one."""

_BARE = frozenset(("br", "hr", "task"))


def marked(answers: Sequence[Sequence[Tree]]) -> list[list[Tree]] | None:
    """The trees of each answer with ["mark", {}, ...] around what differs; None where one is too long to compare."""
    answers_words = [[word for tree in answer for word in _words(tree)] for answer in answers]
    if any(len(words) > MAX_WORDS for words in answers_words):
        return None
    differing: list[set[int]] = [set() for _ in answers]
    first, *others = [place for place, words in enumerate(answers_words) if words] or [0]
    lacking = []
    for place in others:
        in_first, differing[place] = _differing(answers_words[first], answers_words[place])
        lacking.append(in_first)
    if lacking:
        differing[first] = set.intersection(*lacking)
    return [_marked_answer(*one) for one in zip(answers, differing, strict=True)]


def _differing(one: Sequence[str], other: Sequence[str]) -> tuple[set[int], set[int]]:
    """The places of the words of each that the other has not."""
    in_one, in_other = set(range(len(one))), set(range(len(other)))
    for there, here, size in _common(SequenceMatcher(None, one, other).get_matching_blocks()):
        in_one.difference_update(range(there, there + size))
        in_other.difference_update(range(here, here + size))
    return in_one, in_other


def _common(blocks: Sequence[Match]) -> Iterator[Match]:
    """The common stretches that tell something: a few words between longer stretches that differ are common by chance,
    and marks around them are hard to read."""
    there_end = here_end = 0
    for block, after in pairwise(blocks):
        gap = max(block.a - there_end, block.b - here_end)
        gap_after = max(after.a - block.a, after.b - block.b) - block.size
        if block.size >= min(gap, gap_after):
            there_end, here_end = block.a + block.size, block.b + block.size
            yield block


def _marked_answer(answer: Sequence[Tree], differing: set[int]) -> list[Tree]:
    marks = (place in differing for place in count())
    return [piece for tree in answer for piece in _marked(tree, marks)]


def _words(tree: Tree) -> Iterator[str]:
    if isinstance(tree, str):
        yield from (word for word in _WORD.findall(tree) if not word.isspace())
    elif tree[0] in _AROUND:
        for inside in tree[2:]:
            yield from _words(inside)
    elif tree[0] not in _BARE:
        yield json.dumps(tree)


def _marked(tree: Tree, marks: Iterator[bool]) -> list[Tree]:
    """What stands in the place of one tree. marks: for each of its words, whether it differs; as many are taken."""
    if isinstance(tree, str):
        words = _WORD.findall(tree)
        return _pieces([(word, None if word.isspace() else next(marks)) for word in words])
    if tree[0] in _AROUND:
        return [[*tree[:2], *(piece for inside in tree[2:] for piece in _marked(inside, marks))]]
    if tree[0] in _BARE or not next(marks):
        return [tree]
    return [["mark", {}, tree]]


def _pieces(words: Sequence[tuple[str, bool | None]]) -> list[Tree]:
    """Neighbours of one kind together. None: white space, which is marked between two marked words."""
    runs: list[tuple[str, bool]] = []
    space = ""
    for word, differs in words:
        if differs is None:
            space = word
        elif runs and runs[-1][1] == differs:
            runs[-1] = (runs[-1][0] + space + word, differs)
            space = ""
        else:
            runs += [*([(space, False)] if space else []), (word, differs)]
            space = ""
    runs += [(space, False)] if space else []
    return [["mark", {}, text] if differs else text for text, differs in runs]
