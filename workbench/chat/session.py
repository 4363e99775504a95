"""The state of one browser tab, and the reading of one answer. Event loop only; no Gradio, no MLX.

    Engine.stream ──(task, at the engine's speed)──> LiveAnswer's buffer ──(15 times a second)──> the page

The page never pulls tokens from the engine: a page update costs far more than a token.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from engine.errors import EngineError, Internal
from engine.types import Delta, Done, Event, Part, Preflight, Request
from workbench.chat.convert import ChatEntry, Entries, note, stopped_note

if TYPE_CHECKING:
    from engine.core import Engine

SAMPLE_HZ = 15.0
FULL_RATE_CHARS_PER_S = 20_000
"""What a slow page can draw. Longer answers are sampled less often, but at least once a second."""

BEAT_S = 0.25
"""Longest time between two samples: a closed page is noticed at the next one, and the waiting time is updated."""

log = logging.getLogger(__name__)


class Session:
    """One browser tab: its entries and the answer being written, if any. Never shared between tabs."""

    def __init__(self) -> None:
        self.entries: Entries = ()
        self.answer: LiveAnswer | None = None
        self.fitted: dict[str, Part] = {}  # files in the composer that were made smaller to fit, by path
        self.estimate: asyncio.Task[Preflight] | None = None

    def stop(self) -> None:
        if self.answer is not None:
            self.answer.stop()

    def request(self, request_id: str) -> Request | None:
        """The request of an answer in this chat. Returns None if the chat no longer has it."""
        requests = (entry.request for entry in self.entries if entry.request is not None)
        return next((request for request in requests if request.id == request_id), None)

    def clear(self) -> None:
        self.stop()
        self.entries, self.answer, self.fitted = (), None, {}


class LiveAnswer:
    """One answer being written: a task reads the stream into this buffer until it ends, fails or is stopped."""

    def __init__(self, engine: Engine, request: Request) -> None:
        self.request = dataclasses.replace(request, id=f"chat-{uuid.uuid4().hex}")
        self.done: Done | None = None
        self.error: EngineError | None = None
        self.num_tokens = 0
        self._engine = engine
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._reasoned_s: list[float] = []  # when reasoning began, and when the answer did
        self._started_s = time.monotonic()
        self._ended = asyncio.Event()
        self._task = asyncio.create_task(self._read())

    def stop(self) -> None:
        """Close the stream, which cancels the request in the engine. What was read stays."""
        self._task.cancel()

    async def samples(self) -> AsyncIterator[Entries]:
        """The entries to show, after new text, at most SAMPLE_HZ times a second; at last the whole answer."""
        num_shown, shown_s = -1, 0.0
        while not self._ended.is_set():
            now_s = time.monotonic()
            if self.num_tokens != num_shown or now_s - shown_s >= BEAT_S:
                num_shown, shown_s = self.num_tokens, now_s
                yield self._written() or (self._waiting(),)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), self._period_s())
        yield (*self._written(), self._note())

    def _period_s(self) -> float:
        """Time to the next sample. The page draws the whole answer each time, so a long one is sampled less often."""
        num_chars = sum(map(len, self._text)) + sum(map(len, self._reasoning))
        return min(1.0, max(1 / SAMPLE_HZ, num_chars / FULL_RATE_CHARS_PER_S))

    async def _read(self) -> None:
        try:
            await self._engine.ready()
            async with contextlib.aclosing(self._engine.stream(self.request)) as events:
                async for event in events:
                    self._add(event)
        except EngineError as error:
            self.error = error
        except Exception:
            log.exception("an answer failed")
            self.error = Internal("Something went wrong inside the workbench; its log has the details.")
        finally:
            self._ended.set()

    def _add(self, event: Event) -> None:
        if isinstance(event, Delta):
            self.num_tokens += len(event.tokens)
            reasons = event.channel == "reasoning"
            if len(self._reasoned_s) == (0 if reasons else 1):
                self._reasoned_s.append(time.monotonic())
            (self._reasoning if reasons else self._text).append(event.text)
        else:
            self.done = event

    def _written(self) -> Entries:
        thought = ChatEntry("assistant", "reasoning", "".join(self._reasoning), duration_s=self._duration_s())
        both = (thought, ChatEntry("assistant", "text", "".join(self._text)))
        return tuple(entry for entry in both if entry.text)

    def _duration_s(self) -> float | None:
        """How long it reasoned; None while it does."""
        if not self._reasoned_s or (len(self._reasoned_s) == 1 and not self._ended.is_set()):
            return None
        ends_s = [*self._reasoned_s, time.monotonic()]
        return ends_s[1] - ends_s[0]

    def _note(self) -> ChatEntry:
        if self.error is not None:
            return ChatEntry("assistant", "error", self.error.message)
        if self.done is None:
            return ChatEntry("assistant", "note", stopped_note(self.num_tokens))
        return ChatEntry("assistant", "note", note(self.done), request=self.request, media=self.done.media)

    def _waiting(self) -> ChatEntry:
        """The state before the first token, from the engine's snapshot."""
        snapshot = self._engine.snapshot()
        request = next((row for row in snapshot.running if row.id == self.request.id), None)
        if snapshot.state in ("starting", "loading"):
            words = "Loading the model"
        elif request is not None and request.stage == "waiting":
            words = "Waiting for its turn"
        elif request is not None and request.stage == "restoring":
            words = "Reading the prompt from disk"
        elif request is not None and 0 < request.prefilled_tokens < request.prompt_tokens:
            words = f"Reading the prompt · {request.prefilled_tokens:,} of {request.prompt_tokens:,} tokens"
        else:
            words = "Reading the prompt"
        waited_s = time.monotonic() - self._started_s
        return ChatEntry("assistant", "busy", words if waited_s < 1 else f"{words} · {waited_s:.0f} s")
