"""Responses that are kept for this session of the server, so that another can go on from them. In memory, bounded.

A response is found again only by who made it: the tenant of the request, see engine.access.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.bounded import BoundedCache
from engine.errors import ModelNotFound
from engine.types import Json, Message

MAX_KEPT = 1000
MAX_KEPT_BYTES = 256 * 1024**2


@dataclass(frozen=True, slots=True)
class KeptResponse:
    """response: as it was sent. input: its items. messages: the whole conversation up to its end, without instructions,
    which a next response does not take over."""

    response: Json
    input: list[Json]
    messages: tuple[Message, ...]

    @property
    def num_bytes(self) -> int:
        """Roughly, what keeping it costs: texts and data URLs."""
        parts = [part for message in self.messages for part in message.parts]
        return 2048 + 2 * sum(len(part.text) + len(part.url or "") for part in parts)


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
