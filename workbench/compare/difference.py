"""Where answers differ, word by word: marks in the trees from which the page draws them (chat/markdown.py). Pure.

The first answer is compared with each of the others. What stands in one of two and not in the other is marked in both.
An answer without words is left out.
A block of code, a formula and a picture count as one word each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

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
    words = [[word for tree in answer for word in _words(tree)] for answer in answers]
    if any(len(one) > MAX_WORDS for one in words):
        return None
    differing: list[set[int]] = [set() for _ in answers]
    first, *others = [place for place, one in enumerate(words) if one] or [0]
    for place in others:
        for tag, there, there_end, here, here_end in SequenceMatcher(None, words[first], words[place]).get_opcodes():
            if tag != "equal":
                differing[first].update(range(there, there_end))
                differing[place].update(range(here, here_end))
    return [_marked_answer(*one) for one in zip(answers, words, differing, strict=True)]


def _marked_answer(answer: Sequence[Tree], words: Sequence[str], differing: set[int]) -> list[Tree]:
    marks = iter([place in differing for place in range(len(words))])
    return [piece for tree in answer for piece in _marked(tree, marks)]


def _words(tree: Tree) -> Iterator[str]:
    if isinstance(tree, str):
        yield from _WORD.findall(tree)
    elif tree[0] in _AROUND:
        for inside in tree[2:]:
            yield from _words(inside)
    elif tree[0] not in _BARE:
        yield json.dumps(tree)


def _marked(tree: Tree, marks: Iterator[bool]) -> list[Tree]:
    """What stands in the place of one tree. marks: for each of its words, whether it differs; as many are taken."""
    if isinstance(tree, str):
        return _pieces([(word, next(marks)) for word in _WORD.findall(tree)])
    if tree[0] in _AROUND:
        return [[*tree[:2], *(piece for inside in tree[2:] for piece in _marked(inside, marks))]]
    if tree[0] in _BARE or not next(marks):
        return [tree]
    return [["mark", {}, tree]]


def _pieces(words: Sequence[tuple[str, bool]]) -> list[Tree]:
    """Neighbours of one kind together; white space alone is never marked."""
    runs: list[tuple[str, bool]] = []
    for word, differs in words:
        if runs and runs[-1][1] == differs:
            runs[-1] = (runs[-1][0] + word, differs)
        else:
            runs.append((word, differs))
    return [["mark", {}, text] if differs and text.strip() else text for text, differs in runs]
