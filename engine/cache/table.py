"""Blocks by their hash, their children and the queue of free ones: the tables of the pool, and the check of them.

Pure Python, engine thread only. A block's hash covers everything before it, so equal prompts have equal chains.
"""

from __future__ import annotations

import hashlib
import time
from array import array
from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.errors import Internal


@dataclass(eq=False, slots=True)
class Block:
    """KV of `ids` at token positions [start, start + len(ids)). payload is the store's own (arrays), opaque here.

    refs counts running rows that were served from it; a block in use or pinned is never evicted.
    """

    hash: bytes
    parent: bytes
    start: int
    ids: tuple[int, ...]
    payload: Any
    num_bytes: int
    created_s: float
    last_use_s: float
    refs: int = 0
    hits: int = 0
    pinned: bool = False


def block_hash(parent: bytes, ids: Sequence[int]) -> bytes:
    """The hash of a run of cache ids that continues the chain ending in `parent`."""
    return hashlib.blake2b(parent + array("q", ids).tobytes(), digest_size=16).digest()


def num_shared(a: Sequence[int], b: Sequence[int]) -> int:
    """How many ids two runs share from their start."""
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return i
    return min(len(a), len(b))


def _ids(block: Block) -> tuple[int, ...]:
    return block.ids


@dataclass
class BlockTable:
    """Free blocks, which no row holds and nobody pinned, are queued least recently used first."""

    block_tokens: int = 64
    clock: Callable[[], float] = field(default=time.monotonic, kw_only=True)
    num_bytes: int = field(default=0, kw_only=True)
    _blocks: dict[bytes, Block] = field(default_factory=dict, kw_only=True)
    _children: dict[bytes, list[Block]] = field(default_factory=dict, kw_only=True)
    """Of a parent, in the order of their ids, so that those with the longest shared beginning are neighbors."""
    _free: OrderedDict[bytes, Block] = field(default_factory=OrderedDict, kw_only=True)
    _next_checked: int = field(default=0, kw_only=True)

    def __len__(self) -> int:
        return len(self._blocks)

    def __iter__(self) -> Iterator[Block]:
        return iter(tuple(self._blocks.values()))

    def get(self, key: bytes) -> Block | None:
        """A stored block by its hash. Not a use of it."""
        return self._blocks.get(key)

    @property
    def num_held(self) -> int:
        """Blocks that running rows hold."""
        return sum(block.refs > 0 for block in self._blocks.values())

    def _add(self, block: Block) -> None:
        self._blocks[block.hash] = block
        insort(self._children.setdefault(block.parent, []), block, key=_ids)
        self.num_bytes += block.num_bytes

    def neighbors(self, parent: bytes, ids: Sequence[int]) -> list[Block]:
        """The children of `parent` between which ids would stand: of however many, none shares more with ids."""
        siblings = self._children.get(parent, [])
        at = bisect_left(siblings, tuple(ids), key=_ids)
        return siblings[max(0, at - 1) : at + 1]

    def nearest(self, parent: bytes, ids: Sequence[int]) -> tuple[Block | None, int]:
        """The child of `parent` that shares the longest beginning with ids, and how many ids that are."""
        best, length = None, 0
        for block in self.neighbors(parent, ids):
            if (shared := num_shared(block.ids, ids)) > length:
                best, length = block, shared
        return best, length

    def shorter(self, parent: bytes, ids: tuple[int, ...]) -> list[Block]:
        """The children of `parent` that ids begin with and go beyond."""
        siblings, found, run = self._children.get(parent, []), list[Block](), ids[:-1]
        while run and (at := bisect_right(siblings, run, key=_ids)):
            before = siblings[at - 1]
            shared = num_shared(before.ids, run)
            if shared == len(before.ids):
                found.append(before)
                shared -= 1
            run = run[:shared]
        return found

    def _touch(self, block: Block) -> None:
        """Most recently used; in the free queue only while nothing holds it."""
        block.last_use_s = self.clock()
        self._free.pop(block.hash, None)
        if block.refs == 0 and not block.pinned:
            self._free[block.hash] = block

    def _drop(self, block: Block) -> None:
        del self._blocks[block.hash]
        self._free.pop(block.hash, None)
        self.num_bytes -= block.num_bytes
        siblings = self._children[block.parent]
        siblings.remove(block)
        if not siblings:
            del self._children[block.parent]

    def check_integrity(self, sample: int | None = None) -> None:
        """Raise Internal when the tables contradict each other.

        With a sample, only so many blocks are looked at one by one, the next ones at every call: cheap enough to be
        done again and again. Tests look at all of them after every operation.
        """
        blocks = self._blocks
        num_free = sum(b.refs == 0 and not b.pinned for b in blocks.values())
        faults = {
            "bytes": self.num_bytes != sum(b.num_bytes for b in blocks.values()),
            "children": sum(map(len, self._children.values())) != len(blocks),
            "free queue": len(self._free) != num_free,
        }
        wrong = {name for name, is_wrong in faults.items() if is_wrong}
        for block in self._sample(sample):
            wrong.update(self._faults(block))
        if wrong:
            raise Internal(f"cache integrity: {', '.join(sorted(wrong))}")

    def _sample(self, size: int | None) -> list[Block]:
        blocks = list(self._blocks.values())
        if size is None or size >= len(blocks):
            return blocks
        start = self._next_checked % len(blocks)
        self._next_checked = start + size
        return [*blocks[start : start + size], *blocks[: max(0, start + size - len(blocks))]]

    def _faults(self, block: Block) -> list[str]:
        """What is wrong with one block and its place in the tables."""
        children = self._children.get(block.hash)
        faults = {
            "children": not self._is_in_its_place(block),
            "free queue": (block.hash in self._free) != (block.refs == 0 and not block.pinned),
            "refs": block.refs < 0,
            "hashes": block.hash != block_hash(block.parent, block.ids),
            "orphans": block.start > 0 and block.parent not in self._blocks,
            "lengths": bool(children) and len(block.ids) < self.block_tokens,
        }
        return [name for name, is_wrong in faults.items() if is_wrong]

    def _is_in_its_place(self, block: Block) -> bool:
        siblings = self._children.get(block.parent, [])
        at = bisect_left(siblings, block.ids, key=_ids)
        return at < len(siblings) and siblings[at] is block

    def repair(self) -> int:
        """Make the tables anew from the blocks that are sound, when nothing is held. Returns how many others go.

        A block goes with all that continue from it. Pins stay.
        """
        before, sound = len(self._blocks), dict[bytes, Block]()
        for key, block in sorted(self._blocks.items(), key=lambda pair: pair[1].start):
            above = sound.get(block.parent)
            follows = block.start == 0 or (above is not None and block.start == above.start + self.block_tokens)
            if follows and block.ids and key == block.hash == block_hash(block.parent, block.ids):
                sound[key] = block
        self._blocks, self._children, self.num_bytes = {}, {}, 0
        self._free.clear()
        for block in sound.values():
            self._add(block)
            block.refs = 0
        # As after a use of every chain: a block is never older than those that continue it.
        for block in sorted(sound.values(), key=lambda block: (block.last_use_s, -block.start)):
            if not block.pinned:
                self._free[block.hash] = block
        return before - len(sound)
