"""What is kept of somebody, one JSON file for each thing. The server's loop only."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from engine.errors import Unavailable
from engine.types import Json

log = logging.getLogger(__name__)


class OwnedRecord(Protocol):
    """A dataclass that is kept. created_ns: since 1970."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def id(self) -> str: ...

    @property
    def owner(self) -> str: ...

    @property
    def created_ns(self) -> int: ...


Thing = TypeVar("Thing", bound=OwnedRecord)


class OwnedRecords(Generic[Thing]):
    """Things by their ids. folder: where their files are; pattern: of the files' names; make: the class of them. What
    is there is read at the first use."""

    def __init__(self, folder: Callable[[], Path], pattern: str, make: Callable[..., Thing]) -> None:
        self._folder = folder
        self._pattern = pattern
        self._make = make
        self._things: dict[str, Thing] | None = None

    def all(self) -> list[Thing]:
        """Those of everybody, the oldest first."""
        return sorted(self._read().values(), key=lambda thing: thing.created_ns)

    def of(self, owner: str) -> list[Thing]:
        """All of somebody, the oldest first."""
        return [thing for thing in self.all() if thing.owner == owner]

    def find(self, owner: str, id: str) -> Thing | None:
        """None also for what is somebody else's."""
        thing = self._read().get(id)
        return thing if thing is not None and thing.owner == owner else None

    def keep(self, thing: Thing) -> None:
        """Write it, whole or not at all; one of the same id is replaced. Raises Unavailable (a full disk)."""
        _write_json(self._path(thing.id), asdict(thing))
        self._read()[thing.id] = thing

    def remove(self, id: str) -> None:
        """Idempotent."""
        self._path(id).unlink(missing_ok=True)
        self._read().pop(id, None)

    def _path(self, id: str) -> Path:
        return self._folder() / f"{id}.json"

    def _read(self) -> dict[str, Thing]:
        if self._things is None:
            self._things = {}
            for path in sorted(self._folder().glob(self._pattern)):
                try:
                    thing = self._make(**json.loads(path.read_text("utf-8")))
                except (OSError, ValueError, TypeError) as error:  # a lost one must not take the others with it
                    log.warning("%s cannot be read and is left out: %s", path, type(error).__name__)
                else:
                    self._things[thing.id] = thing
        return self._things


def _write_json(path: Path, value: Json) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(value), "utf-8")
        os.replace(part, path)
    except OSError as error:
        raise Unavailable(f"{path.name} cannot be kept: {error.strerror or error}.", code="storage_failed") from error
