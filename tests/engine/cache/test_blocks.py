"""The block pool's books: what matches, what is shared, what goes first, and that the books always add up."""

from __future__ import annotations

import random

import pytest

from engine.cache import blocks
from engine.cache.blocks import BlockPool
from engine.errors import Internal


def pool(**limits: int) -> BlockPool:
    ticks = iter(range(10**9))
    return BlockPool(**({"block_tokens": 4} | limits), clock=lambda: next(ticks))


def store(books: BlockPool, ids: list[int], scope: str = "model") -> int:
    """Store a prompt as the engine does; returns how many blocks were new."""
    root = books.root(scope)
    slots = books.missing(root, ids)
    for slot in slots:
        books.put(slot, payload=slot.ids, num_bytes=10 * len(slot.ids))
    books.trim(root, ids)
    books.check_integrity()
    return len(slots)


def reused(books: BlockPool, ids: list[int], scope: str = "model") -> int:
    return books.match(books.root(scope), ids).num_tokens


def test_a_prompt_is_found_again_up_to_its_last_token():
    books = pool()
    store(books, list(range(10)))
    assert reused(books, list(range(10))) == 9
    assert reused(books, [*range(10), 77, 78]) == 10


def test_the_tail_matches_by_token():
    books = pool()
    store(books, [1, 2, 3, 4, 5, 6, 7])
    match = books.match(books.root("model"), [1, 2, 3, 4, 5, 6, 99, 100])
    assert match.num_tokens == 6
    assert [(block.ids, n) for block, n in match.used] == [((1, 2, 3, 4), 4), ((5, 6, 7), 2)]


def test_blocks_are_shared_and_branch():
    books = pool()
    assert store(books, [1, 2, 3, 4, 5, 6, 7, 8]) == 2
    assert store(books, [1, 2, 3, 4, 50, 60, 70, 80]) == 1
    assert len(books) == 3 and books.counters.shared == 1


def test_equal_tokens_behind_another_beginning_are_another_block():
    books = pool()
    store(books, [1, 2, 3, 4, 5, 6, 7, 8])
    assert reused(books, [9, 9, 9, 9, 5, 6, 7, 8]) == 0


def test_scopes_never_meet():
    books = pool()
    store(books, [1, 2, 3, 4, 5], scope="tenant a")
    assert reused(books, [1, 2, 3, 4, 5], scope="tenant b") == 0
    assert reused(books, [1, 2, 3, 4, 5], scope="tenant a") == 4


def test_a_hash_collision_is_caught_by_comparing_ids(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(blocks, "block_hash", lambda parent, ids: b"same")
    books = pool()
    root = books.root("model")
    (slot,) = books.missing(root, [1, 2, 3, 4])
    books.put(slot, None, 1)
    assert books.match(root, [5, 6, 7, 8, 9]).num_tokens == 0


def test_a_longer_tail_takes_the_place_of_a_shorter_one():
    books = pool()
    store(books, [1, 2])
    store(books, [1, 2, 3])
    assert [block.ids for block in books] == [(1, 2, 3)]


@pytest.mark.parametrize("limit", [{"max_blocks": 3}, {"max_bytes": 120}])
def test_the_oldest_leaf_goes_first(limit: dict[str, int]):
    books = pool(**limit)
    store(books, [1, 2, 3, 4, 5, 6, 7, 8])
    store(books, [11, 12, 13, 14])
    reused_before = reused(books, [1, 2, 3, 4, 5])
    store(books, [21, 22, 23, 24])
    assert reused_before == 4
    assert reused(books, [1, 2, 3, 4, 5]) == 4, "a root outlives its leaf"
    assert reused(books, [1, 2, 3, 4, 5, 6, 7, 8, 9]) == 4
    assert books.match(books.root("model"), [1, 2, 3, 4, 5, 6, 7, 8, 9]).miss.reason == "evicted"


def test_blocks_in_use_stay():
    books = pool(max_blocks=1)
    store(books, [1, 2, 3, 4])
    match = books.match(books.root("model"), [1, 2, 3, 4, 5])
    books.acquire(match, 5)
    store(books, [11, 12, 13, 14])
    assert reused(books, [1, 2, 3, 4, 5]) == 4
    books.release(match)
    store(books, [21, 22, 23, 24])
    assert reused(books, [1, 2, 3, 4, 5]) == 0


def test_releasing_twice_is_a_fault():
    books = pool()
    store(books, [1, 2, 3, 4])
    match = books.match(books.root("model"), [1, 2, 3, 4, 5])
    books.acquire(match, 5)
    books.release(match)
    with pytest.raises(Internal):
        books.release(match)


def test_pinned_blocks_and_their_beginning_stay():
    books = pool(max_blocks=2)
    store(books, [1, 2, 3, 4, 5, 6, 7, 8])
    leaf = next(block for block in books if block.start == 4)
    assert books.pin(leaf.hash)
    store(books, [11, 12, 13, 14, 15, 16, 17, 18])
    assert reused(books, [1, 2, 3, 4, 5, 6, 7, 8, 9]) == 8
    books.pin(leaf.hash, pinned=False)
    books.check_integrity()
    store(books, [21, 22, 23, 24, 25, 26, 27, 28])
    assert reused(books, [1, 2, 3, 4, 5, 6, 7, 8, 9]) == 0


def test_why_it_missed():
    books = pool()
    root = books.root("model")
    assert books.match(root, [1, 2, 3]).miss.reason == "first_use"
    store(books, [1, 2, 3, 4, 5, 6, 7, 8])
    miss = books.match(root, [1, 2, 3, 4, 5, 99, 100]).miss
    assert (miss.reason, miss.at, miss.other) == ("diverged", 5, 6)
    miss = books.match(root, [1, 2, 3, 4, 99, 100]).miss
    assert (miss.reason, miss.at, miss.other) == ("diverged", 4, 5)
    assert books.match(root, [1, 2, 3, 4, 5, 6, 7, 8]).miss.reason == "complete"


def test_clear_keeps_what_runs():
    books = pool()
    store(books, [1, 2, 3, 4, 5, 6, 7, 8])
    match = books.match(books.root("model"), [1, 2, 3, 4, 9])
    books.acquire(match, 5)
    books.clear()
    books.check_integrity()
    assert [block.ids for block in books] == [(1, 2, 3, 4)]
    books.release(match)
    books.clear()
    assert len(books) == 0 and books.num_bytes == 0


def random_walk(books: BlockPool, steps: int, seed: int) -> None:
    """Random stores, matches, releases and pins, with the books checked after each."""
    rng = random.Random(seed)
    held = []
    for _ in range(steps):
        ids = [rng.randrange(3) for _ in range(rng.randrange(1, 20))]
        scope = rng.choice("ab")
        what = rng.randrange(6)
        if what <= 1:
            store(books, ids, scope)
        elif what == 2:
            match = books.match(books.root(scope), ids)
            books.acquire(match, len(ids))
            held.append(match)
        elif what == 3 and held:
            books.release(held.pop(rng.randrange(len(held))))
        elif what == 4 and len(books):
            books.pin(rng.choice(list(books)).hash, pinned=rng.random() < 0.4)
        elif what == 5 and rng.random() < 0.1:
            books.clear()
        books.check_integrity()
    for match in held:
        books.release(match)
    books.check_integrity()


@pytest.mark.parametrize("seed", range(3))
def test_a_thousand_random_operations(seed: int):
    random_walk(pool(max_blocks=12), 1000, seed)


def test_the_check_sees_a_lost_block():
    books = pool()
    store(books, [1, 2, 3, 4])
    books._free.clear()
    with pytest.raises(Internal, match="free queue"):
        books.check_integrity()
