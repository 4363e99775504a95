"""What of one prompt's beginning comes from disk to memory: read off the engine thread, handed in a share each turn.

    PrefixCache.begin_restore ──> ready? turn, ready? turn, ... done ──> PrefixCache.begin, which looks at memory alone

Running rows decode between two turns. What was handed in is held until `close`, so that it is still there when the row
begins. Whatever fails ends the restore early: the prompt computes more of itself, and nothing worse happens. Engine
thread only.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import mlx.core as mx

from engine.cache import tensors
from engine.cache.blocks import BlockPool, Slot
from engine.cache.disk.arrays import to_array
from engine.cache.disk.checksummed import Contents
from engine.cache.disk.read_ahead import ReadAhead
from engine.cache.disk.store import DiskStore
from engine.cache.snapshots import SnapshotStore, snapshot_key
from engine.cache.table import Block, block_hash, num_shared

log = logging.getLogger(__name__)

TURN_BYTES = 32 * 1024**2
TURN_BLOCKS = 8
"""What one turn hands in at most, or one block where that is larger: some milliseconds of copying."""

_MAX_SIBLING_FILES = 1024
"""Files behind one parent that are compared for the longest shared run, the newest: the ids of each are parsed."""

PATIENCE_S = 5.0
"""How long the disk may be silent before a prompt is computed instead."""

SNAPSHOTS = "snapshots"
IDS = "ids"

RestoreTurns = Generator[Future[Any] | None, None, None]
"""Yields at the end of each turn what the next one waits for: a file that is being read, or nothing."""


class Restore:
    """What all restores have in common. num_tokens: of the prompt's, how many have come from disk so far."""

    def __init__(self, store: DiskStore) -> None:
        self._store = store
        self._steps = self._work()
        self._awaited: Future[Any] | None = None
        self._since_s = 0.0
        self.num_tokens = 0

    @property
    def ready(self) -> bool:
        """Whether a turn would do something; otherwise the disk is still being read."""
        return self._awaited is None or self._awaited.done() or self._store.silent_s(self._since_s) > PATIENCE_S

    def turn(self) -> bool:
        """Hand in the next share of what was read. Returns True when nothing more is to come. Never raises."""
        if not self.ready:
            return False
        if self._awaited is not None and not self._awaited.done():
            self._store.give_up(self._awaited)
            self._steps.close()
            return True
        try:
            self._awaited = next(self._steps)
        except StopIteration:
            return True
        except Exception:
            log.exception("a prompt could not be restored from disk; it is computed instead")
            self._store.count_fault()
            return True
        self._since_s = time.monotonic()
        return False

    def close(self) -> None:
        """Hold nothing any more: the row has begun, or the request is gone. May be called again."""
        self._steps.close()

    def _work(self) -> RestoreTurns:
        """The whole of it, in turns."""
        raise NotImplementedError


class BlockRestore(Restore):
    """Blocks, in the order of the prompt, as far as it goes on where memory ends and as far as there is room.

    hashes: the blocks that came from disk for this prompt.
    """

    def __init__(self, store: DiskStore, pool: BlockPool, root: bytes, ids: Sequence[int]) -> None:
        super().__init__(store)
        self._pool = pool
        self._held: list[Block] = []
        self._share_bytes = self._share_blocks = 0
        self._slots: list[Slot] = []
        self._plan(root, ids)
        self.hashes: set[bytes] = set()
        pool.hold(self._held)

    def _plan(self, root: bytes, ids: Sequence[int]) -> None:
        """Which blocks memory has, which come from disk by their names, and behind which one only a part may."""
        size, parent = self._pool.block_tokens, root
        self._end: Slot | None = None
        for start in range(0, len(ids) - 1, size):
            run = tuple(ids[start : start + size])
            slot = Slot(block_hash(parent, run), parent, start, run)
            block = self._pool.get(slot.hash)
            if block is not None and block.ids == run:
                self._held.append(block)
            elif block is None and self._store.has(*_name(slot)):
                self._slots.append(slot)
            else:
                self._end = slot
                return
            parent = slot.hash

    @property
    def is_empty(self) -> bool:
        """Whether the disk has nothing for this prompt that memory has not."""
        return not self._slots and not self._unknown() and not self._parts()

    def close(self) -> None:
        super().close()
        if self.hashes:  # from the tail to the root, so that on disk, too, a block is never older than its children
            for block in reversed(self._held):
                self._store.touch(block.parent.hex(), block.hash.hex())
        self._pool.let_go(self._held)
        self._held = []

    def _work(self) -> RestoreTurns:
        files = ReadAhead(self._store, map(_name, self._slots))
        try:
            for slot in self._slots:
                if not (yield from self._bring(slot, files)):
                    return
                self.num_tokens += len(slot.ids)
        finally:
            files.close()
        yield from self._bring_part()

    def _bring(self, slot: Slot, files: ReadAhead) -> Generator[Future[Any] | None, None, bool]:
        """The next of the files. Returns whether memory has the block then."""
        if self._share_bytes >= TURN_BYTES or self._share_blocks >= TURN_BLOCKS:
            self._share_bytes = self._share_blocks = 0
            yield None
        while self._pool.get(slot.hash) is None and files.first is not None and not files.first.contents.done():
            yield files.first.contents
        block = self._pool.get(slot.hash)
        if block is not None:  # another prompt has brought it meanwhile
            files.skip()
        elif (contents := files.receive()) is not None:
            block = self._hand_in(slot, contents)
        if block is None:
            return False
        self._pool.hold([block])
        self._held.append(block)
        self.hashes.add(block.hash)
        return True

    def _hand_in(self, slot: Slot, contents: Contents) -> Block | None:
        """Put what was read into the pool. Returns None when it is something else, or there is no room."""
        # The digest says that the file is as it was written; this, that it is the one that was asked for.
        if parse_ids(contents.facts) != slot.ids or not self._pool.make_room(contents.num_bytes):
            return None
        try:
            payload = tensors.from_arrays({name: to_array(tensor) for name, tensor in contents.tensors.items()})
        except (KeyError, ValueError, TypeError):
            self._store.drop(*_name(slot))
            return None
        mx.eval(payload)
        self._share_bytes += contents.num_bytes
        self._share_blocks += 1
        return self._pool.put(slot, payload, tensors.num_bytes(payload))

    # The last block may be used in part: one of those behind the same parent, by the longest run of tokens.

    def _siblings(self) -> list[str]:
        if self._end is None:
            return []
        keys = self._store.keys(self._end.parent.hex())[-_MAX_SIBLING_FILES:]
        return [key for key in keys if self._pool.get(bytes.fromhex(key)) is None]

    def _unknown(self) -> list[str]:
        """Those whose headers were not read yet."""
        group = self._end.parent.hex() if self._end else ""
        return [key for key in self._siblings() if self._store.facts(group, key) is None]

    def _bring_part(self) -> RestoreTurns:
        if self._end is not None and (unknown := self._unknown()):
            group = self._end.parent.hex()
            headers = self._store.read_facts(group, unknown)
            while not headers.done():
                yield headers
            self._store.receive_facts(group, unknown, headers)
        for num_tokens, slot in self._parts():
            files = ReadAhead(self._store, [_name(slot)])
            try:
                if (yield from self._bring(slot, files)):
                    self.num_tokens += num_tokens
                    return
            finally:
                files.close()

    def _parts(self) -> list[tuple[int, Slot]]:
        """(tokens shared with the prompt, block) for those that share more than what memory has, the longest first."""
        end = self._end
        if end is None:
            return []
        parts = []
        _, num_held = self._pool.best(end.parent, end.ids, len(end.ids))
        for key in self._siblings():
            ids = parse_ids(self._store.facts(end.parent.hex(), key) or {})
            num_tokens = num_shared(ids, end.ids)
            is_useful = num_held < num_tokens and len(ids) <= self._pool.block_tokens
            if is_useful and block_hash(end.parent, ids).hex() == key:
                parts.append((num_tokens, Slot(bytes.fromhex(key), end.parent, end.start, ids)))
        return sorted(parts, key=lambda part: part[0], reverse=True)


class SnapshotRestore(Restore):
    """The longest row snapshot that ids[:-1] begins with, where it is longer than what memory has.

    layers: those of the row after the first num_tokens tokens, once it is done; None when there is none.
    """

    def __init__(self, store: DiskStore, snapshots: SnapshotStore, root: bytes, ids: Sequence[int]) -> None:
        super().__init__(store)
        self._root = root
        self._ids = ids
        self._num_held = snapshots.longest(root, ids)
        self.layers: list[Any] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether the disk has nothing for this prompt that memory has not."""
        return not self._unknown() and not self._names()

    def _unknown(self) -> list[str]:
        return [key for key in self._store.keys(SNAPSHOTS) if self._store.facts(SNAPSHOTS, key) is None]

    def _names(self) -> list[tuple[int, str]]:
        """(tokens, key) of the row snapshots on disk that this prompt can use, longest first."""
        facts = [self._store.facts(SNAPSHOTS, key) or {} for key in self._store.keys(SNAPSHOTS)]
        lengths = sorted({n for n in map(_num_tokens, facts) if self._num_held < n < len(self._ids)}, reverse=True)
        named = [(n, snapshot_key(self._root, self._ids[:n]).hex()) for n in lengths]
        return [(n, key) for n, key in named if self._store.has(SNAPSHOTS, key)]

    def _work(self) -> RestoreTurns:
        if unknown := self._unknown():
            headers = self._store.read_facts(SNAPSHOTS, unknown)
            while not headers.done():
                yield headers
            self._store.receive_facts(SNAPSHOTS, unknown, headers)
        for num_tokens, key in self._names():
            files = ReadAhead(self._store, [(SNAPSHOTS, key)])
            try:
                while files.first is not None and not files.first.contents.done():
                    yield files.first.contents
                contents = files.receive()
            finally:
                files.close()
            if contents is not None and (yield from self._build(num_tokens, contents)):
                return
            self._store.drop(SNAPSHOTS, key)

    def _build(self, num_tokens: int, contents: Contents) -> Generator[Future[Any] | None, None, bool]:
        """Make the layers, a share of their arrays each turn. Returns False when the file is of something else."""
        arrays: dict[str, mx.array] = {}
        share_bytes = 0
        try:
            for name, tensor in contents.tensors.items():
                if share_bytes and share_bytes + tensor.data.nbytes > TURN_BYTES:
                    mx.eval(arrays)
                    share_bytes = 0
                    yield None
                arrays[name] = to_array(tensor)
                share_bytes += tensor.data.nbytes
            ids: Any = arrays.pop(IDS).tolist()
            if ids != list(self._ids[:num_tokens]):
                return False
            layers = tensors.deserialize(arrays, contents.facts["layers"])
        except (KeyError, ValueError, TypeError):
            return False
        mx.eval(arrays)
        self.layers, self.num_tokens = layers, num_tokens
        return True


def parse_ids(facts: Mapping[str, str]) -> tuple[int, ...]:
    """The cache ids that a block's file names; () when it names none."""
    try:
        return tuple(map(int, facts["ids"].split(",")))
    except (KeyError, ValueError):
        return ()


def _name(slot: Slot) -> tuple[str, str]:
    """Group and key of a block's file."""
    return slot.parent.hex(), slot.hash.hex()


def _num_tokens(facts: Mapping[str, str]) -> int:
    """How many tokens a row snapshot's file says it is of; 0 when it does not."""
    try:
        return int(facts["tokens"])
    except (KeyError, ValueError):
        return 0
