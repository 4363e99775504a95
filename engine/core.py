"""Engine: the one object that the chat tab, the /v1 routes and the bench command hold. Safe from any event loop.

It makes the engine thread (all MLX lives there) and the pools that fetch and decode media (bytes and numpy only), and
nothing else does.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from engine import device
from engine.access.visibility import Caller
from engine.config import EngineConfig, ModelSpec
from engine.errors import EngineError, Unavailable
from engine.inventory.inventory import Inventory
from engine.media.loader import Loader
from engine.remote.servers import RemoteServers
from engine.request_flow import Serving
from engine.request_log.form import whole_json
from engine.request_log.log import RequestLog
from engine.request_log.otlp import span_export
from engine.request_log.record import LoggedRequest
from engine.runtime.cache_inspection import CacheInspection
from engine.runtime.commands import (
    CountReplay,
    LoadModel,
    Stop,
    TokenObserver,
    UnloadModel,
)
from engine.runtime.estimates import fit
from engine.runtime.intake.asking import Asking
from engine.runtime.intake.deadline import Deadline
from engine.runtime.intake.preparation import Preparation
from engine.runtime.intake.tickets import ClosedFor, Places, TicketOffice
from engine.runtime.loading.slots import check_here
from engine.runtime.replay import Replayer, as_replay
from engine.runtime.thread import EngineThread, Outside
from engine.types import (
    Completion,
    Decisions,
    DescriptionProgress,
    DocumentsToRank,
    Embedded,
    Event,
    Grammar,
    Json,
    ModelCard,
    ModelState,
    Preflight,
    Ranked,
    Replay,
    Request,
    Snapshot,
    TextsToEmbed,
    TokenText,
    TypedQuestion,
)
from engine.vision_proxy.describe import Describer

if TYPE_CHECKING:
    from engine.hub.shelf import Shelf

T = TypeVar("T")
_DECODE_THREADS = 2
_FETCH_THREADS = 32
"""They wait for the network and are only made when they are needed."""


class Engine:
    """Models behind one asynchronous stream of events.

    start() returns at once and the default model loads in the engine thread; ready() waits for it. stream() may be used
    by any number of tasks in any event loop; closing the iterator cancels the request. stop() ends the threads.
    observer: called on the engine thread at every token, for the self-test.
    """

    def __init__(self, config: EngineConfig, observer: TokenObserver | None = None) -> None:
        self.config = config
        self._runtime = EngineThread(config, Outside(self._publish, self._fail, _aside), observer)
        self._slots = self._runtime.slots
        self._failure: EngineError | None = None
        self._adding = threading.Lock()
        self._snapshot = Snapshot(state="starting", device=device.describe(), states=self._slots.states())
        self._thread: threading.Thread | None = None
        self._tickets = TicketOffice(Places.of(config))
        self.requests = RequestLog(config.request_log, config.media, span_export(config.request_log))
        self._replayer = Replayer(self.complete, self.snapshot, self._count_replay, config.cache.verify_share)
        # Clips decode in processes of their own, pictures and long texts here.
        self._pool = ThreadPoolExecutor(_DECODE_THREADS, thread_name_prefix="decode")
        self._media = Loader(
            config,
            decoding=self._pool,
            fetching=ThreadPoolExecutor(_FETCH_THREADS, thread_name_prefix="fetch"),
            fetched=self.requests.fetched,
        )
        self._remote = RemoteServers(self._slots, config, self._media, _aside)
        self.requests.hide(tuple(spec.server.key for spec in config.models if spec.server and spec.server.key))
        self._preparation = Preparation(config, self._media)
        self._asking = Asking(self._preparation, self._runtime.tell, config.coordinates)
        self._describer = Describer(self._slots, self._asking, config.media)
        self._serving = Serving(
            config=config,
            log=self.requests,
            tickets=self._tickets,
            slots=self._slots,
            describer=self._describer,
            media=self._media,
            asking=self._asking,
            replayer=self._replayer,
            remote=self._remote,
            is_running=lambda: self._thread is not None,
        )
        self.cache = CacheInspection(self._asking, self._forget)

    def start(self) -> None:
        """Make the engine thread and begin to load the model. Call once."""
        self._thread = threading.Thread(target=self._runtime.run, name="engine", daemon=True)
        self._snapshot = replace(self._snapshot, state="loading")
        self._thread.start()
        self._remote.look()
        # A process that ends without stop() would kill the thread in the middle of MLX, and abort.
        atexit.register(self.stop)

    def stop(self) -> None:
        """End the threads; requests that still run end with an error. Idempotent; blocks until the thread is gone, but
        not long for a model that is being loaded, and not for one that is being fetched: it dies with the process."""
        if self._snapshot.state == "starting":
            self._runtime.refuse_all()
        elif self._thread is not None:
            atexit.unregister(self.stop)
            self._runtime.tell(Stop())
            self._runtime.join(self._thread)
            self._thread = None
        self._remote.close()
        self._media.close()
        self.requests.close()
        if "shelf" in vars(self):
            self.shelf.close()
        self._snapshot = replace(self._snapshot, state="stopped", running=())

    def drain(self, why: ClosedFor = "shutting_down") -> None:
        """Take no more requests: they get Unavailable with this code. Those that run go on. Any thread."""
        self._tickets.close(why)

    @property
    def draining(self) -> Unavailable | None:
        """What requests are told since `drain` was called; None before."""
        return self._tickets.closed

    @property
    def is_draining(self) -> bool:
        """Whether `drain` was called."""
        return self.draining is not None

    @property
    def num_open(self) -> int:
        """Requests that have not ended, those included whose media are still being read. Any thread."""
        return self._tickets.num_requests

    def finish_imports(self) -> None:
        """Import what reads media, and wait until the engine thread has imported the rest. Blocks.

        To be called before the port answers: an import opens files, and connections may use up all that this process
        may open.
        """
        self._runtime.imported.wait()
        # Last, beside the loading of the weights: the engine thread's own imports must not wait for these.
        from PIL import Image

        from engine.media import child, read_medium  # noqa: F401

        Image.init()

    async def ready(self, model: str | None = None) -> ModelCard:
        """Wait until a model was loaded (None: the default one), and load it where it never was.

        Raises ModelNotFound for a name that no model has, and the reason when it could not be loaded.
        """
        slot = self._slots.find(model)
        if self._failure is not None:
            raise self._failure
        if slot.card is not None:
            return slot.card
        async with self._slots.using(slot) as loaded:
            return loaded.card

    async def reached(self, model: str | None = None) -> ModelState:
        """Look whether the server of a model can be reached that another server answers for, and how it is then."""
        slot = self._slots.find(model)
        if slot.config.model.server is not None:
            await self._remote.reached(slot)
        return self._slots.state(slot)

    def describing(self, request_id: str) -> DescriptionProgress | None:
        """How far a request's media are described to a model that cannot see them; None where none are. Any thread."""
        return self._describer.progress(request_id)

    def models(self) -> tuple[ModelState, ...]:
        """All models that may be loaded, the default one first, as they are now. Any thread, never blocks."""
        self._remote.look()
        return self._slots.states()

    def add_model(self, spec: ModelSpec) -> ModelState:
        """One more model that may be asked for, until this process ends; it is not loaded yet. Any thread.

        Nothing changes where its source is among them. Raises Conflict where its name is another's.
        """
        with self._adding:  # two that come at once would each leave out the other's
            self.config = self.config.with_model(spec)
            self._slots.add(self.config)
        return self._slots.state(self._slots.find(spec.source))

    @cached_property
    def shelf(self) -> Shelf:
        """The models of this machine and of the hub. Made when it is first asked for: the hub's client is imported
        then, and threads begin."""
        from engine.hub.shelf import Shelf

        return Shelf(Inventory(self.config.models_folders))

    async def load_model(self, name: str) -> ModelState:
        """Load a model into memory, unless it is there. Others leave where it needs their room and nobody uses them.

        Raises ModelNotFound for a name that no model has, Conflict with the numbers where there is no room beside those
        in use, Unavailable with the reason where it cannot be loaded, and TimedOut where that takes longer than a
        request may; the load goes on where others wait for it.
        """
        check_here(slot := self._slots.find(name))
        deadline = Deadline(self.config.request_timeout_s)
        await deadline.wait(self._asking.reply(lambda reply: LoadModel(slot, reply)))
        return self._slots.state(slot)

    async def unload_model(self, name: str) -> ModelState:
        """Take a model out of memory; a load that nobody waits for is given up. Nothing happens where it is not there.

        Raises ModelNotFound for a name that no model has, and Conflict while requests use it or wait for it.
        """
        check_here(slot := self._slots.find(name))
        await self._asking.reply(lambda reply: UnloadModel(slot, reply))
        return self._slots.state(slot)

    def snapshot(self) -> Snapshot:
        """The latest frozen copy of the engine's state. Any thread, never blocks."""
        snapshot = self._snapshot
        if not self._remote or snapshot.state == "stopped":
            return snapshot
        self._remote.look()  # the engine's thread knows nothing of them
        is_there = snapshot.state == "loading" and self._slots.default.config.model.server is not None
        return replace(
            snapshot,
            state="ready" if is_there else snapshot.state,
            states=self._slots.states(),
            running=(*snapshot.running, *self._remote.running()),
        )

    def stream(self, request: Request) -> AsyncGenerator[Event, None]:
        """Run a request: Delta events, then exactly one Done. Closing the iterator cancels it.

        Raises Busy before anything is fetched where the server is full, and later where media turn out larger than
        expected or wait too long for their turn, and TimedOut when all of it takes longer than the configuration
        allows. Raises EngineError, before the first event or between events.
        """
        return self._serving.stream(request)

    async def decide(self, request: Request, questions: tuple[TypedQuestion, ...]) -> Decisions:
        """Answer typed questions about the messages of a request; what they share is computed once.

        Takes one place, as any request. Cancelled with the task that waits for it. Raises EngineError.
        """
        return await self._serving.decide(request, questions)

    async def embed(self, asked: TextsToEmbed) -> Embedded:
        """A vector for each text, of a model that makes them (ModelCard.embeds).

        Takes one place, as any request. Cancelled with the task that waits for it. Raises EngineError.
        """
        return await self._serving.embed(asked)

    async def rank(self, asked: DocumentsToRank) -> Ranked:
        """How well each document answers a query, by a model that says so (ModelCard.ranks); else as `embed`."""
        return await self._serving.rank(asked)

    async def aside(self, work: Callable[[], T]) -> T:
        """What would hold up an event loop, done in the pool that decodes media."""
        return await self._preparation.aside(work)

    async def check_grammar(self, grammar: Grammar, model: str | None = None) -> None:
        """Raise BadRequest, with the place and the reason, for what answers of a model cannot be held to. Loads it."""
        async with self._slots.using(self._slots.find(model)) as loaded:
            await self._preparation.grammar(loaded, Request(grammar=grammar))

    async def complete(self, request: Request) -> Completion:
        """Run a request to its end and collect what stream() gives. Cancelled with the task that waits for it.

        Raises EngineError.
        """
        async with aclosing(self.stream(request)) as events:
            return await Completion.read(events)

    def media_bytes(self) -> int:
        """Decoded media that are kept for the next question about them, in bytes. Any thread."""
        return self._media.kept_bytes

    def thumbnail(self, sha256: str, frame: int | None = None) -> bytes | None:
        """A small PNG of a picture or a clip's first frame, by its content hash; or a smaller JPEG of one frame of a
        clip, by its place among those the model was shown, from 0. None when forgotten, and for any other frame."""
        return self._media.thumbnails.get(sha256, frame)

    async def logged(self, record: LoggedRequest, who: Caller) -> Json:
        """All that is known of a request of the log, as far as `who` may see it (engine.request_log.form)."""
        texts = None
        if record.request.logprobs is not None and self._slots.state(self._slots.find(record.request.model)).card:
            texts = await self.token_texts(record.request.model)
        return await self.aside(lambda: whole_json(self.requests, record, who, texts))

    async def preflight(self, request: Request, *, pictures: bool = False) -> Preflight:
        """What a request would cost: its tokens, what each medium becomes, what is left of the context, what is cached.

        Only the prompt is built for it, and it counts nowhere. A prompt that does not fit is told by `left` < 0, not by
        an error; one that fits the context and surely does not fit into memory by MemoryExceeded, with the Preflight as
        its `cost`. pictures: also every frame as a PNG, as the model would see it. Raises EngineError as stream() does.
        """
        return await self._serving.preflight(request, pictures=pictures)

    async def detokenize(self, token_ids: list[int], model: str | None = None) -> str:
        """Token ids as text, special tokens by their names. Raises BadRequest for an id outside the vocabulary."""
        return await self._serving.detokenize(token_ids, model)

    async def token_texts(self, model: str | None = None) -> Callable[[int], TokenText]:
        """What a token id of a model stands for, as a function for any thread. The model is loaded if need be; of one
        that is in memory, which a stream of the caller's may be using, it is told at once."""
        slot = self._slots.find(model)
        if slot.config.model.server is not None:
            return self._remote.vocabulary(slot).text
        if (here := slot.model) is not None:
            return here.vocabulary.text
        deadline = Deadline(self.config.request_timeout_s)
        async with self._slots.using(slot, deadline) as loaded:
            return loaded.vocabulary.text

    async def fit(self, request: Request) -> Request | None:
        """The request with smaller pictures and fewer frames, so that an answer fits; itself where it fits already.

        Smaller, too, where they would take more memory than there is.
        None where that does not help: the text alone is too long, or this family has one size for all pictures.
        """
        return await fit.fitted(request, self.preflight)

    async def likelihood(self, request: Request, answer: tuple[int, ...]) -> tuple[float, ...]:
        """The natural log-probability of each token of this answer (ids), had the request been answered with it.

        Uses what is cached. Like a replay it is not listed and stores nothing. Raises EngineError.
        """
        forced = replace(as_replay(request, len(answer)), forced=answer, logprobs=0)
        completion = await self.complete(forced)
        return tuple(token.logprob for token in completion.tokens if token.logprob is not None)

    async def replay(self, request_id: str) -> Replay:
        """Ask a request again, warm and cold, and compare: does the cache change its answer? Greedy, up to 64 tokens.

        One of the last 16 requests with a hit; media are fetched again. Who calls this has checked that the asker may
        see the request (engine.access). Raises ModelNotFound for any other id, Conflict when a medium's content has
        changed, and what stream raises.
        """
        return await self._replayer.replay(request_id)

    def _forget(self, held: set[str]) -> None:
        """What is kept beside the cache is let go with it. held: content hashes of media that blocks still hold."""
        self._media.forget(held)
        self._replayer.forget()
        self._describer.forget()

    async def _count_replay(self, request: Request, mismatch: bool) -> None:
        await self._asking.reply(lambda reply: CountReplay(request.model, mismatch, reply))

    def _publish(self, snapshot: Snapshot) -> None:
        # Of an engine that has failed by another process's end; of a model that stop() has not waited for.
        if self._failure is None and self._snapshot.state != "stopped":
            self._snapshot = snapshot

    def _fail(self, error: EngineError) -> None:
        """The model is not there and will not be: say so to everyone who waits or comes later."""
        if self._snapshot.state == "stopped":
            return
        self._failure = error
        self._snapshot = replace(self._snapshot, state="failed", error=error.message, states=self._slots.states())
        if self._runtime.is_lost:  # else the thread tells them itself
            self._asking.readers.fail(error)


def _aside(work: Callable[[], T]) -> Future[T]:
    """Do a work in a thread of its own, which ends with the process: nothing can interrupt a download, nor wake who
    waits for a server."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as e:
            done.set_exception(e)

    threading.Thread(target=run, name="aside", daemon=True).start()
    return done
