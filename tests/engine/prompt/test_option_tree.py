"""The options as a tree of tokens: probabilities that add up, whatever their order, length and beginnings."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import pairwise

import pytest

from engine.prompt import option_tree
from engine.prompt.option_tree import OptionTree, Tokens

Spellings = list[list[Tokens]]


def logs(*probabilities: float) -> list[float]:
    return [math.log(p) for p in probabilities]


def test_options_of_one_token_need_one_place() -> None:
    tree = OptionTree([[(5,)], [(3,)], [(4,)]])
    assert tree.paths == ((),)
    (branch,) = tree.branches
    assert (branch.path, branch.tokens) == ((), (3, 4, 5))
    assert tree.probabilities({(): logs(0.1, 0.1, 0.2)}) == pytest.approx((0.5, 0.25, 0.25)), "the rest is left out"


def test_an_option_is_all_of_its_tokens() -> None:
    """A model that would write "the" before anything does not thereby choose "the sea"."""
    tree = OptionTree([[(1, 2)], [(3,)]])
    assert tree.paths == ((1,),), "one row passes both branches"
    assert tree.probabilities({(): logs(0.8, 0.1), (1,): logs(0.05)}) == pytest.approx((0.04 / 0.14, 0.1 / 0.14))


def test_an_option_that_ends_inside_another_has_what_the_other_has_not() -> None:
    tree = OptionTree([[(1,)], [(1, 0)], [(1, 0, 0)]])
    found = tree.probabilities({(): logs(0.3), (1,): logs(0.2), (1, 0): logs(0.5)})
    assert found == pytest.approx((0.8, 0.1, 0.1))
    assert OptionTree([[(1,)], [(1, 0, 0)]]).branches[2].path == (1, 0)


def test_spellings_add_up_and_equal_ones_are_shared() -> None:
    tree = OptionTree([[(1,), (2,)], [(3,)]])
    assert tree.probabilities({(): logs(0.1, 0.2, 0.1)}) == pytest.approx((0.75, 0.25))
    assert OptionTree([[(1,)], [(1,)]]).probabilities({(): logs(0.1)}) == pytest.approx((0.5, 0.5))
    assert OptionTree([[(1, 2)]]).probabilities({}) == (1.0,)


def test_temperature_brings_them_closer() -> None:
    tree = OptionTree([[(1,)], [(2,)]])
    at = {t: tree.probabilities({(): logs(0.8, 0.2)}, t)[0] for t in (0.5, 1.0, 2.0)}
    assert at == pytest.approx({0.5: 16 / 17, 1.0: 0.8, 2.0: 2 / 3})


def random_options(seed: int) -> Spellings:
    """Up to 40 options over three tokens, of up to four: many begin alike and many end inside others."""
    random_ = random.Random(seed)
    words = {tuple(random_.choices((1, 2, 3), k=random_.randint(1, 4))) for _ in range(random_.randint(2, 40))}
    return [[word] for word in random_.sample(sorted(words), len(words))]


def model(seed: int) -> dict[Tokens, list[float]]:
    """What a model says: by path, the log-probabilities of tokens 1, 2 and 3; some of it goes to others."""
    random_ = random.Random(seed)
    paths: list[Tokens] = [()]
    for path in paths:
        if len(path) < 4:
            paths += [(*path, token) for token in (1, 2, 3)]
    weights = {path: [random_.random() for _ in range(4)] for path in paths}
    return {path: logs(*(w / sum(ws) for w in ws[:3])) for path, ws in weights.items()}


def written(options: Spellings, said: dict[Tokens, list[float]]) -> list[float]:
    """How often each option is written, of all that begin as one of them, by walking every way of four tokens and more:
    with no tree. The longest option that a way begins with is what it says."""
    chances = dict.fromkeys((option[0] for option in options), 0.0)

    def walk(way: Tokens, chance: float) -> None:
        inside = [word for word in chances if way[: len(word)] == word]
        going_on = any(word[: len(way)] == way and word != way for word in chances)
        if not going_on:
            if inside:
                chances[max(inside, key=len)] += chance
            return
        odds = [math.exp(logprob) for logprob in said[way]]
        for token, odd in zip((1, 2, 3), odds, strict=True):
            walk((*way, token), chance * odd)
        walk((*way, 0), chance * (1.0 - sum(odds)))

    walk((), 1.0)
    return [chance / sum(chances.values()) for chance in chances.values()]


def found(options: Spellings, said: dict[Tokens, list[float]]) -> Sequence[float]:
    tree = OptionTree(options)
    asked = {b.path: [said[b.path][token - 1] for token in b.tokens] for b in tree.branches}
    return tree.probabilities(asked)


@pytest.mark.parametrize("seed", range(20))
def test_they_are_what_a_writer_who_is_held_to_the_options_writes(seed: int) -> None:
    options, said = random_options(seed), model(seed)
    probabilities = found(options, said)
    assert sum(probabilities) == pytest.approx(1.0)
    assert list(probabilities) == pytest.approx(written(options, said))


@pytest.mark.parametrize("seed", range(5))
def test_their_order_changes_nothing(seed: int) -> None:
    options, said = random_options(seed), model(seed)
    turned = options[::-1]
    assert found(turned, said)[::-1] == found(options, said)


@pytest.mark.parametrize("seed", range(5))
def test_the_paths_pass_every_branch_and_none_is_inside_another(seed: int) -> None:
    tree = OptionTree(random_options(seed))
    assert all(any(path[: len(b.path)] == b.path for path in tree.paths) for b in tree.branches)
    assert not any(b[: len(a)] == a for a, b in pairwise(tree.paths))


def test_sabotage_a_tree_that_forgets_who_ends_inside_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(option_tree, "_SMALLEST", 1.0)
    options, said = random_options(3), model(3)
    assert list(found(options, said)) != pytest.approx(written(options, said))
