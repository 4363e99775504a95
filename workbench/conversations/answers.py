"""Answers being written. An answer belongs to its conversation: it goes on while no page looks. Event loop only.

    Engine.stream ──(task, at the engine's speed)──> AnswerRun's buffer ──(15 times a second)──> each page that looks
                                                            └──(once a second)──> the file

A page never pulls tokens from the engine: a page update costs far more than a token.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from engine.errors import EngineError, Internal
from engine.types import Delta, Done, Event, Request
from workbench.conversations.tokens import TokenList
from workbench.conversations.types import Turn
from workbench.language import t

if TYPE_CHECKING:
    from engine.core import Engine

SAMPLE_HZ = 15.0
FULL_RATE_CHARS_PER_S = 20_000
"""What a slow page can draw. Longer answers are sampled less often, but at least once a second."""

SAVE_S = 1.0
"""A killed process loses what was written since the last save."""

CHECK_S = 1.0

log = logging.getLogger(__name__)
Save = Callable[[Turn], Awaitable[None]]


class AnswerRun:
    """One answer being written: a task reads the stream into this buffer until it ends, fails or is stopped.

    turn: the answer as far as it is written; one that is continued has its beginning already. request: what is asked,
    whose id the engine lists. num_tokens: of this request. error: why it failed.
    """

    def __init__(self, engine: Engine, request: Request, turn: Turn, save: Save) -> None:
        self.request = request
        self.num_tokens = 0
        self.error: EngineError | None = None
        self.ended = asyncio.Event()
        self._engine = engine
        self._turn = turn
        self._save = save
        self._text = [turn.text]
        self._reasoning = [turn.reasoning]
        self._num_chars = len(turn.text) + len(turn.reasoning)
        self._tokens: TokenList | None = None
        self._reasoned_s: list[float] = []  # when the reasoning began, and when the answer did
        self._started_s = time.monotonic()
        self._reading = asyncio.create_task(self._read())
        self._finishing = asyncio.create_task(self._finish())

    @property
    def turn(self) -> Turn:
        if self.ended.is_set():
            return self._turn
        text, reasoning = "".join(self._text), "".join(self._reasoning)
        seconds = self._reasoning_s()
        return replace(self._turn, text=text, reasoning=reasoning, num_tokens=self.num_tokens, reasoning_s=seconds)

    def stop(self) -> None:
        """Close the stream, which cancels the request in the engine. What was read stays."""
        self._reading.cancel()

    async def stopped(self) -> Turn:
        """The whole answer, once it has ended and is saved."""
        await self.ended.wait()
        return self._turn

    def period_s(self) -> float:
        """Time to the next sample. A page draws the whole answer each time, so a long one is sampled less often."""
        return min(1.0, max(1 / SAMPLE_HZ, self._num_chars / FULL_RATE_CHARS_PER_S))

    def waiting(self) -> str:
        """What happens before the first token, from the engine's snapshot."""
        snapshot = self._engine.snapshot()
        request = next((row for row in snapshot.running if row.id == self.request.id), None)
        progress = self._engine.describing(self.request.id)
        if snapshot.state in ("starting", "loading"):
            words = t("Loading the model")
        elif progress is not None:
            words = " · ".join(
                [
                    t("{model} looks at the media", model=progress.model),
                    t("{done} of {all}", done=progress.num_done, all=progress.num_media),
                ]
            )
        elif (card := snapshot.card_of(self.request.model)) is not None and card.server:
            words = t("Waiting for {host}", host=card.server)
        elif request is not None and request.stage == "waiting":
            words = t("Waiting for its turn")
        elif request is not None and request.stage == "restoring":
            words = t("Reading the prompt from disk")
        elif request is not None and 0 < request.prefilled_tokens < request.prompt_tokens:
            words = " · ".join(
                [
                    t("Reading the prompt"),
                    t("{done} of {count} tokens", done=request.prefilled_tokens, count=request.prompt_tokens),
                ]
            )
        else:
            words = t("Reading the prompt")
        waited_s = time.monotonic() - self._started_s
        return words if waited_s < 1 else f"{words} · {waited_s:.0f} s"

    async def _read(self) -> Done | None:
        """The last event. Raises EngineError."""
        await self._engine.ready(self.request.model)
        if self.request.logprobs is not None or self._turn.tokens:
            self._tokens = TokenList(await self._engine.token_texts(self.request.model), self._turn)
        last: Event | None = None
        async with contextlib.aclosing(self._engine.stream(self.request)) as events:
            async for last in events:
                if isinstance(last, Delta):
                    self._add(last)
        return last if isinstance(last, Done) else None

    def _add(self, delta: Delta) -> None:
        self.num_tokens += len(delta.tokens)
        self._num_chars += len(delta.text)
        reasons = delta.channel == "reasoning"
        if len(self._reasoned_s) == (0 if reasons else 1):
            self._reasoned_s.append(time.monotonic())
        (self._reasoning if reasons else self._text).append(delta.text)
        if self._tokens is not None:
            self._tokens.add(delta, is_known=self.request.logprobs is not None)

    def _reasoning_s(self) -> float | None:
        """How long it reasoned; None while it does."""
        if not self._reasoned_s:
            return self._turn.reasoning_s
        if len(self._reasoned_s) == 1 and not self._reading.done():
            return None
        ends_s = [*self._reasoned_s, time.monotonic()]
        return ends_s[1] - ends_s[0]

    async def _finish(self) -> None:
        """Save what is written once a second, and the whole at the end, whichever way it ends."""
        num_saved = 0  # letters: not every server tells each token
        while not (await asyncio.wait({self._reading}, timeout=SAVE_S))[0]:
            if self._num_chars != num_saved:
                num_saved = self._num_chars
                await self._try_to_save(self.turn)
        whole = replace(self._whole(), tokens=self._tokens.tokens if self._tokens else self._turn.tokens)
        await self._try_to_save(whole)
        self._turn = whole  # not before: until it is saved, every page shows it as one that is being written
        self.ended.set()

    def _whole(self) -> Turn:
        written = self.turn
        try:
            done = self._reading.result()
        except asyncio.CancelledError:
            return replace(written, state="stopped")
        except EngineError as error:
            self.error = error
            return replace(written, state="failed", error=error.message)
        except Exception:
            log.exception("an answer failed")
            message = Internal(t("Something went wrong inside the workbench; its log has the details.")).message
            return replace(written, state="failed", error=message)
        return replace(written, state="done" if done else "stopped", done=done)

    async def _try_to_save(self, turn: Turn) -> None:
        try:
            await self._save(turn)
        except Exception:  # the answer itself goes on
            log.exception("an answer could not be saved")


class Answers:
    """The answers that are being written, by conversation, and who looks at them.

    unwatched_s: how long one goes on that no page looks at.
    """

    def __init__(self, unwatched_s: float) -> None:
        self._unwatched_s = unwatched_s
        self._runs: dict[str, AnswerRun] = {}
        self._num_watchers: dict[str, int] = {}
        self._seen_s: dict[str, float] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def get(self, conversation: str) -> AnswerRun | None:
        """The answer that is being written there, if any."""
        run = self._runs.get(conversation)
        return None if run is None or run.ended.is_set() else run

    @property
    def conversations(self) -> set[str]:
        """Those whose answer is being written."""
        return {conversation for conversation in self._runs if self.get(conversation)}

    def add(self, conversation: str, run: AnswerRun, on_end: Callable[[AnswerRun], None]) -> None:
        """on_end: called once the whole answer is saved."""
        self._runs[conversation] = run
        self.run_in_background(self._follow(conversation, run, on_end))

    def run_in_background(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)

    async def stop(self, conversation: str) -> None:
        """End the answer of a conversation, and wait until it is saved. Nothing where none is written."""
        run = self._runs.get(conversation)
        if run is not None:
            run.stop()
            await run.stopped()
            if self._runs.get(conversation) is run:
                del self._runs[conversation]

    @contextlib.contextmanager
    def watching(self, conversation: str) -> Iterator[None]:
        """While a page looks at a conversation."""
        self._num_watchers[conversation] = self._num_watchers.get(conversation, 0) + 1
        try:
            yield
        finally:
            self._num_watchers[conversation] -= 1
            if not self._num_watchers[conversation]:
                del self._num_watchers[conversation]
            if conversation in self._runs:
                self._seen_s[conversation] = time.monotonic()

    async def _follow(self, conversation: str, run: AnswerRun, on_end: Callable[[AnswerRun], None]) -> None:
        """Stop an answer that nobody has looked at for too long; tell of its end."""
        began_s = time.monotonic()
        while not run.ended.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(run.ended.wait(), min(CHECK_S, self._unwatched_s))
            unwatched_s = time.monotonic() - max(began_s, self._seen_s.get(conversation, 0.0))
            if conversation not in self._num_watchers and unwatched_s >= self._unwatched_s:
                run.stop()
        if self._runs.get(conversation) in (run, None):
            self._runs.pop(conversation, None)
            self._seen_s.pop(conversation, None)
        on_end(run)
