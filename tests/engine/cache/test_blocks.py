"""The block pool's books: what matches, what is shared, what goes first, and that the books always add up."""

from __future__ import annotations

import random

import pytest

from engine.cache import blocks
from engine.cache.blocks import Block, BlockPool, Match
from engine.cache.table import num_shared
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


def test_one_of_a_thousand_prompts_that_begin_alike_is_found():
    books = pool(block_tokens=64)
    for picture in range(1000):
        store(books, [1, 2, -1 - picture, 7, picture % 3])
    lost = [picture for picture in range(1000) if reused(books, [1, 2, -1 - picture, 7, 8, 9]) != 4]
    assert not lost, "a stored beginning was not found"


def test_why_it_missed_among_many():
    books = pool()
    for tail in ([5], [5, 6], [5, 6, 9], [7, 1]):
        books.put(*_tail(books, tail), num_bytes=1)
    why = books.match(books.root("model"), [5, 6, 7, 8]).miss
    assert (why.reason, why.at, why.other) == ("diverged", 2, 9)


def _tail(books: BlockPool, ids: list[int]) -> tuple[blocks.Slot, None]:
    (slot,) = books.missing(books.root("model"), ids)
    return slot, None


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


class Walk:
    """Random operations on a pool, each followed by a look at its books, and each match held against a search.

    A block's payload is the scope and all ids up to its end, so it says itself for which prompts it is right.
    """

    def __init__(self, books: BlockPool, seed: int) -> None:
        self.books = books
        self.rng = random.Random(seed)
        self.held: list[Match] = []

    def run(self, steps: int) -> None:
        do = {self.store: 4, self.match: 4, self.release: 3, self.pin: 1, self.unpin: 2, self.drop: 1, self.clear: 0.1}
        for _ in range(steps):
            self.rng.choices(list(do), list(do.values()))[0]()
            self.books.check_integrity()
        for match in self.held:
            self.books.release(match)
        self.books.check_integrity()
        assert not any(block.refs for block in self.books)

    def prompt(self) -> tuple[str, list[int]]:
        return self.rng.choice("ab"), [self.rng.randrange(3) for _ in range(self.rng.randrange(1, 20))]

    def store(self) -> None:
        scope, ids = self.prompt()
        root = self.books.root(scope)
        for slot in self.books.missing(root, ids):
            self.books.put(slot, (scope, ids[: slot.start + len(slot.ids)]), 10 * len(slot.ids))
        self.books.trim(root, ids)
        free = [block for block in self.books if not (block.refs or block.pinned)]
        assert len(self.books) <= self.books.max_blocks or not free, "over the limit"

    def match(self) -> None:
        scope, ids = self.prompt()
        match = self.books.match(self.books.root(scope), ids)
        for block, num_tokens in match.used:
            end = block.start + num_tokens
            assert block.payload[0] == scope and block.payload[1][:end] == ids[:end], "a wrong hit"
        mine = [block.payload[1] for block in self.books if block.payload[0] == scope]
        best = max((num_shared(stored, ids[:-1]) for stored in mine), default=0)
        assert match.num_tokens == best, "a longer beginning is stored"
        self.books.acquire(match, len(ids))
        self.held.append(match)

    def release(self) -> None:
        if self.held:
            self.books.release(self.held.pop(self.rng.randrange(len(self.held))))

    def pin(self, pinned: bool = True) -> None:
        if len(self.books):
            self.books.pin(self.rng.choice(list(self.books)).hash, pinned)

    def unpin(self) -> None:
        self.pin(False)

    def drop(self) -> None:
        if len(self.books):
            self.books.drop(self.rng.choice(list(self.books)).hash)

    def clear(self) -> None:
        self.books.clear()


@pytest.mark.parametrize("seed", range(3))
def test_a_thousand_random_operations(seed: int):
    Walk(pool(max_blocks=12), seed).run(1000)


def _release_without_freeing(self: BlockPool, match: Match) -> None:
    for block, _ in match.used:
        block.refs -= 1


def _pin_one(self: BlockPool, key: bytes, pinned: bool = True) -> bool:
    self._blocks[key].pinned = pinned
    self._touch(self._blocks[key])
    return True


def _drop_one(self: BlockPool, key: bytes) -> bool:
    self._drop(self._blocks[key])
    return True


def _drop_unweighed(self: BlockPool, block: Block) -> None:
    num_bytes, dropped = self.num_bytes, BlockPool_drop(self, block)
    self.num_bytes = num_bytes
    return dropped


def _newest_first(self: BlockPool, block: Block) -> None:
    BlockPool_touch(self, block)
    if block.hash in self._free:
        self._free.move_to_end(block.hash, last=False)


BlockPool_drop, BlockPool_touch = BlockPool._drop, BlockPool._touch
MUTANTS = {
    "one root for all": ("root", staticmethod(lambda scope: b"root"), "a wrong hit"),
    "released blocks are never free": ("release", _release_without_freeing, "free queue"),
    "a pin forgets what stands before it": ("pin", _pin_one, "orphans"),
    "a drop forgets what continues it": ("drop", _drop_one, "orphans"),
    "bytes are not given back": ("_drop", _drop_unweighed, "bytes"),
    "the newest goes first": ("_touch", _newest_first, "orphans"),
    "nothing is ever evicted": ("trim", lambda self, root, ids: 0, "over the limit"),
}


@pytest.mark.parametrize("name", list(MUTANTS))
def test_sabotage_the_walk_sees_it(name: str, monkeypatch: pytest.MonkeyPatch):
    attribute, broken, why = MUTANTS[name]
    monkeypatch.setattr(BlockPool, attribute, broken)
    with pytest.raises((AssertionError, Internal), match=why):
        Walk(pool(max_blocks=12), 0).run(1000)


def test_sabotage_children_that_are_not_looked_at_are_seen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(BlockPool, "neighbors", lambda self, parent, ids: self._children.get(parent, [])[-64:])
    with pytest.raises(AssertionError, match="a stored beginning was not found"):
        test_one_of_a_thousand_prompts_that_begin_alike_is_found()


def test_sabotage_hashes_that_are_not_chained_are_seen(monkeypatch: pytest.MonkeyPatch):
    block_hash = blocks.block_hash
    monkeypatch.setattr(blocks, "block_hash", lambda parent, ids: block_hash(b"", ids))
    with pytest.raises(Internal, match="cache integrity"):
        Walk(pool(max_blocks=12), 0).run(1000)


def test_the_check_sees_a_lost_block():
    books = pool()
    store(books, [1, 2, 3, 4])
    books._free.clear()
    with pytest.raises(Internal, match="free queue"):
        books.check_integrity()
