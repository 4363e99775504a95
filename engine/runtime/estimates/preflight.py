"""What a request would cost, before it is sent: its prompt is built and looked up, nothing more. Engine thread only.

No prefill, no vision tower, no counter moves, and the prefix cache is not touched. Between two steps of the engine one
preflight is answered, so that they never hold up who decodes by more than one processor call.
"""

from __future__ import annotations

import logging
from collections import deque

from engine.cache.prefix import PrefixCache
from engine.config import EngineConfig
from engine.errors import EngineError, Internal, MemoryExceeded
from engine.models.registry import Loaded
from engine.prompt.build import build_prompt, with_pixels
from engine.prompt.media_first import in_read_order
from engine.prompt.receipts import receipts
from engine.runtime.commands import PreflightCommand
from engine.runtime.estimates.expectation import Expectations
from engine.runtime.estimates.work import work_of
from engine.runtime.memory_use.encoder_work import missing
from engine.runtime.memory_use.request_memory import RequestMemory
from engine.types import Preflight

log = logging.getLogger(__name__)


class Preflights:
    """Those that wait, and the answer to each."""

    def __init__(
        self,
        config: EngineConfig,
        loaded: Loaded,
        prefix: PrefixCache,
        expectations: Expectations,
        memory: RequestMemory,
    ) -> None:
        self._config = config
        self._loaded = loaded
        self._prefix = prefix
        self._expectations = expectations
        self._memory = memory
        self._waiting: deque[PreflightCommand] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, command: PreflightCommand) -> None:
        """How many may wait is bounded at the door (engine.runtime.intake.tickets)."""
        self._waiting.append(command)

    def turn(self) -> bool:
        """Answer the oldest that somebody still waits for. Returns False when there is none."""
        while self._waiting:
            command = self._waiting.popleft()
            if not command.reply.set_running_or_notify_cancel():
                continue
            try:
                command.reply.set_result(self._cost_of(command))
            except EngineError as e:
                command.reply.set_exception(e)
            except Exception:
                log.exception("a preflight failed")
                command.reply.set_exception(Internal("The prompt could not be built; the server's log has the cause."))
            return True
        return False

    def close(self, error: EngineError) -> None:
        """Nothing will be answered any more."""
        while self._waiting:
            reply = self._waiting.popleft().reply
            if reply.set_running_or_notify_cancel():
                reply.set_exception(error)

    def _cost_of(self, command: PreflightCommand) -> Preflight:
        request, media = in_read_order(command.request, self._config.media_first), command.media
        built = command.prompt
        if built is None:
            built = build_prompt(self._loaded, request, media, need_pixels=False)
        cache = self._loaded.adapter.make_cache()
        num_reused = self._prefix.peek(built, cache, request)
        built = with_pixels(self._loaded, request, media, built, num_reused)  # as the request will be
        to_encode = missing(self._prefix.features, request)
        work = work_of(built, num_reused, to_encode, packed=self._loaded.family.packed)
        # How much of it the disk has, and how fast it is, is not known before it is read.
        is_known = not self._prefix.may_restore(built, cache, request)
        found = Preflight(
            tokens=tuple(built.ids),
            context_tokens=self._loaded.card.context_tokens,
            media=receipts(built),
            cached_tokens=num_reused,
            ttft_ms=self._expectations.ttft_ms(work, self._expectations.others()) if is_known else None,
        )
        if found.left > 0:  # else it does not fit the context, which is told by `left`
            try:
                self._memory.check(work, [len(built.ids)] * request.n)
            except MemoryExceeded as refused:
                refused.cost = found
                raise
        return found
