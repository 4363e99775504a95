"""What a command to the cache does, and what it is answered. Engine thread only."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engine.cache.prefix import PrefixCache
from engine.errors import Internal
from engine.models.registry import Loaded
from engine.runtime.commands import (
    CacheCommand,
    ChangeBlock,
    ChangeFeatures,
    ClearCache,
    CountReplay,
    GetBlock,
    ListBlocks,
    ListFeatures,
)

if TYPE_CHECKING:
    from engine.runtime.stats import EngineStats
    from engine.runtime.worker import Worker

log = logging.getLogger(__name__)


def answer(command: CacheCommand, workers: Sequence[Worker], stats: EngineStats) -> None:
    """Answer a command with what the caches of these models say together."""
    if not command.reply.set_running_or_notify_cancel():
        return
    try:
        result = _together(command, [worker.carry_out(command) for worker in workers])
        if not isinstance(command, ListBlocks | GetBlock | ListFeatures):
            stats.show(force=True)  # before the answer: who gets it looks at the snapshot next
    except Exception:
        log.exception("the cache failed on %s", type(command).__name__)
        command.reply.set_exception(Internal("The cache could not do that; the server's log has the cause."))
    else:
        command.reply.set_result(result)


def _together(command: CacheCommand, results: Sequence[Any]) -> Any:
    match command:
        case ListBlocks():
            blocks = [block for stored in results for block in stored]
            return sorted(blocks, key=lambda block: -block.age_s) if len(results) > 1 else blocks
        case ListFeatures():
            units = [unit for stored in results for unit in stored]
            return sorted(units, key=lambda unit: -unit.idle_s) if len(results) > 1 else units
        case GetBlock():
            return next((block for block in results if block is not None), None)
        case ChangeBlock() | ChangeFeatures():
            return any(results)
    return None


def carry_out(command: CacheCommand, prefix: PrefixCache, loaded: Loaded) -> Any:
    """Look at what the cache holds, or change it. Returns what the command's reply takes."""
    match command:
        case ListBlocks(with_text=with_text):
            return prefix.blocks(loaded.decode if with_text else None)
        case GetBlock(key=key):
            return prefix.block(key, loaded.decode)
        case ListFeatures():
            return prefix.features.infos()
        case ClearCache():
            prefix.clear()
            loaded.grids.clear()
        case CountReplay(mismatch=mismatch):
            prefix.count_replay(mismatch)
        case ChangeBlock(action=action, key=key):
            return prefix.drop_block(key) if action == "drop" else prefix.pin_block(key, action == "pin")
        case ChangeFeatures(action=action, key=key):
            return prefix.drop_features(key) if action == "drop" else prefix.pin_features(key, action == "pin")
    return None
