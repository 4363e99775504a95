"""What a command to the cache does, and what it is answered. Engine thread only."""

from __future__ import annotations

from typing import Any

from engine.cache.prefix import PrefixCache
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
