"""The engine thread: it owns all MLX, takes commands, and gives each loaded model its turns.

    inbox ──> EngineThread.run: commands, then one turn of a Worker, or the next part of a model that is being loaded,
              again and again ──> snapshot

One failed turn ends the requests it was about. Only repeated failure, with nothing done in between, ends the model, or
the thread where it is the only one; the reason is then published, everyone who waits gets it, and a supervisor may
restart the process.
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from engine import device
from engine.config import EngineConfig
from engine.errors import EngineError, Internal, ModelNotFound, Unavailable
from engine.ranks.leader import LeaderLine
from engine.ranks.place import leave
from engine.runtime.commands import (
    Cancel,
    Command,
    CountReplay,
    LoadModel,
    PreflightCommand,
    ReadCommand,
    Stop,
    Submit,
    TokenObserver,
    UnloadModel,
    UseModel,
    Wake,
    refuse,
)
from engine.runtime.loading.garbage_collection import rarely_collecting
from engine.runtime.loading.slots import LoadedModel, ModelSlots
from engine.runtime.turns import Turner, Turns
from engine.types import RankMemory, Snapshot

if TYPE_CHECKING:
    from engine.models.mirror import Mirror
    from engine.runtime.loading.model_load import Aside
    from engine.runtime.loading.roster import Roster

log = logging.getLogger(__name__)

MAX_FAILURES = 8
"""Turns that may fail one after the other before the thread gives up."""

_LOADING_GRACE_S = 15.0
_LOST_GRACE_S = 2.0
_RANKS_GRACE_S = 30.0
"""For one of several processes: it may wait in MLX for another one that is stuck, and never end."""

_JOIN_S = 0.5
"""How often a wait for the thread's end looks whether that may still take longer."""

_IDLE_S = 1.0
_DISK_S = 0.002
"""How long to wait for a command while all that is left to do waits for the disk."""

_RETURN_MEMORY_EVERY_S = 60
"""Seconds between two returns of freed memory to the system while the engine is idle, and before the first: who asks
again soon need not get all of it anew, which takes seconds of a burst. Again and again, since other threads go on
decoding media."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What the thread calls of its owner. publish takes each new Snapshot; failed is called once with the reason when
    the thread ends before Stop; both are called on the engine thread, failed also on the one that has seen that another
    process of the model is lost. aside: see engine.runtime.loading.model_load."""

    publish: Callable[[Snapshot], None]
    failed: Callable[[EngineError], None]
    aside: Aside


class EngineThread:
    """What the one engine thread runs. core makes the thread itself, so that there is one place that does.

    slots: the models that may be loaded. imported is set once the engine's modules are there, or will not be.
    """

    def __init__(self, config: EngineConfig, outside: Outside, observer: TokenObserver | None = None) -> None:
        self.slots = ModelSlots(config, self.tell)
        self._config = config
        self._outside = outside
        self._observer = observer
        self._inbox: SimpleQueue[Command] = SimpleQueue()
        self._turns = Turns()
        self._end: EngineError = Unavailable("The engine was stopped.")
        self._is_over = False
        self._line = LeaderLine(config.ranks, self._lose) if config.ranks else None
        self.imported = threading.Event()

    @property
    def is_loading(self) -> bool:
        """Whether a part of a model is being loaded, which cannot be interrupted."""
        return not self.imported.is_set() or any(slot.stage == "loading" for slot in self.slots)

    @property
    def grace_s(self) -> float | None:
        """How long the thread may take to end once it was told to; None: as long as it takes. To be asked again."""
        if self.is_lost or (self._line is not None and not self._line.has_joined):
            return _LOST_GRACE_S
        if self.is_loading:
            return _LOADING_GRACE_S
        return None if self._line is None else _RANKS_GRACE_S

    def join(self, thread: threading.Thread) -> None:
        """Wait for the thread that runs this and was told to stop, as long as it may take."""
        began_s = time.monotonic()
        while thread.is_alive():
            grace_s = self.grace_s
            if grace_s is not None and time.monotonic() - began_s > grace_s:
                if self._line is not None:  # waiting in MLX for another process, it would keep this one from its end
                    atexit.register(leave)
                return
            thread.join(_JOIN_S)

    @property
    def is_lost(self) -> bool:
        """Whether another process of the model is gone: then this thread may wait for it in MLX for ever."""
        return self._line is not None and self._line.lost is not None

    def _lose(self, error: EngineError) -> None:
        """Another process of the model is gone. Called on the thread that has seen it."""
        # The engine thread may wait for it in MLX for ever, and MLX for the engine thread where the process ends.
        atexit.register(leave)
        self._end = error
        self._is_over = True
        self._outside.failed(error)
        self._refuse_rest()

    def tell(self, command: Command) -> None:
        """Queue a command. Any thread. A command that comes too late is refused at once."""
        self._inbox.put(command)
        if self._is_over:
            self._refuse_rest()

    def run(self) -> None:
        """Load models and serve until Stop. MLX is imported here first, after the BLAS is in place."""
        error: EngineError | None = None
        try:
            self._with_mlx()
        except EngineError as e:
            error = e
        except Exception as e:
            log.exception("the engine thread ended")
            error = Unavailable(f"The engine ended: {e}", code="engine_failed")
        finally:
            if error is not None and not self.is_lost:
                self._end = error
                self._outside.failed(error)  # first: who gets the error looks at the snapshot next
            self._is_over = True
            self.imported.set()
            self._refuse_rest()

    def _with_mlx(self) -> None:
        device.prepare()
        import mlx.core as mx

        try:
            self._load_and_serve()
        finally:
            if self._line is not None:
                self._line.close()
            gc.collect()
            mx.clear_cache()
            # Without this a thread that used MLX aborts the process at exit.
            mx.clear_streams()

    def _load_and_serve(self) -> None:
        with rarely_collecting():
            roster = self._roster()
        try:
            self._serve(roster)
        except EngineError as e:
            roster.close(e)
            raise
        except Exception as e:
            roster.close(Unavailable(f"The engine ended: {e}", code="engine_failed"))
            raise
        roster.close(Unavailable("The server is shutting down."))

    def _roster(self) -> Roster:
        """Import what serves models, and begin to load those that are to be there at the start."""
        # Else it says that PyTorch was not found, which nobody needs here.
        os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
        with device.file_limit_kept():
            from transformers.utils import logging as transformers_logging

            from engine.models import cpu, mlx_memory
            from engine.runtime.loading.model_load import LoadMeans
            from engine.runtime.loading.roster import Roster
            from engine.runtime.stats import EngineStats
        self.imported.set()
        mlx_memory.limit_mlx_cache()
        mlx_memory.set_wired_limit(self._config.wired_limit_bytes)
        cpu.use()
        # It warns on every prompt about how mlx-vlm calls its processors.
        transformers_logging.set_verbosity_error()
        wired_bytes = self._config.wired_limit_bytes or 0 if mlx_memory.has_wired_limit() else None
        stats = EngineStats(self._outside.publish, self.slots.states, wired_bytes, self._other_ranks)
        means = LoadMeans(self._outside.aside, self._observer, self._mirror())
        return Roster(self.slots, self._config, stats, means)

    def _other_ranks(self) -> tuple[RankMemory, ...]:
        return self._line.memory if self._line else ()

    def _mirror(self) -> Mirror | None:
        """What tells the other processes of the model, once all are there; None where this one is alone."""
        if self._line is None:
            return None
        from engine.models.mirror import Mirror
        from engine.models.sharding import joined, told_by_first

        group = joined(self._line.place)
        told_by_first(group, self._line.open())
        self._line.join()
        return Mirror(self._line, group)

    def _serve(self, roster: Roster) -> None:
        """Commands, then one turn of somebody, until Stop. Raises what fails MAX_FAILURES times in a row, and what
        kept the only model from loading."""
        num_failures, is_busy = 0, True
        while True:
            try:
                if not self._take_commands(roster, is_busy):
                    return
                is_busy = self._turns.take([roster, *roster.loaded])
                if is_busy:
                    num_failures = 0
            except Exception as e:
                num_failures += 1
                if not self._recovered(roster, num_failures, e):
                    raise
            if roster.fatal is not None:
                raise roster.fatal

    def _recovered(self, roster: Roster, num_failures: int, error: Exception) -> bool:
        """Whether serving goes on after so many failures in a row. A model that fails as often is given up, where there
        are others."""
        failed, self._turns.failed = self._turns.failed, None
        took_part: list[Turner] = [roster, *roster.loaded] if failed is None else [failed]
        for one in took_part:
            one.recover()
        model = failed if isinstance(failed, LoadedModel) and len(self.slots) > 1 else None
        num_in_a_row = model.num_failures if model else num_failures
        log.exception("a turn of the engine failed, %d in a row", num_in_a_row)
        if num_in_a_row < MAX_FAILURES:
            return True
        if model is None:
            return False
        roster.give_up(model, Unavailable(f"The model ended: {error}", code="engine_failed"))
        return True

    def _take_commands(self, roster: Roster, is_busy: bool) -> bool:
        """Carry out what has come in; wait for something when there is no work, or none before the disk has answered
        (not is_busy). False on Stop, and where a process of the model is lost."""
        num_idle_s = 0
        while not self.is_lost:
            roster.tidy()
            idle = roster.is_idle and all(model.is_idle for model in roster.loaded)
            try:
                if idle or not is_busy:
                    command = self._inbox.get(timeout=_IDLE_S if idle else _DISK_S)
                else:
                    command = self._inbox.get_nowait()
            except Empty:
                if not idle:
                    return True
                self._idle(num_idle_s)
                num_idle_s += 1
                roster.idle()
                continue
            num_idle_s = 0
            if isinstance(command, Stop):
                return False
            try:
                self._carry_out(command, roster)
            except ModelNotFound as error:  # of whoever asked, and of nobody else
                refuse(command, error)
            except Exception:
                refuse(command, Internal("The engine could not do that; the server's log has the cause."))
                raise
        return False

    def _idle(self, num_idle_s: int) -> None:
        from engine.models.mlx_memory import return_memory

        if num_idle_s % _RETURN_MEMORY_EVERY_S == _RETURN_MEMORY_EVERY_S - 1:
            return_memory()
            if self._line is not None and not self.is_lost:
                self._line.tell({"do": "return_memory"})

    def _carry_out(self, command: Command, roster: Roster) -> None:
        match command:
            case Submit(sequence=sequence) | Cancel(sequence=sequence):
                self._pass_on(command, sequence.request.model)
            case PreflightCommand(request=request):
                self._pass_on(command, request.model)
            case ReadCommand(model=model):
                self._pass_on(command, model)
            case UseModel() | LoadModel() | UnloadModel():
                roster.handle(command)
            case Wake():
                roster.wake()
            case Stop():
                pass
            case _:
                models = roster.loaded
                if isinstance(command, CountReplay):
                    models = [model for model in models if model is self.slots.find(command.model).model]
                roster.ask_caches(command, models)

    def _pass_on(self, command: Submit | Cancel | PreflightCommand | ReadCommand, name: str | None) -> None:
        """Give a command to the model of this name; refuse it where that is not in memory."""
        model = self.slots.find(name).model
        if model is None:
            refuse(command, Unavailable("The model is not loaded."))
        else:
            model.worker.handle(command)

    def refuse_all(self) -> None:
        """The thread is not running, and will not: say so to everyone who waits or comes later. Any thread."""
        self._is_over = True
        self._refuse_rest()

    def _refuse_rest(self) -> None:
        """Answer what nobody will carry out any more. Called by the thread when it ends, and by who comes later."""
        for slot in self.slots:
            slot.refuse_waiting(self._end)
        while True:
            try:
                command = self._inbox.get_nowait()
            except Empty:
                return
            refuse(command, self._end)
