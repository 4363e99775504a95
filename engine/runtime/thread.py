"""The engine thread: it owns all MLX, takes commands, and gives the loaded model its turn.

    inbox ──> EngineThread.run: commands, then one turn of the Worker, again and again ──> snapshot

One failed turn ends the requests it was about. Only repeated failure, with nothing done in between, ends the thread;
the reason is then published, everyone who waits gets it, and a supervisor may restart the process.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from engine import device
from engine.config import EngineConfig
from engine.errors import EngineError, Internal, Unavailable
from engine.runtime.commands import Command, Stop, TokenObserver, refuse
from engine.types import ModelCard, Snapshot

if TYPE_CHECKING:
    from engine.grammar.compile import Grammars
    from engine.models.vocabulary import Vocabulary
    from engine.prompt.question_tokens import QuestionPrompts
    from engine.prompt.text import TextPrompts
    from engine.runtime.worker import Worker

log = logging.getLogger(__name__)

MAX_FAILURES = 8
"""Turns that may fail one after the other before the thread gives up."""

_IDLE_S = 1.0
_DISK_S = 0.002
"""How long to wait for a command while all that is left to do waits for the disk."""

_RETURN_MEMORY_EVERY_S = 10
"""Seconds between two returns of freed memory to the system while the engine is idle, the first after one second. Again
and again, since other threads go on decoding media."""

_GC_THRESHOLDS = gc.get_threshold()
_GC_THRESHOLD_LOADING = 200_000


class EngineThread:
    """What the one engine thread runs. core makes the thread itself, so that there is one place that does.

    publish takes each new Snapshot; failed is called once with the reason when the thread ends before Stop. Both are
    called on the engine thread. loaded gets the card of the model, or the reason why there is none; texts, questions,
    grammars and vocabulary are there once it has; imported is set once the engine's modules are there, or will not be.
    """

    def __init__(
        self,
        config: EngineConfig,
        publish: Callable[[Snapshot], None],
        failed: Callable[[EngineError], None],
        observer: TokenObserver | None = None,
    ) -> None:
        self._config = config
        self._publish = publish
        self._failed = failed
        self._observer = observer
        self._inbox: SimpleQueue[Command] = SimpleQueue()
        self._is_over = False
        self.loaded: Future[ModelCard] = Future()
        self.imported = threading.Event()
        self.texts: TextPrompts | None = None
        self.questions: QuestionPrompts | None = None
        self.grammars: Grammars | None = None
        self.vocabulary: Vocabulary | None = None

    def tell(self, command: Command) -> None:
        """Queue a command. Any thread. A command that comes too late is refused at once."""
        self._inbox.put(command)
        if self._is_over:
            self._refuse_rest()

    def run(self) -> None:
        """Load the model and serve until Stop. MLX is imported here first, after the BLAS is in place."""
        error: EngineError | None = None
        try:
            self._with_mlx()
        except EngineError as e:
            error = e
        except Exception as e:
            log.exception("the engine thread ended")
            error = Unavailable(f"The engine ended: {e}", code="engine_failed")
        finally:
            self._is_over = True
            self.imported.set()
            self._refuse_rest()
        if error is not None:
            self._failed(error)

    def _with_mlx(self) -> None:
        device.prepare()
        import mlx.core as mx

        try:
            self._load_and_serve()
        finally:
            gc.collect()
            mx.clear_cache()
            # Without this a thread that used MLX aborts the process at exit.
            mx.clear_streams()

    def _load_and_serve(self) -> None:
        with _rarely_collecting():
            worker = self._load()
        try:
            self._serve([worker])
        except Exception as e:
            worker.close(Unavailable(f"The engine ended: {e}", code="engine_failed"))
            raise
        worker.close(Unavailable("The server is shutting down."))

    def _load(self) -> Worker:
        with device.file_limit_kept():
            from transformers.utils import logging as transformers_logging

            from engine.grammar.compile import Grammars
            from engine.models import cpu, mlx_memory, registry
            from engine.models.vocabulary import Vocabulary
            from engine.prompt.question_tokens import QuestionPrompts
            from engine.prompt.text import TextPrompts
            from engine.runtime import memory
            from engine.runtime.stats import EngineStats
            from engine.runtime.worker import Worker
        self.imported.set()
        mlx_memory.limit_mlx_cache()
        cpu.use()
        # It warns on every prompt about how mlx-vlm calls its processors.
        transformers_logging.set_verbosity_error()
        loaded = registry.load(self._config)
        needs = [memory.ModelMemory(loaded.card.num_bytes, mlx_memory.token_bytes(loaded.adapter))]
        stored_bytes = self._config.cache.total_bytes
        (budget,) = memory.share(mlx_memory.device_bytes(), self._config.memory_utilization, needs, stored_bytes)
        if budget.stored_bytes < stored_bytes:
            log.warning(
                "memory is short: %d MiB for stored KV and features instead of %d",
                budget.stored_bytes >> 20,
                stored_bytes >> 20,
            )
        worker = Worker(self._config, loaded, budget, EngineStats(self._publish), self._observer)
        worker.show(force=True)
        self.texts = TextPrompts(loaded)
        self.questions = QuestionPrompts(loaded, self.texts.control, 2 * self._config.prefill_chunk_tokens)
        self.grammars = Grammars(loaded.tokenizer, loaded.stop_ids)
        self.vocabulary = Vocabulary(loaded)
        if not self.loaded.done():  # stop() has not waited for it
            self.loaded.set_result(loaded.card)
        return worker

    def _serve(self, workers: Sequence[Worker]) -> None:
        """Commands, then one turn of each model, until Stop. Raises what fails MAX_FAILURES times in a row."""
        num_failures, is_busy = 0, True
        worker = workers[0]
        while True:
            try:
                if not self._take_commands(workers, is_busy):
                    return
                is_busy = False
                for worker in workers:  # the one that failed is known below
                    if worker.turn():
                        num_failures, is_busy = 0, True
            except Exception:
                num_failures += 1
                log.exception("a turn of the engine failed, %d in a row", num_failures)
                if num_failures >= MAX_FAILURES:
                    raise
                worker.recover()

    def _take_commands(self, workers: Sequence[Worker], is_busy: bool) -> bool:
        """Carry out what has come in; wait for something when there is no work, or none before the disk has answered
        (not is_busy). False on Stop."""
        num_idle_s = 0
        while True:
            idle = all(worker.is_idle for worker in workers)
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
                for worker in workers:
                    worker.idle()
                continue
            num_idle_s = 0
            if isinstance(command, Stop):
                return False
            try:
                workers[0].handle(command)
            except Exception:
                refuse(command, Internal("The engine could not do that; the server's log has the cause."))
                raise

    def _idle(self, num_idle_s: int) -> None:
        from engine.models.mlx_memory import return_memory

        if num_idle_s % _RETURN_MEMORY_EVERY_S == 0:
            return_memory()

    def _refuse_rest(self) -> None:
        """Answer what nobody will carry out any more. Called by the thread when it ends, and by who comes later."""
        while True:
            try:
                command = self._inbox.get_nowait()
            except Empty:
                return
            refuse(command, Unavailable("The engine was stopped."))


@contextmanager
def _rarely_collecting() -> Iterator[None]:
    """Imports and loading make objects by the hundred thousand and hardly any garbage: looking for it takes a tenth of
    the time until the first answer."""
    gc.set_threshold(_GC_THRESHOLD_LOADING, *_GC_THRESHOLDS[1:])
    try:
        yield
    finally:
        gc.set_threshold(*_GC_THRESHOLDS)
