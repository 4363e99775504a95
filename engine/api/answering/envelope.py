"""The fields that all objects of one answer have. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from engine.types import Json


@dataclass(frozen=True, slots=True)
class Envelope:
    """The fields that all objects of one answer have. created: in seconds since 1970.

    operator: whether the reader may see what others sent, see trace_json.
    """

    id: str
    created: int
    model: str
    fingerprint: str
    operator: bool = True

    def wrap(self, kind: str, choices: list[Json]) -> Json:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        }
