"""What a request would cost, before it is sent: its prompt is built and looked up, nothing more. Engine thread only.

No prefill, no vision tower, no counter moves, nothing is stored or touched. Between two steps of the engine one
preflight is answered, so that they never hold up who decodes by more than one processor call.
"""

from __future__ import annotations

import logging
from collections import deque
from time import perf_counter

from engine.cache.prefix import PrefixCache
from engine.config import EngineConfig
from engine.errors import EngineError, Internal
from engine.models.registry import Loaded
from engine.prompt import build as prompt
from engine.prompt.media_first import media_first
from engine.prompt.receipts import receipts
from engine.runtime.commands import PreflightCommand
from engine.types import Preflight

log = logging.getLogger(__name__)


class Preflights:
    """Those that wait, and the answer to each."""

    def __init__(self, config: EngineConfig, loaded: Loaded, prefix: PrefixCache) -> None:
        self._config = config
        self._loaded = loaded
        self._prefix = prefix
        self._waiting: deque[PreflightCommand] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, command: PreflightCommand) -> None:
        """How many may wait is bounded at the door (engine.runtime.tickets)."""
        self._waiting.append(command)

    def turn(self) -> bool:
        """Answer the oldest that somebody still waits for. Returns False when there is none."""
        while self._waiting:
            command = self._waiting.popleft()
            if not command.reply.set_running_or_notify_cancel():
                continue
            try:
                command.reply.set_result(self._look(command))
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

    def _look(self, command: PreflightCommand) -> Preflight:
        request = media_first(command.request) if self._config.media_first else command.request
        started = perf_counter()
        built = command.prompt
        if built is None:
            built = prompt.build(self._loaded, request, command.media, need_pixels=False)
        prompt_ms = (perf_counter() - started) * 1e3
        cached = self._prefix.peek(built, self._loaded.adapter.make_cache(), request)
        if built.lacks_pixels(cached):
            # The request will have them processed.
            built = prompt.build(self._loaded, request, command.media)
            prompt_ms = (perf_counter() - started) * 1e3
        # Without spans nothing is known of which medium is reused: all are encoded.
        media_tokens = sum(placed.tokens for placed in built.media if not placed.ends_by(cached))
        return Preflight(
            tokens=tuple(built.ids),
            context_tokens=self._loaded.card.context_tokens,
            media=receipts(built),
            cached_tokens=cached,
            ttft_ms=self._loaded.adapter.rates.ttft_ms(prompt_ms, len(built.ids) - cached, media_tokens),
        )
