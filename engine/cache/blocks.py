"""The block pool: which runs of prompt tokens have their KV stored, who uses them, which go first. Pure Python.

    root ─> [64 tokens] ─> [64 tokens] ─> [17 tokens]        a chain; each hash covers everything before it
                      └──> [64 tokens]                       a branch: prompts that part ways here

Names as in vLLM (block, block hash chained over the parent's, free queue in LRU order). Keys are cache ids: token ids
in which each media placeholder is a negative id made from the medium's content, so a wrong-picture hit cannot happen;
the ids are compared after a hash hit all the same. The last block matched may be used in part (copy-on-write, by
token).

LRU without a search: a use touches a chain from its tail to its root, so a block is never older than its children, and
the oldest free block is always a leaf.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.cache.table import Block, BlockTable, block_hash
from engine.errors import Internal

_MAX_EVICTED_HASHES = 4096

MissReason = Literal["first_use", "diverged", "evicted", "inside_media", "between_snapshots", "complete"]


@dataclass(frozen=True, slots=True)
class Slot:
    """A run of a prompt that is not stored yet: where it is, and under which hash it would go."""

    hash: bytes
    parent: bytes
    start: int
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Miss:
    """Why the first computed token was not reused. at: its position.

    reason "first_use" (nothing like it was ever stored), "diverged" (stored prompts go on with `other` instead),
    "evicted" (it was stored, and evicted evicted_s seconds ago), "inside_media" (what is stored ends inside a picture
    or clip, so that it is computed from its start), "between_snapshots" (stored prompts part ways between two
    row snapshots), "complete" (everything that can be reused was).
    """

    reason: MissReason
    at: int
    other: int | None = None
    evicted_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Match:
    """The longest stored prefix: (block, tokens of it used) in order, and why it ends there."""

    used: tuple[tuple[Block, int], ...]
    num_tokens: int
    miss: Miss


@dataclass(slots=True)
class Counters:
    """Since the start. A query is one prompt; tokens_saved are prompt tokens that were not computed; image_hits and
    video_hits are prompts with a picture, or a clip, among these; media_reused counts the pictures and clips."""

    queries: int = 0
    hits: int = 0
    tokens_seen: int = 0
    tokens_saved: int = 0
    image_hits: int = 0
    video_hits: int = 0
    media_reused: int = 0
    stored: int = 0
    shared: int = 0
    copied_on_write: int = 0
    evictions: int = 0


@dataclass
class BlockPool(BlockTable):
    """Finds, stores and evicts blocks, within max_blocks and max_bytes. Belongs to the engine thread."""

    max_blocks: int = 1000
    max_bytes: int = 1 << 30
    counters: Counters = field(default_factory=Counters)
    evicted: Callable[[Block], None] | None = None
    """Called with a block before it is evicted, while those before it are still here."""
    _evicted_s: OrderedDict[bytes, float] = field(default_factory=OrderedDict)

    @staticmethod
    def root(scope: str) -> bytes:
        """The start of every chain of one scope (model, settings, tenant); chains of two scopes never meet."""
        return hashlib.blake2b(scope.encode(), digest_size=16).digest()

    # Reading.

    def match(self, root: bytes, ids: Sequence[int]) -> Match:
        """The longest stored prefix of ids[:-1] (the last token is always computed). Counts nothing; see acquire."""
        limit, at, parent = len(ids) - 1, 0, root
        used: list[tuple[Block, int]] = []
        while at < limit:
            block, common = self.best(parent, ids[at : at + self.block_tokens], limit - at)
            if block is None or common == 0:
                break
            used.append((block, common))
            at += common
            if common < self.block_tokens:
                break
            parent = block.hash
        return Match(tuple(used), at, self._why(parent, ids, at, limit))

    def best(self, parent: bytes, ids: Sequence[int], most: int) -> tuple[Block | None, int]:
        """The child of `parent` that shares the longest run with ids, and that run's length (at most `most`)."""
        exact = self._blocks.get(block_hash(parent, ids)) if len(ids) == self.block_tokens else None
        if exact is not None and exact.ids == tuple(ids):
            return exact, min(most, len(exact.ids))
        best, length = self.nearest(parent, ids)
        return best, min(most, length)

    def _why(self, parent: bytes, ids: Sequence[int], at: int, limit: int) -> Miss:
        if at >= limit:
            return Miss("complete", at)
        block_start = at - at % self.block_tokens
        wanted = ids[block_start : block_start + self.block_tokens]
        evicted_s = self._evicted_s.get(block_hash(parent, wanted))
        if evicted_s is not None:
            return Miss("evicted", at, evicted_s=self.clock() - evicted_s)
        rest = tuple(ids[block_start:at])
        for block in self.neighbors(parent, wanted):
            if len(block.ids) > len(rest) and block.ids[: len(rest)] == rest:
                return Miss("diverged", at, other=block.ids[len(rest)])
        return Miss("first_use", at)

    def acquire(self, match: Match, prompt_tokens: int = 0) -> None:
        """A row starts from this match: hold its blocks, mark them used. Counts a prompt of so many tokens, if any."""
        if prompt_tokens:
            self._count(match, prompt_tokens)
        for block, _ in match.used:
            block.hits += 1
        self.hold([block for block, _ in match.used])

    def _count(self, match: Match, prompt_tokens: int) -> None:
        self.counters.queries += 1
        self.counters.tokens_seen += prompt_tokens
        if match.num_tokens:
            self.counters.hits += 1
            self.counters.tokens_saved += match.num_tokens
        self.counters.copied_on_write += sum(num_tokens < len(block.ids) for block, num_tokens in match.used)

    def release(self, match: Match) -> None:
        """The row is done with its blocks."""
        self.let_go([block for block, _ in match.used])

    def hold(self, chain: Sequence[Block]) -> None:
        """Keep blocks, given in the order of their prompt, from eviction until `let_go`. Not a hit of theirs."""
        for block in reversed(chain):
            block.refs += 1
            self._free.pop(block.hash, None)
            block.last_use_s = self.clock()

    def let_go(self, chain: Sequence[Block]) -> None:
        """Held no longer: they may be evicted again, the last first. Raises Internal when they were not held."""
        for block in reversed(chain):
            if block.refs <= 0:
                raise Internal("a cache block was released more often than acquired")
            block.refs -= 1
            self._touch(block)

    # Writing.

    def missing(self, root: bytes, ids: Sequence[int]) -> list[Slot]:
        """The runs of ids that are not stored, in order, as whole blocks and one shorter tail. Touches what is."""
        slots: list[Slot] = []
        chain: list[Block] = []
        parent = root
        for start in range(0, len(ids), self.block_tokens):
            run = tuple(ids[start : start + self.block_tokens])
            key = block_hash(parent, run)
            block = self._blocks.get(key)
            if block is None:
                slots.append(Slot(key, parent, start, run))
            else:
                self.counters.shared += 1
                chain.append(block)
            parent = key
        for block in reversed(chain):
            self._touch(block)
        return slots

    def put(self, slot: Slot, payload: Any, num_bytes: int) -> Block:
        """Store a run; parents first, in the order of `missing`. A shorter tail that it extends is dropped."""
        now = self.clock()
        for old in self.shorter(slot.parent, slot.ids):
            if old.refs == 0 and not old.pinned:
                self._drop(old)
        block = Block(slot.hash, slot.parent, slot.start, slot.ids, payload, num_bytes, now, now)
        self._add(block)
        self._evicted_s.pop(slot.hash, None)
        self.counters.stored += 1
        self._touch(block)
        return block

    def trim(self, root: bytes, ids: Sequence[int]) -> int:
        """Evict the oldest free blocks until the pool fits its limits; the chain of ids goes last. Returns how many."""
        self._touch_chain(root, ids)
        count = 0
        while self._free and (len(self._blocks) > self.max_blocks or self.num_bytes > self.max_bytes):
            self._evict_oldest()
            count += 1
        return count

    def make_room(self, num_bytes: int) -> bool:
        """Evict the oldest free blocks until one more of so many bytes fits. Returns False when it cannot."""

        def fits() -> bool:
            return len(self._blocks) < self.max_blocks and self.num_bytes + num_bytes <= self.max_bytes

        while self._free and not fits():
            self._evict_oldest()
        return fits()

    def _evict_oldest(self) -> None:
        block = next(iter(self._free.values()))
        if self.evicted is not None:
            self.evicted(block)
        self._drop(block)
        self._evicted_s[block.hash] = self.clock()
        if len(self._evicted_s) > _MAX_EVICTED_HASHES:
            self._evicted_s.popitem(last=False)
        self.counters.evictions += 1

    def clear(self) -> None:
        """Forget everything that no running row uses and nobody pinned."""
        for block in tuple(self._free.values()):
            self._drop(block)
        self._evicted_s.clear()

    def pin(self, key: bytes, pinned: bool = True) -> bool:
        """Keep a block and all before it from eviction, or no longer. Returns False when it is not stored."""
        block = self._blocks.get(key)
        if block is None:
            return False
        while block is not None:
            if not pinned and any(b.pinned for b in self._children.get(block.hash, ())):
                break
            block.pinned = pinned
            self._touch(block)
            block = self._blocks.get(block.parent)
        return True

    def drop(self, key: bytes) -> bool:
        """Forget a block and all that continue from it. Returns False when it is not stored, or a part is held."""
        block = self._blocks.get(key)
        if block is None:
            return False
        doomed, tree = [], [block]
        while tree:
            doomed.append(tree.pop())
            tree += self._children.get(doomed[-1].hash, ())
        if any(b.refs or b.pinned for b in doomed):
            return False
        for b in reversed(doomed):
            self._drop(b)
        return True

    def _touch_chain(self, root: bytes, ids: Sequence[int]) -> None:
        chain, parent = [], root
        for start in range(0, len(ids), self.block_tokens):
            block = self._blocks.get(block_hash(parent, ids[start : start + self.block_tokens]))
            if block is None:
                break
            chain.append(block)
            parent = block.hash
        for block in reversed(chain):
            self._touch(block)
