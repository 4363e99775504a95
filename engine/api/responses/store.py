"""Responses that are kept for this session of the server, so that another can go on from them. In memory, bounded.

A response is found again only by who made it: the tenant of the request, see engine.access.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Self

from engine.bounded import BoundedCache
from engine.errors import ModelNotFound
from engine.types import Json, Message

MAX_KEPT = 1000
MAX_KEPT_BYTES = 256 * 1024**2


@dataclass(frozen=True, slots=True)
class KeptResponse:
    """response: as it was sent. input: its items. messages: the whole conversation up to its end, without instructions,
    which a next response does not take over. num_bytes: memory of all that it holds; what it shares with others, such
    as the pictures of earlier turns, counts for each of them."""

    response: Json
    input: list[Json]
    messages: tuple[Message, ...]
    num_bytes: int

    @classmethod
    def of(cls, response: Json, input: list[Json], said: tuple[Message, ...], earlier: KeptResponse | None) -> Self:
        """said: what came since the earlier one, whose size is known: only what is new is looked through, which takes
        no longer than to read it did."""
        before = earlier.messages if earlier else ()
        num_bytes = held_bytes((response, input, said)) + (earlier.num_bytes if earlier else 0)
        return cls(response, input, (*before, *said), num_bytes)


def held_bytes(value: Any) -> int:
    """Memory of a value of JSON, or of dataclasses, with all that is inside it. What stands there twice counts once."""
    seen: set[int] = set()
    num_bytes, left = 0, [value]
    while left:
        here = left.pop()
        if id(here) in seen:
            continue
        seen.add(id(here))
        num_bytes += sys.getsizeof(here)
        if isinstance(here, dict):
            left += [*here, *here.values()]
        elif isinstance(here, list | tuple):
            left += here
        elif is_dataclass(here):
            left += [getattr(here, field.name) for field in fields(here)]
    return num_bytes


class ResponseStore:
    """Least recently used go first. Any thread."""

    def __init__(self, max_count: int = MAX_KEPT, max_bytes: int = MAX_KEPT_BYTES) -> None:
        self._kept: BoundedCache[tuple[str, str], KeptResponse] = BoundedCache(
            max_count, max_bytes, lambda kept: kept.num_bytes
        )

    def keep(self, tenant: str, kept: KeptResponse) -> None:
        self._kept.put((tenant, kept.response["id"]), kept)

    def find(self, tenant: str, response_id: str) -> KeptResponse:
        """Raises ModelNotFound (response_not_found)."""
        kept = self._kept.get((tenant, response_id))
        if kept is None:
            raise _missing(response_id)
        return kept

    def forget(self, tenant: str, response_id: str) -> None:
        """Raises ModelNotFound (response_not_found)."""
        if self._kept.pop((tenant, response_id)) is None:
            raise _missing(response_id)


def _missing(response_id: str) -> ModelNotFound:
    why = "the last ones are kept, in memory, and none that was made with store: false"
    return ModelNotFound(
        f"There is no response {response_id!r} here: {why}.", code="response_not_found", param="response_id"
    )
