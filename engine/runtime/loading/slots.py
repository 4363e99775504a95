"""The models that may be loaded, and who uses each. Any thread; no MLX.

    ModelSlot: one configured model ── use ──> LoadedModel: all that belongs to it, while somebody uses it ── end_use
                                    └─ not loaded: UseModel, and the engine thread loads it (loading.roster)

Uses are counted in any event loop, so a lock guards them: a model that is used never leaves memory.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engine.config import EngineConfig
from engine.errors import BadRequest, EngineError
from engine.runtime.commands import Command, LoadModel, UseModel, Wake, refuse
from engine.runtime.intake.deadline import Deadline
from engine.types import ExpectedWeights, ModelCard, ModelStage, ModelState

if TYPE_CHECKING:
    from engine.grammar.compile import Grammars
    from engine.models.lora import BaseWeights
    from engine.models.vocabulary import Vocabulary
    from engine.prompt.question_tokens import QuestionPrompts
    from engine.prompt.read_texts import ReadTexts
    from engine.prompt.text import TextPrompts
    from engine.runtime.memory_use.memory import ModelMemory
    from engine.runtime.worker import Worker


@dataclass(eq=False, slots=True)
class LoadedModel:
    """All that belongs to one model in memory. worker is for the engine thread; the others prepare requests in any.

    spent_s: what its turns on the engine thread have taken (engine.runtime.turns). num_failures: of its turns, how many
    have failed since one that did something. base: what further models of its base may share.
    """

    card: ModelCard
    memory: ModelMemory
    texts: TextPrompts
    reads: ReadTexts
    questions: QuestionPrompts
    grammars: Grammars
    vocabulary: Vocabulary
    worker: Worker
    base: BaseWeights
    spent_s: float = 0.0
    was_idle: bool = True
    num_failures: int = 0

    @property
    def is_idle(self) -> bool:
        return self.worker.is_idle

    def turn(self) -> bool:
        """See Worker.turn."""
        is_done = self.worker.turn()
        if is_done:
            self.num_failures = 0
        return is_done

    def recover(self) -> None:
        """See Worker.recover."""
        self.num_failures += 1
        self.worker.recover()


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """How far a model is; see ModelState. since_s: in seconds of time.monotonic."""

    stage: ModelStage = "known"
    done_bytes: int = 0
    total_bytes: int = 0
    since_s: float = field(default_factory=time.monotonic)
    error: str | None = None


class ModelSlot:
    """One configured model. config: the engine's, as this model alone has it. waiting: commands that are answered once
    it is loaded; expected: what its weights will take; failure: why it could not be loaded last; these are the
    engine thread's.

    at_start: it is loaded at the start, though nobody waits for it. card: what it is, once it was loaded and the
    snapshot says so.
    """

    def __init__(self, config: EngineConfig, wake: Callable[[], None]) -> None:
        self.config = config
        self.name = config.model.served_name
        self.waiting: deque[UseModel | LoadModel] = deque()
        self.expected = ExpectedWeights()
        self.at_start = False
        self.failure: EngineError | None = None
        self.card: ModelCard | None = None
        self._wake = wake
        self._lock = threading.Lock()
        self._model: LoadedModel | None = None
        self._num_uses = 0
        self._is_closed = False
        self._last_use_s = self._load_s = 0.0
        self._progress = LoadProgress()

    @property
    def model(self) -> LoadedModel | None:
        """What is in memory. Whoever is not the engine thread takes it by `use`."""
        return self._model

    @property
    def stage(self) -> ModelStage:
        return self._progress.stage

    @property
    def last_use_s(self) -> float:
        """When the last use ended, or began, in seconds of time.monotonic."""
        return self._last_use_s

    @property
    def is_used(self) -> bool:
        return self._num_uses > 0

    @property
    def is_closed(self) -> bool:
        """Whether it takes no more uses, for another model needs its room."""
        return self._is_closed

    def use(self) -> LoadedModel | None:
        """The model, which stays in memory until `end_use`; None where it is not there, or is about to leave."""
        with self._lock:
            if self._model is None or self._is_closed:
                return None
            self._num_uses += 1
            self._last_use_s = time.monotonic()
            return self._model

    def begin_use(self) -> None:
        """One use of a model that another server answers for; `end_use` ends it."""
        with self._lock:
            self._num_uses += 1
            self._last_use_s = time.monotonic()

    def wake(self) -> None:
        """Let the engine thread look again at what waits."""
        self._wake()

    def end_use(self) -> None:
        """The end of one use."""
        with self._lock:
            self._num_uses -= 1
            self._last_use_s = time.monotonic()
            is_awaited = self._is_closed and not self._num_uses
        if is_awaited:
            self._wake()

    def state(self, *, is_default: bool = False) -> ModelState:
        """A frozen copy of what it is now."""
        model, progress, spec, now = self._model, self._progress, self.config.model, time.monotonic()
        is_ready = progress.stage == "ready" and model is not None
        return ModelState(
            name=self.name,
            source=spec.source,
            stage=progress.stage,
            aliases=spec.aliases,
            is_default=is_default,
            done_bytes=progress.done_bytes,
            total_bytes=progress.total_bytes,
            seconds=self._load_s if is_ready else now - progress.since_s,
            num_bytes=model.card.num_bytes if model else self.expected.num_bytes,
            num_requests=self._num_uses,
            num_waiting=len(self.waiting),
            idle_s=now - self._last_use_s if is_ready and not self._num_uses else None,
            error=progress.error,
            card=model.card if model else self.card,
            parent=spec.parent,
            adapter_path=spec.adapter_path,
            server=spec.server.host if spec.server else "",
        )

    # What the engine thread says of it.

    def show(self, stage: ModelStage, done_bytes: int = 0, total_bytes: int = 0, error: str | None = None) -> None:
        """It is at this stage now."""
        before = self._progress
        since_s = before.since_s if before.stage == stage else time.monotonic()
        self._progress = LoadProgress(stage, done_bytes, total_bytes, since_s, error)

    def report(self, done_bytes: int, total_bytes: int) -> None:
        """So much of it is downloaded. Called by the threads that download, perhaps after nobody wants it any more."""
        if self.stage == "downloading":
            self.show("downloading", done_bytes, total_bytes)

    def refuse_waiting(self, error: EngineError) -> None:
        """It will not be loaded: say so to all who wait. Also called by whoever comes after the engine's end."""
        while True:
            try:
                command = self.waiting.popleft()
            except IndexError:
                return
            refuse(command, error)

    def put(self, model: LoadedModel) -> None:
        """It is loaded, and may be used from now on."""
        with self._lock:
            self._model, self._is_closed = model, False
            self._last_use_s = time.monotonic()
        self._load_s = time.monotonic() - self._progress.since_s
        self.show("ready", model.card.num_bytes, model.card.num_bytes)

    def close(self) -> None:
        """Take no more uses: it leaves memory as soon as nobody uses it. Idempotent."""
        with self._lock:
            self._is_closed = True

    def reopen(self) -> None:
        """It may stay after all."""
        with self._lock:
            self._is_closed = False

    def drop(self) -> LoadedModel | None:
        """The model, which has failed: who uses it has an error already, and nobody else may."""
        with self._lock:
            model, self._model, self._is_closed = self._model, None, False
            return model

    def take_out(self) -> LoadedModel | None:
        """The model, which nobody can use any more; None, and nothing changes, while somebody does."""
        with self._lock:
            if self._num_uses or self._model is None:
                return None
            model, self._model, self._is_closed = self._model, None, False
            card = model.card
            self.expected = ExpectedWeights(card.num_bytes, card.base, card.adapter_bytes)
            return model


def check_here(slot: ModelSlot) -> None:
    """Raise BadRequest for a model that another server answers for: it can be asked for answers, and for nothing that
    needs its tokens, its weights or its cache."""
    if (server := slot.config.model.server) is not None:
        why = f"{slot.name} is served by {server.host}; what was asked for needs a model in this process."
        raise BadRequest(why, param="model", code="remote_model")


@dataclass(eq=False, slots=True)
class ModelUse:
    """See ModelSlots.using. Not made of a generator: those are closed in any order where an event loop ends."""

    slot: ModelSlot
    load: Callable[[ModelSlot], Coroutine[None, None, LoadedModel]]
    deadline: Deadline | None

    async def __aenter__(self) -> LoadedModel:
        if (model := self.slot.use()) is not None:
            return model
        loading = self.load(self.slot)
        return await (self.deadline.wait(loading) if self.deadline else loading)

    async def __aexit__(self, *_: object) -> None:
        self.slot.end_use()


class ModelSlots:
    """All models that may be loaded, the default one first. tell: queues a command for the engine thread."""

    def __init__(self, config: EngineConfig, tell: Callable[[Command], None]) -> None:
        self._config = config
        self._tell = tell
        self._by_spec = {spec: ModelSlot(config.of(spec), self._wake) for spec in config.models}
        for slot in self:
            preload = slot.config.model.preload
            if slot.config.model.server is not None:
                continue  # nothing of it is ever loaded
            if preload or (slot is self.default and preload is None):
                slot.at_start = True
                slot.show("loading")

    def __iter__(self) -> Iterator[ModelSlot]:
        yield from self._by_spec.values()

    def __len__(self) -> int:
        return len(self._by_spec)

    @property
    def default(self) -> ModelSlot:
        return self._by_spec[self._config.model]

    def add(self, config: EngineConfig) -> None:
        """Take over a configuration that has further models; those that were there stay as they are. Any thread."""
        more = {spec: ModelSlot(config.of(spec), self._wake) for spec in config.models if spec not in self._by_spec}
        self._by_spec = {**self._by_spec, **more}  # whoever goes through the old one is not disturbed
        self._config = config

    def find(self, name: str | None) -> ModelSlot:
        """The one of this name; see EngineConfig.find. Raises ModelNotFound."""
        return self._by_spec[self._config.find(name)]

    def states(self) -> tuple[ModelState, ...]:
        """How each of them is."""
        return tuple(self.state(slot) for slot in self)

    def state(self, slot: ModelSlot) -> ModelState:
        """How one of them is."""
        return slot.state(is_default=slot is self.default)

    def using(self, slot: ModelSlot, deadline: Deadline | None = None) -> ModelUse:
        """The model, loaded first where it is not, and kept in memory until the end. Never one use inside another:
        where models take turns in memory, each would wait for the other.

        deadline: until when to wait for it. Raises TimedOut, what kept it from loading, and BadRequest for one that
        another server answers for.
        """
        check_here(slot)
        return ModelUse(slot, self._loaded, deadline)

    async def _loaded(self, slot: ModelSlot) -> LoadedModel:
        """Wait in line until it is loaded. Whoever stops waiting leaves no use behind."""

        def end_unused(reply: Future[LoadedModel]) -> None:
            if not reply.cancelled() and reply.exception() is None:
                slot.end_use()

        reply: Future[LoadedModel] = Future()
        self._tell(UseModel(slot, reply))
        try:
            return await asyncio.wrap_future(reply)
        except asyncio.CancelledError:
            reply.cancel()
            reply.add_done_callback(end_unused)
            self._wake()
            raise

    def _wake(self) -> None:
        self._tell(Wake())
