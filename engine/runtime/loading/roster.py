"""Which models are in memory: loaded in the order in which they were asked for, unloaded where others need the room or
nobody uses them. Engine thread only.

    UseModel ──> wanted, in order ── found: a folder, or downloaded ── room: the ones used longest ago leave ── loaded
                                                                       └─ all in use: they take no more uses, and
                                                                          leave as soon as their requests have ended

A model that fails to load is an error of those that wait for it, and of nobody else.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Sequence
from copy import copy

from engine.config import EngineConfig
from engine.errors import Conflict, EngineError, Unavailable, say_bytes
from engine.models import mlx_memory
from engine.models.locate import first_line
from engine.models.registry import Loaded
from engine.runtime.cache_commands import answer
from engine.runtime.commands import (
    CacheCommand,
    LoadModel,
    ModelCommand,
    UnloadModel,
    UseModel,
    refuse,
)
from engine.runtime.loading.garbage_collection import rarely_collecting
from engine.runtime.loading.model_load import LoadMeans, ModelLoad, WantedModel, find
from engine.runtime.loading.model_room import ModelRoom
from engine.runtime.loading.slots import LoadedModel, ModelSlot, ModelSlots
from engine.runtime.memory_use.memory import ModelMemory
from engine.runtime.stats import EngineStats
from engine.runtime.worker import Worker
from engine.types import ExpectedWeights

log = logging.getLogger(__name__)

RETRY_S = 5.0
"""A model that failed to load is not tried again before: requests for it get the reason at once."""

_TIDY_S = 1.0
_UNLOADED = "The model was unloaded."


class Roster:
    """Takes turns with the models that are loaded, as engine.runtime.turns has it. stats: shows what is loaded."""

    def __init__(
        self,
        slots: ModelSlots,
        config: EngineConfig,
        stats: EngineStats,
        means: LoadMeans,
    ) -> None:
        self._slots = slots
        self._config = config
        self._stats = stats
        self._means = means
        self._room = ModelRoom(slots, config)
        self._wanted: list[WantedModel] = []
        self._load: ModelLoad | None = None
        self._must_wait = self._must_free = False
        self._tidied_s = 0.0
        self.fatal: EngineError | None = None
        self.spent_s = 0.0
        self.was_idle = True
        for slot in slots:
            if slot.at_start:
                self._want(slot, at_start=True)
        self._note_start()

    @property
    def loaded(self) -> list[LoadedModel]:
        """What is in memory, in the order of the slots."""
        return [slot.model for slot in self._slots if slot.model is not None]

    # Commands.

    def handle(self, command: ModelCommand) -> None:
        """Answer a command, or take it down until its model is loaded."""
        slot = command.slot
        if isinstance(command, UnloadModel):
            self._unload_asked(command)
        elif not slot.is_closed and slot.model is not None:
            self._answer(slot, command)
        elif isinstance(command, UseModel) and (error := self._failed_just_now(slot)) is not None:
            refuse(command, error)
        else:
            slot.waiting.append(command)
            self._want(slot)

    def ask_caches(self, command: CacheCommand, models: Sequence[LoadedModel]) -> None:
        """Answer a command to the cache with what those of these models say together."""
        answer(command, [model.worker for model in models], self._stats)

    def wake(self) -> None:
        """Something may have changed for who waits."""
        self._must_wait = False

    def _failed_just_now(self, slot: ModelSlot) -> EngineError | None:
        is_recent = slot.stage == "failed" and slot.state().seconds <= RETRY_S
        return copy(slot.failure) if is_recent else None  # each has a traceback of its own

    def _answer(self, slot: ModelSlot, command: UseModel | LoadModel) -> None:
        if not command.reply.set_running_or_notify_cancel():
            return
        if isinstance(command, LoadModel):
            command.reply.set_result(None)
        elif (model := slot.use()) is not None:
            command.reply.set_result(model)
        else:
            command.reply.set_exception(Unavailable(_UNLOADED))

    def _answer_waiting(self, slot: ModelSlot) -> None:
        while slot.waiting:
            self._answer(slot, slot.waiting.popleft())

    def _unload_asked(self, command: UnloadModel) -> None:
        if not command.reply.set_running_or_notify_cancel():
            return
        slot = command.slot
        self._forget_gone(slot)
        if slot.is_used or slot.waiting or (slot.model is not None and not slot.model.is_idle):
            state = slot.state()
            num_open = state.num_requests + state.num_waiting
            why = f"{slot.name} is in use: {num_open} requests have not ended."
            command.reply.set_exception(Conflict(why, code="model_in_use", param="model"))
            return
        self._give_up(slot)
        self._unload(slot)
        self._free()
        command.reply.set_result(None)

    # Turns.

    @property
    def is_idle(self) -> bool:
        if self._load is not None:
            return False
        if self._must_wait and any(slot.is_closed and self._is_unused(slot) for slot in self._slots):
            self._must_wait = False
        return self._must_wait or self._next() is None

    @staticmethod
    def _is_unused(slot: ModelSlot) -> bool:
        return slot.model is not None and slot.model.is_idle and not slot.is_used

    def turn(self) -> bool:
        """The next part of what is being loaded; else begin to load the first that is wanted and was found."""
        if self._load is None:
            return self._begin_next()
        load, slot = self._load, self._load.slot
        try:
            with rarely_collecting():
                model = load.turn()
        except EngineError as error:
            self._load = None
            self._failed(slot, error)
            return True
        if model is not None:
            self._load = None
            self._arrived(slot, model)
        self._stats.show()
        return True

    def idle(self) -> None:
        """Nothing to do: use the moment. Returns within some 20 ms."""
        for model in self.loaded:
            model.worker.idle()
        if self._means.mirror is not None:
            self._means.mirror.idle()
        self._stats.show(force=True)

    def tidy(self) -> None:
        """Between two turns: give back the memory of what has left, before anything more is loaded."""
        self._unload_unused()
        self._free()

    def _unload_unused(self) -> None:
        """About once a second: unload what nobody has used for as long as it may stay so."""
        now_s = time.monotonic()
        if now_s < self._tidied_s + _TIDY_S:
            return
        self._tidied_s = now_s
        for slot in self._slots:
            limit_s = slot.config.idle_unload_s
            if limit_s is not None and now_s - slot.last_use_s > limit_s and not slot.waiting:
                self._unload(slot)

    def recover(self) -> None:
        """After a turn that failed in an unforeseen place: what was being loaded is given up."""
        if self._load is not None:
            load, self._load = self._load, None
            self._failed(load.slot, Unavailable("The model could not be loaded.", code="model_load_failed"))

    def give_up(self, model: LoadedModel, error: EngineError) -> None:
        """A model whose turns fail again and again: it leaves, with an error for all that it served."""
        slot = next(slot for slot in self._slots if slot.model is model)
        slot.drop()
        model.worker.close(error)
        slot.failure = copy(error)  # whoever is told keeps what it used in the traceback
        slot.show("failed", error=error.message)
        self._stats.remove(model.card)
        self._must_free = True
        self._divide()

    def close(self, error: EngineError) -> None:
        """End everything: what is loaded, and what waits."""
        if self._load is not None:
            self._load.close()
        for model in self.loaded:
            model.worker.close(error)

    # Loading.

    def _want(self, slot: ModelSlot, *, at_start: bool = False) -> None:
        """Load it after those that are wanted already. Its folder is looked for at once."""
        if (self._load and self._load.slot is slot) or any(wanted.slot is slot for wanted in self._wanted):
            return
        self._wanted.append(find(slot, self._means.aside, at_start=at_start))
        self._stats.show(force=True)

    def _next(self) -> WantedModel | None:
        """The first that is to be loaded and was found. Nobody overtakes one that is on this machine."""
        for wanted in self._wanted:
            if wanted.found.done():
                return wanted
            if not wanted.is_far:
                return None
        return None

    def _begin_next(self) -> bool:
        """Begin with the first that was found, in the order in which they were asked for. False while it has to wait
        for room."""
        wanted = self._next()
        if wanted is None:
            return False
        slot = wanted.slot
        self._forget_gone(slot)
        is_there = slot.model is not None  # it was to make room, and did not have to
        if is_there or not (slot.waiting or wanted.at_start):
            self._drop(wanted)
            return True
        return self._begin(wanted)

    def _begin(self, wanted: WantedModel) -> bool:
        slot, spec = wanted.slot, wanted.slot.config.model
        try:
            found = wanted.found.result()
            slot.expected = found.weights
            if wanted.at_start and not slot.waiting and self._room.to_leave(slot):
                log.warning("%s is not loaded at the start: there is no room for it beside the others", slot.name)
                self._drop(wanted)
                return True
            if not self._make_room(slot):
                slot.show("known")
                self._must_wait = True
                return False
        except Exception as e:
            self._wanted.remove(wanted)
            why = f"Could not load {spec.source!r}: {first_line(e)}"
            self._failed(slot, e if isinstance(e, EngineError) else Unavailable(why, code="model_load_failed"))
            return True
        self._wanted.remove(wanted)
        slot.show("loading", 0, slot.expected.num_bytes)
        base = next((model.base for model in self.loaded if model.base.key == slot.expected.base), None)
        self._load = ModelLoad(slot, found, self._new_worker, base, self._means.mirror)
        self._divide()  # before its weights come: then there is room for them
        self._must_free = not self._stats.is_starting  # who used a model that failed may have held it until now
        self._reopen()
        return True

    @staticmethod
    def _forget_gone(slot: ModelSlot) -> None:
        """Those that have stopped waiting."""
        for command in [command for command in slot.waiting if command.reply.cancelled()]:
            slot.waiting.remove(command)

    def _drop(self, wanted: WantedModel) -> None:
        """It is not to be loaded, or no more."""
        self._wanted.remove(wanted)
        if wanted.slot.model is None:
            wanted.slot.show("known")
        self._note_start()
        self._reopen()

    def _give_up(self, slot: ModelSlot) -> None:
        """It is not to be loaded after all."""
        for wanted in [wanted for wanted in self._wanted if wanted.slot is slot]:
            self._drop(wanted)
        if self._load is not None and self._load.slot is slot:
            self._load.close()
            self._load = None
            slot.show("known")
            self._must_free = True
            self._divide()
            self._note_start()

    def _note_start(self) -> None:
        """The start is over once the default model is there, or nothing that is loaded at the start is on its way."""
        coming = [wanted.slot for wanted in self._wanted] + ([self._load.slot] if self._load else [])
        is_awaited = self._slots.default.model is None and any(slot.at_start for slot in coming)
        self._stats.is_starting = self._stats.is_starting and is_awaited
        self._stats.show(force=True)

    def _reopen(self) -> None:
        """Those that were to make room stay after all, or until the next that needs it."""
        for slot in self._slots:
            if slot.model is not None:
                slot.reopen()
                self._answer_waiting(slot)
        self._must_wait = False

    def _arrived(self, slot: ModelSlot, model: LoadedModel) -> None:
        model.spent_s = self.spent_s
        slot.put(model)
        self._note_start()
        self._divide()
        slot.card = model.card
        log.info("%s is loaded: %s", slot.name, say_bytes(model.card.num_bytes))
        self._answer_waiting(slot)

    def _failed(self, slot: ModelSlot, error: EngineError) -> None:
        """It is not there, for this reason. Where it is the only model there is, that is the end of the engine."""
        # What it was raised by would keep the half of the model that was loaded.
        error.__traceback__ = error.__cause__ = error.__context__ = None
        is_refused = isinstance(error, Conflict)
        slot.show("known" if is_refused else "failed", error=None if is_refused else error.message)
        slot.failure, slot.expected = copy(error), ExpectedWeights()  # its files may be mended
        self._must_free = True
        self._divide()
        if len(self._slots) == 1 and slot.card is None:
            self.fatal = error
            return
        log.warning("%s could not be loaded: %s", slot.name, error.message)
        self._note_start()
        slot.refuse_waiting(error)
        self._reopen()

    def _make_room(self, slot: ModelSlot) -> bool:
        """Unload those used longest ago until this one fits. False while requests use them: then they take no more.

        Raises Unavailable where it is too large for this machine, and Conflict where nobody waits for it that would
        wait for others.
        """
        self._room.check_size(slot)
        leaving = self._room.to_leave(slot)
        in_use = [one for one in leaving if not self._is_unused(one)]
        if in_use and slot.waiting and all(isinstance(command, LoadModel) for command in slot.waiting):
            raise self._room.none_for(slot, in_use)
        for one in leaving:
            one.close()
            self._unload(one)
        return not any(one.model for one in leaving)

    def _unload(self, slot: ModelSlot) -> None:
        """Take a model out of memory, unless somebody uses it."""
        if not self._is_unused(slot) or (model := slot.take_out()) is None:
            return
        model.worker.close(Unavailable(_UNLOADED))
        self._stats.remove(model.card)
        log.info("%s is unloaded", slot.name)
        self._must_free = True
        slot.show("known")
        self._divide()

    def _divide(self) -> None:
        """Divide memory anew among those that are loaded or come, and say who they are."""
        models, coming = self.loaded, self._load.slot.expected if self._load else None
        needs = [model.memory for model in models]
        if coming is not None and models:
            needs.append(ModelMemory(coming.num_bytes, 0, base=coming.base, adapter_bytes=coming.adapter_bytes))
        for model, budget in zip(models, self._room.budgets(needs), strict=False):
            model.worker.grant(budget)
        self._stats.show(force=True)

    def _free(self) -> None:
        """Give back what was let go. Not within a turn: who takes turns is listed there, a model that has left too."""
        if self._must_free:
            self._must_free = False
            gc.collect()
            mlx_memory.return_memory()

    def _new_worker(self, slot: ModelSlot, loaded: Loaded, memory: ModelMemory) -> Worker:
        *_, budget = self._room.budgets([*(model.memory for model in self.loaded), memory])
        return Worker(slot.config, loaded, budget, self._stats, self._means.observer)
