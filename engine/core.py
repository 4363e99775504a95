"""Engine: the one object that the chat tab, the /v1 routes and the bench command hold. Safe from any event loop.

It makes the engine thread (all MLX lives there) and the pools that fetch and decode media (bytes and numpy only), and
nothing else does.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TypeVar

from engine import device
from engine.config import EngineConfig
from engine.errors import EngineError, Internal, PixelsMissing, Unavailable
from engine.media.loader import Loader
from engine.runtime import fit
from engine.runtime.checks import check
from engine.runtime.commands import (
    Answered,
    Cancel,
    ChangeAction,
    ChangeBlock,
    ChangeFeatures,
    ClearCache,
    CountReplay,
    GetBlock,
    ListBlocks,
    ListFeatures,
    PreflightCommand,
    Stop,
    Submit,
    TokenObserver,
)
from engine.runtime.deadline import Deadline
from engine.runtime.deciding import check_questions, decide
from engine.runtime.poster import poster
from engine.runtime.preparation import Preparation
from engine.runtime.replay import Replayer, as_replay
from engine.runtime.sequence import Sequence
from engine.runtime.thread import EngineThread
from engine.runtime.tickets import Places, Ticket, TicketOffice
from engine.types import (
    BlockInfo,
    Completion,
    Decisions,
    Done,
    Event,
    FeatureInfo,
    ModelCard,
    Preflight,
    Replay,
    Request,
    Snapshot,
    TokenText,
    TypedQuestion,
)

log = logging.getLogger(__name__)

_LOADING_GRACE_S = 15.0
_DECODE_THREADS = 2
_FETCH_THREADS = 32
"""They wait for the network and are only made when they are needed."""
T = TypeVar("T")


class Engine:
    """One model behind one asynchronous stream of events.

    start() returns at once and the model loads in the engine thread; ready() waits for it. stream() may be used by
    any number of tasks in any event loop; closing the iterator cancels the request. stop() ends the threads.
    observer: called on the engine thread at every token, for the self-test.
    """

    def __init__(self, config: EngineConfig, observer: TokenObserver | None = None) -> None:
        self.config = config
        self._runtime = EngineThread(config, self._publish, self._fail, observer)
        self._loaded = self._runtime.loaded
        self._snapshot = Snapshot(state="starting", device=device.describe())
        self._thread: threading.Thread | None = None
        self._tickets = TicketOffice(Places.of(config))
        self._replayer = Replayer(self.complete, self.snapshot, self._count_replay, config.cache.verify_share)
        # Clips decode in processes of their own, pictures and long texts here.
        self._pool = ThreadPoolExecutor(_DECODE_THREADS, thread_name_prefix="decode")
        self._media = Loader(
            config,
            decoding=self._pool,
            fetching=ThreadPoolExecutor(_FETCH_THREADS, thread_name_prefix="fetch"),
        )
        self._preparation = Preparation(config, self._runtime, self._media)

    def start(self) -> None:
        """Make the engine thread and begin to load the model. Call once."""
        self._thread = threading.Thread(target=self._runtime.run, name="engine", daemon=True)
        self._snapshot = replace(self._snapshot, state="loading")
        self._thread.start()
        # A process that ends without stop() would kill the thread in the middle of MLX, and abort.
        atexit.register(self.stop)

    def stop(self) -> None:
        """End the threads; requests that still run end with an error. Idempotent; blocks until the thread is gone, but
        not for a model that is still being fetched: that cannot be interrupted, and dies with the process."""
        if self._thread is not None:
            atexit.unregister(self.stop)
            self._runtime.tell(Stop())
            self._thread.join(None if self._loaded.done() else _LOADING_GRACE_S)
            self._thread = None
        self._media.close()
        if not self._loaded.done():
            self._loaded.set_exception(Unavailable("The engine was stopped."))
        self._snapshot = replace(self._snapshot, state="stopped", running=())

    def drain(self) -> None:
        """Take no more requests: they get Unavailable (shutting_down). Those that run go on. Any thread."""
        self._tickets.close()

    @property
    def is_draining(self) -> bool:
        """Whether `drain` was called."""
        return self._tickets.is_closed

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

    async def ready(self) -> ModelCard:
        """Wait for the model. Raises Unavailable or ModelNotFound with the reason when it could not be loaded."""
        return await asyncio.shield(asyncio.wrap_future(self._loaded))

    def snapshot(self) -> Snapshot:
        """The latest frozen copy of the engine's state. Any thread, never blocks."""
        return self._snapshot

    async def stream(self, request: Request) -> AsyncGenerator[Event, None]:
        """Run a request: Delta events, then exactly one Done. Closing the iterator cancels it.

        Raises Busy before anything is fetched where the server is full, and later where media turn out larger than
        expected or wait too long for their turn, and TimedOut when all of it takes longer than the configuration
        allows. Raises EngineError, before the first event or between events.
        """
        deadline = Deadline(self.config.request_timeout_s)
        request, card = await self._checked(request, deadline)
        with self._tickets.take() as ticket:
            async with aclosing(self._events(request, card, ticket, deadline)) as events:
                async for event in events:
                    if isinstance(event, Done):
                        ticket.release()  # before the reader learns of it: who comes next finds the place free
                        self._replayer.remember(request, event)
                    yield event

    async def decide(self, request: Request, questions: tuple[TypedQuestion, ...]) -> Decisions:
        """Answer typed questions about the messages of a request; what they share is computed once.

        Takes one place, as any request. Cancelled with the task that waits for it. Raises EngineError.
        """
        deadline = Deadline(self.config.request_timeout_s)
        check_questions(questions)
        request, card = await self._checked(request, deadline)
        with self._tickets.take() as ticket:

            async def ask(group: Request) -> Done:
                check(group, card, self.config.media)
                async with aclosing(self._events(group, card, ticket, deadline)) as events:
                    async for event in events:
                        if isinstance(event, Done):
                            return event
                raise Internal("Questions ended without an answer.")

            return await decide(questions, lambda asked: deadline.wait(self._preparation.group(request, asked)), ask)

    async def _checked(self, request: Request, deadline: Deadline) -> tuple[Request, ModelCard]:
        """The request with an id, once the model is there. Raises EngineError for one that cannot be served."""
        card = await deadline.wait(self.ready())
        if self._thread is None:
            raise Unavailable("The engine was stopped.")
        check(request, card, self.config.media)
        if request.prompt_logprobs is not None:
            request = replace(request, reuse=False)  # stored KV has no logits
        return request if request.id else replace(request, id=secrets.token_hex(8)), card

    async def _events(
        self, request: Request, card: ModelCard, ticket: Ticket, deadline: Deadline
    ) -> AsyncGenerator[Event, None]:
        """The events of a request that has a place. Closing the iterator cancels it."""
        events: asyncio.Queue[Event | EngineError] = asyncio.Queue()
        post = poster(events)

        async def submit(before: Sequence | None = None) -> Sequence:
            """before: the same without pixels that it turned out to need; what else was prepared is taken from it."""
            grammar = before.grammar if before else await self._preparation.grammar(request)
            loaded, media = await self._preparation.load(request, card, ticket, need_pixels=before is not None)
            loaded_s = time.perf_counter()
            sequence = Sequence(
                request=loaded,
                post=post,
                accepted_s=deadline.accepted_s,
                loaded_s=loaded_s,
                media=media,
                prepared_prompt=await self._preparation.prompt(loaded, must_fit=True),
                grammar=grammar,
                scoring=before.scoring if before else await self._preparation.scoring(loaded, media),
                submitted_s=time.perf_counter(),
            )
            self._runtime.tell(Submit(sequence))
            return sequence  # which alone holds the media: the engine thread lets them go once its prompt is read

        sequence = await deadline.wait(submit())
        finished = False
        try:
            while not finished:
                event = await deadline.wait(events.get())
                if isinstance(event, PixelsMissing):
                    sequence = await deadline.wait(submit(sequence))
                    continue
                ticket.release_media()
                finished = isinstance(event, Done | EngineError)
                if isinstance(event, EngineError):
                    raise event
                yield event
        finally:
            if not finished:
                self._runtime.tell(Cancel(sequence))

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

    async def preflight(self, request: Request, *, pictures: bool = False) -> Preflight:
        """What a request would cost: its tokens, what each medium becomes, what is left of the context, what is cached.

        Only the prompt is built for it, and it counts nowhere. A prompt that does not fit is told by `left` < 0, not by
        an error. pictures: also every frame as a PNG, as the model would see it. Raises EngineError as stream() would.
        """
        card = await self.ready()
        check(request, card, self.config.media)
        with self._tickets.take(is_preflight=True) as ticket:
            loaded, media = await self._preparation.load(request, card, ticket, need_pixels=pictures)
            prompt = await self._preparation.prompt(loaded, must_fit=False)
            try:
                found: Preflight = await self._ask(lambda reply: PreflightCommand(loaded, media, reply, prompt))
            except PixelsMissing:
                loaded, media = await self._preparation.load(request, card, ticket, need_pixels=True)
                found = await self._ask(lambda reply: PreflightCommand(loaded, media, reply, prompt))
            if not pictures:
                return found
            return replace(found, pictures=await self._media.as_seen(request, media, found.media))

    async def detokenize(self, token_ids: list[int]) -> str:
        """Token ids as text, special tokens by their names. Raises BadRequest for an id outside the vocabulary."""
        await self.ready()
        texts = self._runtime.texts
        if texts is None:
            raise Unavailable("The model is not loaded.")
        return await self._media.compute(Request(), partial(texts.decode, token_ids))

    def token_text(self, token_id: int) -> TokenText:
        """What a token id of the model stands for. Any thread, once the model is ready."""
        vocabulary = self._runtime.vocabulary
        if vocabulary is None:
            raise Unavailable("The model is not loaded.")
        return vocabulary.text(token_id)

    async def fit(self, request: Request) -> Request | None:
        """The request with smaller pictures and fewer frames, so that an answer fits; itself where it fits already.

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

    async def blocks(self, *, with_text: bool = True) -> list[BlockInfo]:
        """Every block that the prefix cache holds, oldest first. May wait for one step of the engine thread.

        Text costs that thread time, block by block; who asks often asks without it.
        """
        return await self._ask(lambda reply: ListBlocks(with_text, reply))

    async def block(self, key: str) -> BlockInfo | None:
        """One block with its text, or None when it is not stored (any more). key: BlockInfo.key."""
        raw = _raw_key(key)
        return None if raw is None else await self._ask(lambda reply: GetBlock(raw, reply))

    async def clear_cache(self) -> None:
        """Forget every block, row snapshot and unit of vision features that no running request uses and nobody pinned,
        in memory and on disk; also the decoded media, their thumbnails but those of what is still held, and the
        requests that could be replayed."""
        await self._ask(ClearCache)
        held = {sha256 for block in await self.blocks(with_text=False) for sha256 in block.media}
        held |= {portion.sha256 for unit in await self.features() for portion in unit.media}
        self._media.forget(held)
        self._replayer.forget()

    async def change_block(self, action: ChangeAction, key: str) -> bool:
        """Pin a block and all before it, unpin it, or drop it and all after it. key: BlockInfo.key.

        False when there is no such block, or (drop) when a running request or a pin holds it.
        """
        raw = _raw_key(key)
        return raw is not None and await self._ask(lambda reply: ChangeBlock(action, raw, reply))

    async def features(self) -> list[FeatureInfo]:
        """Every unit of vision features that is held in memory, least recently used first. May wait for one step."""
        return await self._ask(ListFeatures)

    async def change_features(self, action: ChangeAction, key: str) -> bool:
        """Pin, unpin or drop a unit of features. key: FeatureInfo.key. Where pinned units fill the room, new ones are
        not kept.

        False when there is no such unit, or (drop) when it is pinned.
        """
        raw = _raw_key(key)
        return raw is not None and await self._ask(lambda reply: ChangeFeatures(action, raw, reply))

    async def replay(self, request_id: str) -> Replay:
        """Ask a request again, warm and cold, and compare: does the cache change its answer? Greedy, up to 64 tokens.

        One of the last 16 requests with a hit; media are fetched again. Who calls this has checked that the asker may
        see the request (engine.access). Raises ModelNotFound for any other id, Conflict when a medium's content has
        changed, and what stream raises.
        """
        return await self._replayer.replay(request_id)

    async def _count_replay(self, mismatch: bool) -> None:
        await self._ask(lambda reply: CountReplay(mismatch, reply))

    async def _ask(self, make_command: Callable[[Future[T]], Answered]) -> T:
        """What the engine thread replies to a command, which is made with the future for its reply."""
        await self.ready()
        reply: Future[T] = Future()
        self._runtime.tell(make_command(reply))
        return await asyncio.wrap_future(reply)

    def _publish(self, snapshot: Snapshot) -> None:
        if self._snapshot.state != "stopped":  # a model that stop() has not waited for
            self._snapshot = snapshot

    def _fail(self, error: EngineError) -> None:
        """The model is not there and will not be: say so to everyone who waits or comes later."""
        if self._snapshot.state == "stopped":
            return
        self._snapshot = replace(self._snapshot, state="failed", error=error.message)
        if self._loaded.done():
            self._loaded = Future()
        self._loaded.set_exception(error)


def _raw_key(key: str) -> bytes | None:
    try:
        return bytes.fromhex(key)
    except ValueError:
        return None
