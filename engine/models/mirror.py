"""Rank 0's passes and caches, told to the other ranks, which do the same with their part of the model. Engine thread.

    rank 0                                              every other rank (engine.models.replica)
    a row's layers are made, merged, cut, dropped … ──> the same with the layers of the same name
    one pass over token ids                         ──> the same pass; the layers' sums meet in MLX's group

Only rank 0 decides: what is read next, what is drawn, what is cached, who is cancelled. Nothing on another rank reads a
clock or a random number, so what all hold is the same after the same messages. Within a pass the ranks meet in each
layer; so each evaluates every pass as soon as it is told, as a whole and in the order of the messages.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

import mlx.core as mx

from engine.cache.mirrored_row import MirroredRow
from engine.errors import Unavailable
from engine.models.array_messages import to_parts
from engine.ranks.leader import LeaderLine


class Mirror:
    """line: to the other ranks, all of which have joined. group: MLX's."""

    def __init__(self, line: LeaderLine, group: mx.distributed.Group) -> None:
        self.group = group
        self._line = line
        self._names = count(1)

    def row(self) -> MirroredRow:
        """The state of a new, empty row."""
        row = MirroredRow(self)
        self.tell("make", new=row.name)
        return row

    def new_name(self) -> int:
        return next(self._names)

    def tell(self, do: str, **facts: Any) -> None:
        """See CacheMirror. Raises Unavailable where a rank is lost."""
        self._line.tell({"do": do, **facts})

    def release(self, name: int) -> None:
        self._line.release(name)

    def read(
        self, row: MirroredRow, ids: mx.array, arguments: dict[str, Any], *, is_drawn: bool, states_only: bool
    ) -> mx.array:
        """Before a pass of the model over ids (rows, tokens) behind the layers of `row`: tell of it. Returns the ids to
        use.

        is_drawn: they are not computed yet, as the batcher draws them in the step before; then they travel within the
        pass. states_only: the head is left out (Adapter.states).
        """
        parts: list[bytes] = []
        message = {"do": "read", "of": row.name, "deltas": row.deltas, "states_only": states_only}
        if is_drawn:
            message["drawn"] = ids.shape
        else:
            message["ids"] = to_parts(ids, parts)
        self._line.tell({**message, "arguments": to_parts(arguments, parts)}, parts)
        return drawn_ids(ids, self.group) if is_drawn else ids

    def idle(self) -> None:
        """Nothing is to do: the others let go of what is used no more."""
        self._line.tell_released()

    @contextmanager
    def told(self) -> Iterator[None]:
        """To be held around a pass that `read` has told of. The others begin it in any case: where it fails here, their
        sums would meet those of another pass, so no rank can go on."""
        try:
            yield
        except BaseException as error:
            self._line.fail(error)
            raise

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """To be held while the outcome of a pass is waited for, which must come within PASS_S. What MLX raises then has
        ended the pass here alone; other errors have nothing to do with the other ranks."""
        with self._line.waiting():
            try:
                yield
            except (RuntimeError, MemoryError) as error:
                self._line.fail(error)
                raise

    def begin_load(self) -> None:
        """Let the other ranks load their parts of the model."""
        self._line.ask({"do": "load"})

    def loaded(self, digest: str) -> bool:
        """Whether all have. digest: of the checkpoint's files here. Raises Unavailable where one has other files."""
        if (answers := self._line.answers()) is None:
            return False
        for rank, answer in answers.items():
            if answer["digest"] != digest:
                why = f"rank {rank} has other files of this model (config.json, or the sizes of its weights)"
                raise Unavailable(f"The ranks cannot serve it together: {why}.", code="model_load_failed")
        return True

    def unload(self) -> None:
        """The model leaves memory; nothing happens where a rank is lost."""
        if self._line.lost is None:
            with suppress(Unavailable):
                self.tell("unload")


def drawn_ids(ids: mx.array, group: mx.distributed.Group) -> mx.array:
    """Token ids of rank 0, (rows, tokens) in int32, on every rank; the others give zeros."""
    return mx.distributed.all_sum(ids.astype(mx.int32), group=group)
