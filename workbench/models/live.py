"""What the pages are told about models, as it changes; and looking through the disks again when something arrived.

Event loop only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from engine.inventory.inventory import ModelHere
from engine.inventory.memory_fit import MachineMemory, usable_bytes
from engine.types import Json
from workbench.models.listing import Here, download_json, folder_of, memory, models_json

if TYPE_CHECKING:
    from engine.core import Engine

log = logging.getLogger(__name__)


class LiveModels:
    """Of one server; every page asks it about once a second."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ended: frozenset[tuple[str, str]] = frozenset()
        self._must_look = True
        self._found: Sequence[ModelHere] | None = None
        self._folder_of = cache(folder_of)
        self._search: asyncio.Task[object] | None = None

    def news(self, *, manages: bool) -> dict[str, Json]:
        """Everything there is to tell, by kind of event. manages: see engine.access.visibility.manages_models."""
        here = self.here()
        told = {"models": models_json(here, manages=manages), "memory": memory(here)}  # which changes more often
        if manages:
            downloads = self._engine.shelf.downloads
            ended = frozenset((one.repo, one.stage) for one in downloads if not one.is_running)
            if ended != self._ended:
                self._ended, self._must_look = ended, True
            self._look()
            told["downloads"] = {"downloads": [download_json(one) for one in downloads]}
        return told

    def here(self) -> Here:
        """What is known now. Where links lead is looked up once for each source, and anew after each look."""
        found = self._engine.shelf.known
        if found is not self._found:
            self._found, self._folder_of = found, cache(folder_of)
        return Here(found, self._engine.models(), self._engine.snapshot(), self.machine(), self._folder_of)

    def machine(self) -> MachineMemory:
        """This machine's memory, as the engine shares it out."""
        config, snapshot = self._engine.config, self._engine.snapshot()
        num_bytes = snapshot.device_bytes or usable_bytes(snapshot.device)
        if config.max_models_bytes is not None:
            num_bytes = min(num_bytes, int(config.max_models_bytes / config.memory_utilization))
        return MachineMemory(num_bytes, config.memory_utilization, config.cache.total_bytes)

    def _look(self) -> None:
        """Look through the disks again where something has arrived; while that goes on, what arrives waits."""
        if self._must_look and (self._search is None or self._search.done()):
            self._must_look = False
            self._search = asyncio.create_task(self._engine.shelf.models())
            self._search.add_done_callback(_log_failure)


def _log_failure(search: asyncio.Task[object]) -> None:
    if not search.cancelled() and (error := search.exception()) is not None:
        log.error("the models of this machine could not be listed", exc_info=error)
