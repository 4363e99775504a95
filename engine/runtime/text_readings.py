"""Texts that are read for their vectors or scores, beside the requests that are answered. Engine thread only.

    ReadCommand ──> waiting, its texts from the shortest to the longest ──> a pass in each turn ──> its reply

Between two turns of the scheduler one pass is made, no longer than half a chunk of a prompt while others wait for their
tokens. Commands take turns, so that a short one behind a long one does not wait for all of it. One whose asker is gone
is dropped before its next pass.
"""

from __future__ import annotations

import logging
from collections import deque

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError, Internal
from engine.models.text_reader import LongText, TextReader
from engine.runtime.commands import ReadCommand
from engine.runtime.scheduler import Scheduler
from engine.runtime.stats import EngineStats

log = logging.getLogger(__name__)


class _Reading:
    """One command on its way. order: places of its texts, the shortest first; num_done of them are read; long_text: the
    next one, while it is read chunk by chunk."""

    def __init__(self, command: ReadCommand) -> None:
        self.command = command
        self.order = sorted(range(len(command.texts)), key=lambda i: len(command.texts[i]))
        self.num_done = 0
        self.long_text: LongText | None = None
        self._found: list[NDArray[np.float32]] = []

    @property
    def is_done(self) -> bool:
        return self.num_done == len(self.order)

    @property
    def lengths(self) -> list[int]:
        """Tokens of the texts that are left."""
        return [len(self.command.texts[i]) for i in self.order[self.num_done :]]

    def next_texts(self, num_texts: int) -> list[tuple[int, ...]]:
        return [self.command.texts[i] for i in self.order[self.num_done : self.num_done + num_texts]]

    def add(self, found: NDArray[np.float32]) -> None:
        """What the next texts came to."""
        self._found.append(found)
        self.num_done += len(found)

    def whole(self) -> NDArray[np.float32]:
        """(texts, width), in the order of the command."""
        found = np.concatenate(self._found)
        return found[np.argsort(np.array(self.order))]


class TextReadings:
    """Those of one model."""

    def __init__(self, reader: TextReader, scheduler: Scheduler, stats: EngineStats) -> None:
        self._reader = reader
        self._scheduler = scheduler
        self._stats = stats
        self._waiting: deque[_Reading] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, command: ReadCommand) -> None:
        """How many may wait is bounded at the door (engine.runtime.intake.tickets)."""
        self._stats.count(requests=1)
        self._waiting.append(_Reading(command))

    def turn(self) -> bool:
        """One pass of the first command that has room for it. False where there is none."""
        for reading in [reading for reading in self._waiting if reading.command.reply.cancelled()]:
            self._leave(reading)
            self._stats.count(cancelled=1)
        for reading in list(self._waiting):
            self._waiting.rotate(-1)
            clock = reading.command.clock
            clock.enter("prefill")
            try:
                has_read = self._pass(reading)
                if not reading.is_done:
                    clock.enter("turns")
                if not has_read:
                    continue
            except Exception:
                log.exception("texts could not be read")
                self._fail(reading, Internal("The model failed on these texts; the server's log has the cause."))
            return True
        return False

    def close(self, error: EngineError) -> None:
        """Nothing will be read any more."""
        for reading in list(self._waiting):
            self._fail(reading, error)

    def _pass(self, reading: _Reading) -> bool:
        """False for a long text that waits for memory."""
        scheduler, reader = self._scheduler, self._reader
        num_tokens = scheduler.idle_chunk_tokens if not len(scheduler) else max(1, scheduler.chunk_tokens // 2)
        if reading.long_text is None:
            lengths = reading.lengths
            num_texts = reader.fitting(lengths, num_tokens)
            if num_texts:
                reading.add(reader.read(reading.next_texts(num_texts)))
            elif scheduler.try_read(lengths[0]):
                scheduler.reading_tokens = lengths[0]
                reading.long_text = reader.begin(reading.next_texts(1)[0])
            else:
                return False
        if reading.long_text is not None:
            found = reader.go_on(reading.long_text, num_tokens)
            if found is not None:
                self._end_long(reading)
                reading.add(found)
        if reading.is_done:
            self._finish(reading)
        return True

    def _finish(self, reading: _Reading) -> None:
        self._leave(reading)
        reply = reading.command.reply
        if reply.set_running_or_notify_cancel():
            self._stats.count(finished=1, prompt_tokens=sum(map(len, reading.command.texts)))
            self._stats.show(force=True)
            reply.set_result(reading.whole())
        else:
            self._stats.count(cancelled=1)

    def _fail(self, reading: _Reading, error: EngineError) -> None:
        self._leave(reading)
        self._stats.count(failed=1)
        if reading.command.reply.set_running_or_notify_cancel():
            reading.command.reply.set_exception(error)

    def _leave(self, reading: _Reading) -> None:
        self._waiting.remove(reading)
        self._end_long(reading)

    def _end_long(self, reading: _Reading) -> None:
        if reading.long_text is not None:
            reading.long_text, self._scheduler.reading_tokens = None, 0
