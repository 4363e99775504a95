"""A row's state whose layers exist once more on each other rank: what is done with these here is told there.

mlx-lm's batcher and engine.cache.tensors do the same with all layers of a row, the RowState among them. So it stands
for them: under its name every other rank holds the layers of its own part of the model. Engine thread of rank 0 only.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, Protocol

from engine.cache.row_state import RowState


class CacheMirror(Protocol):
    """Tells the other ranks (engine.models.mirror)."""

    def new_name(self) -> int:
        """A name that nothing has had."""

    def tell(self, do: str, **facts: Any) -> None:
        """What is done, in JSON's types."""

    def release(self, name: int) -> None:
        """What has this name is used no more. Any thread."""


class MirroredRow(RowState):
    """name: of its layers on the other ranks."""

    def __init__(self, mirror: CacheMirror, like: RowState | None = None) -> None:
        like = like or RowState()
        super().__init__(like.deltas, like.again)
        self.mirror = mirror
        self.name = _named(mirror, self)

    @classmethod
    def merge(cls, caches: Sequence[RowState]) -> MirroredRow:
        rows = [cache for cache in caches if isinstance(cache, MirroredRow)]
        assert rows and len(rows) == len(caches), "rows of one model are all mirrored, or none is"
        merged = cls(rows[0].mirror, RowState.merge(rows))
        merged.mirror.tell("merge", of=[row.name for row in rows], new=merged.name)
        return merged

    def filter(self, keep: Any) -> None:
        super().filter(keep)
        self.mirror.tell("filter", of=self.name, keep=[int(i) for i in keep])

    def extend(self, other: RowState) -> None:
        assert isinstance(other, MirroredRow), "rows of one model are all mirrored, or none is"
        super().extend(other)
        self.mirror.tell("extend", of=self.name, by=other.name)

    def extract(self, index: int) -> MirroredRow:
        return self._new("extract", super().extract(index), index=index)

    def prepare(self, **padding: Any) -> None:
        self.mirror.tell("prepare", of=self.name, padding={name: list(value) for name, value in padding.items()})

    def finalize(self) -> None:
        self.mirror.tell("finalize", of=self.name)

    def trim_rows(self, nums: Sequence[int]) -> None:
        self.mirror.tell("trim_rows", of=self.name, nums=list(nums))

    def forked(self) -> MirroredRow:
        return self._new("fork", super().forked())

    def widened(self, num_rows: int) -> MirroredRow:
        return self._new("widen", super().widened(num_rows), num=num_rows)

    def ragged(self) -> MirroredRow:
        return self._new("ragged", super().ragged())

    def branched(self, stems: Sequence[int], lengths: Sequence[int]) -> MirroredRow:
        branched = super().branched(stems, lengths)
        return self._new("branch", branched, stems=list(stems), lengths=list(lengths))

    def was_cut(self, spans: Sequence[tuple[int, int]], payloads: Sequence[Any]) -> None:
        for payload in payloads:
            payload.name = _named(self.mirror, payload)
        self.mirror.tell("cut", of=self.name, spans=list(spans), new=[payload.name for payload in payloads])

    def was_joined(self, parts: Sequence[tuple[Any, int]]) -> None:
        self.mirror.tell("join", of=self.name, parts=[(payload.name, num_tokens) for payload, num_tokens in parts])

    def __deepcopy__(self, memo: dict[int, Any]) -> MirroredRow:
        """The batcher copies a batch that way before it splits it."""
        return self._new("copy", self)

    def _new(self, do: str, like: RowState, **how: Any) -> MirroredRow:
        new = MirroredRow(self.mirror, like)
        self.mirror.tell(do, of=self.name, new=new.name, **how)
        return new


def _named(mirror: CacheMirror, thing: Any) -> int:
    """A name on the other ranks, for as long as this is there."""
    name = mirror.new_name()
    end = weakref.finalize(thing, mirror.release, name)
    end.atexit = False
    return name
