"""lookup: what came before is proposed, and nothing else."""

from __future__ import annotations

import random

import pytest

from engine.models import lookup as module
from engine.models.lookup import PromptLookup


def lookup(*tokens: int, least: int = 2, most: int = 4) -> PromptLookup:
    return PromptLookup(tokens, least, most)


def test_what_followed_the_last_tokens_is_proposed() -> None:
    assert lookup(7, 1, 2, 3, 4, 5, 9, 1, 2).proposal(3) == [3, 4, 5]


def test_fewer_tokens_than_asked_for_are_no_match() -> None:
    tokens = (1, 2, 3, 8, 2)
    assert lookup(*tokens).proposal(2) == []
    assert lookup(*tokens, least=1).proposal(2) == [3, 8]


def test_the_longest_match_wins_and_of_equal_ones_the_last() -> None:
    assert lookup(1, 2, 3, 7, 9, 2, 3, 8, 1, 2, 3).proposal(1) == [7], "1 2 3 has come once, 2 3 twice"
    assert lookup(2, 3, 7, 9, 2, 3, 8, 5, 2, 3).proposal(1) == [8]


def test_a_match_that_is_longer_than_is_looked_at_is_as_good_as_the_last_one() -> None:
    assert lookup(1, 2, 3, 7, 9, 2, 3, 8, 1, 2, 3, most=2).proposal(1) == [8]


def test_what_repeats_goes_on() -> None:
    assert lookup(1, 2, 1, 2).proposal(5) == [1, 2, 1, 2, 1]


def test_nothing_is_proposed_where_a_picture_stands() -> None:
    assert lookup(1, 2, 3, -77, 5, 1, 2).proposal(4) == [3]
    assert lookup(-5, -6, 3, -5, -6).proposal(4) == [], "a picture is no text to look up"


def test_it_grows_with_the_answer() -> None:
    found = lookup(1, 2, 3, 4)
    for token in [*range(100, 300), 1, 2]:
        found.append(token)
    assert found.proposal(2) == [3, 4]


def test_short_beginnings() -> None:
    assert lookup().proposal(4) == []
    assert lookup(1).proposal(4) == []
    assert lookup(1, 1).proposal(4) == []
    assert lookup(1, 1, least=1).proposal(2) == [1, 1]


def test_only_the_newest_tokens_and_places_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = (1, 2, 3, 4, 5), (1, 2, 9, 8)
    assert lookup(*old, *range(100, 120), 1, 2).proposal(2) == [3, 4]
    monkeypatch.setattr(module, "MOST_SEARCHED", 20)
    assert lookup(*old, *range(100, 120), 1, 2).proposal(2) == []
    assert lookup(*range(100, 120), *new, 1, 2).proposal(2) == [9, 8], "places count from the beginning"
    monkeypatch.setattr(module, "MOST_PLACES", 2)
    assert lookup(7, 1, 2, 50, 2, 60, 2, 61, 7, 1, 2, least=1).proposal(1) == [61], "7 1 2 stood at an older place"


def test_the_search_is_the_plain_one() -> None:
    """Against each place tried by hand."""
    rng = random.Random(5)
    for _ in range(300):
        tokens = [rng.choice((1, 2, 3, -1)) for _ in range(rng.randint(0, 30))]
        best = (2, 0)  # so many at least
        for end in range(1, len(tokens)):
            length = 0
            while length < min(4, end) and tokens[end - 1 - length] == tokens[-1 - length] >= 0:
                length += 1
            best = max(best, (length, end))
        assert lookup(*tokens)._after_match() == (best[1] if best[1] else None), tokens
