"""The process of a rank other than 0: it serves nobody, and does with its part of the model what rank 0 tells it."""

from __future__ import annotations

import logging
import os
import signal
import threading
from contextlib import suppress
from typing import NoReturn

from engine import device
from engine.config import EngineConfig
from engine.errors import EngineError, Unavailable
from engine.ranks.place import RankPlace, leave

log = logging.getLogger(__name__)


def follow_unless_first(config: EngineConfig) -> None:
    """Return at once in a process that serves. One that holds a further part of the model follows rank 0, and ends with
    it. To be called before anything else is made. Raises EngineError."""
    if config.ranks is not None and not config.ranks.leads:
        _follow(config, config.ranks)


def _on_signals(what: signal.Handlers) -> None:
    if threading.current_thread() is threading.main_thread():
        for asked in (signal.SIGTERM, signal.SIGINT):
            signal.signal(asked, what)


def _follow(config: EngineConfig, place: RankPlace) -> NoReturn:
    """Do what rank 0 tells, and end this process when it ends, or is gone."""
    # Until it can hear rank 0: MLX may wait for the others without end, and no handler in Python would run meanwhile.
    _on_signals(signal.SIG_DFL)
    device.prepare()
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    import mlx.core as mx

    from engine.models import cpu, mlx_memory
    from engine.models.replica import Replica
    from engine.models.sharding import joined, told_by_first
    from engine.ranks.follower import FollowerLine

    mlx_memory.limit_mlx_cache()
    mlx_memory.set_wired_limit(config.wired_limit_bytes)
    cpu.use()

    def memory() -> dict[str, int]:
        return {
            "active_bytes": mx.get_active_memory(),
            "cache_bytes": mx.get_cache_memory(),
            "peak_bytes": mx.get_peak_memory(),
            "process_bytes": device.process_bytes() or 0,
            "total_bytes": device.describe().memory_bytes,
        }

    group = joined(place)
    line = FollowerLine(place, told_by_first(group), memory)
    _on_signals(signal.SIG_IGN)  # rank 0 lets running answers come to their end first, and tells then
    print(f"Rank {place.rank} of {place.size} follows rank 0 at {place.host}", flush=True)
    replica = Replica(config, group, line.answer)
    while True:
        message, parts = line.next()
        if message["do"] == "end":
            mx.synchronize()
            leave(0)  # the threads of the line and of MLX have nothing to end
        try:
            replica.do(message, parts)
        except Exception as error:
            log.exception("rank %d cannot go on", place.rank)
            why = error.message if isinstance(error, EngineError) else f"{type(error).__name__}: {error}"
            with suppress(OSError):
                line.failed(why)
            raise Unavailable(f"Rank {place.rank} cannot go on: {why}", code="rank_lost") from error
