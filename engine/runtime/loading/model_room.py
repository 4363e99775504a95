"""Memory for several models: which of them have to leave so that another fits, and what each gets for its KV.

Engine thread only.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from engine.config import EngineConfig
from engine.errors import Conflict, Unavailable, say_bytes
from engine.models import mlx_memory
from engine.runtime.loading.slots import ModelSlot, ModelSlots
from engine.runtime.memory_use.memory import MemoryBudget, ModelMemory, room, share
from engine.types import ModelWeights

log = logging.getLogger(__name__)


class ModelRoom:
    """The limits of EngineConfig on what is in memory at once."""

    def __init__(self, slots: ModelSlots, config: EngineConfig) -> None:
        self._slots = slots
        self._config = config

    @property
    def _device_bytes(self) -> int:
        """What this process may have of the device: others that hold parts of the same model may be on it, too."""
        return mlx_memory.device_bytes() // (self._config.ranks.num_here if self._config.ranks else 1)

    @property
    def _parts(self) -> int:
        """Into how many the weights of a model are divided."""
        return self._config.ranks.size if self._config.ranks else 1

    @property
    def budget_bytes(self) -> int:
        """For the weights and KV of all."""
        most = int(self._device_bytes * self._config.memory_utilization)
        return min(self._config.max_models_bytes or most, most)

    @property
    def free_bytes(self) -> int:
        """What is left of it beside the loaded models, each with some KV."""
        return max(0, self.budget_bytes - room(self._loaded))

    @property
    def _loaded(self) -> list[ModelWeights]:
        return [slot.model.card for slot in self._slots if slot.model is not None]

    @property
    def most(self) -> int:
        """How many may be loaded. Adapters of one base, and the base, are one."""
        return self._config.max_loaded_models or len(self._slots)

    def check_size(self, slot: ModelSlot) -> None:
        """Raise Unavailable for a model that does not fit even alone: on this machine, or into what it may have. Beyond
        memory_utilization it is served, one row at a time."""
        limits = (self._device_bytes, self._config.max_models_bytes, slot.config.model.max_bytes)
        most = min(limit for limit in limits if limit is not None)
        if (num_bytes := slot.expected.num_bytes // self._parts) > most:
            raise Unavailable(
                f"{slot.name} does not fit: its weights take {say_bytes(num_bytes)}, and it may have "
                f"{say_bytes(most)} of memory.",
                param="model",
                code="model_too_large",
            )

    def to_leave(self, slot: ModelSlot) -> list[ModelSlot]:
        """Whom there is no room for beside this one: of those that are not in use, the ones used longest ago, and last
        those whose weights it shares."""
        others = [(one, one.model.card) for one in self._slots if one.model is not None]
        base = slot.expected.base
        others.sort(key=lambda other: (other[0].is_used, other[1].base == base, other[0].last_use_s))
        leaving = []
        while others and not self._fit([*(card for _, card in others), slot.expected]):
            leaving.append(others.pop(0)[0])
        return leaving

    def _fit(self, models: Sequence[ModelWeights]) -> bool:
        """Whether these may be in memory together."""
        num_bases = len({model.base or id(model) for model in models})
        return num_bases <= self.most and room(models) <= self.budget_bytes

    def none_for(self, slot: ModelSlot, in_use: Sequence[ModelSlot]) -> Conflict:
        """The error for who does not wait until these have ended."""
        needed = room([*self._loaded, slot.expected]) - room(self._loaded)
        return Conflict(
            f"There is no room for {slot.name} now: it needs {say_bytes(needed)} with its KV, "
            f"{say_bytes(self.free_bytes)} of {say_bytes(self.budget_bytes)} are free, and at most {self.most} models "
            f"may be loaded; in use: {', '.join(one.name for one in in_use)}.",
            param="model",
            code="no_room",
        )

    def budgets(self, needs: Sequence[ModelMemory]) -> tuple[MemoryBudget, ...]:
        """What each of these gets for its KV."""
        if not needs:
            return ()
        asked = self._config.cache.total_bytes
        budgets = share(self.budget_bytes, 1.0, needs, asked)
        if (stored := sum(budget.stored_bytes for budget in budgets)) < asked - len(needs):
            log.warning("memory is short: %d MiB for stored KV and features instead of %d", stored >> 20, asked >> 20)
        return budgets
