"""Engine.cache: what the caches of all models hold, and what a person may do with it.

Any event loop; each call may wait for one step of the engine thread.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.runtime.commands import (
    ChangeAction,
    ChangeBlock,
    ChangeFeatures,
    ClearCache,
    GetBlock,
    ListBlocks,
    ListFeatures,
)
from engine.runtime.intake.asking import Asking
from engine.types import BlockInfo, FeatureInfo


class CacheInspection:
    """forget: lets go what is kept beside the cache, but for media with these content hashes."""

    def __init__(self, asking: Asking, forget: Callable[[set[str]], None]) -> None:
        self._asking = asking
        self._forget = forget

    async def blocks(self, *, with_text: bool = True) -> list[BlockInfo]:
        """Every block that the prefix cache holds, oldest first.

        Text costs the engine thread time, block by block; who asks often asks without it.
        """
        return await self._asking.reply(lambda reply: ListBlocks(with_text, reply))

    async def block(self, key: str) -> BlockInfo | None:
        """One block with its text, or None when it is not stored (any more). key: BlockInfo.key."""
        raw = _raw_key(key)
        return None if raw is None else await self._asking.reply(lambda reply: GetBlock(raw, reply))

    async def clear(self) -> None:
        """Forget every block, row snapshot and unit of vision features that no running request uses and nobody pinned,
        in memory and on disk; also the decoded media, their thumbnails but those of what is still held, descriptions,
        and the requests that could be replayed."""
        await self._asking.reply(ClearCache)
        held = {sha256 for block in await self.blocks(with_text=False) for sha256 in block.media}
        held |= {portion.sha256 for unit in await self.features() for portion in unit.media}
        self._forget(held)

    async def change_block(self, action: ChangeAction, key: str) -> bool:
        """Pin a block and all before it, unpin it, or drop it and all after it. key: BlockInfo.key.

        False when there is no such block, or (drop) when a running request or a pin holds it.
        """
        raw = _raw_key(key)
        return raw is not None and await self._asking.reply(lambda reply: ChangeBlock(action, raw, reply))

    async def features(self) -> list[FeatureInfo]:
        """Every unit of vision features that is held in memory, least recently used first."""
        return await self._asking.reply(ListFeatures)

    async def change_features(self, action: ChangeAction, key: str) -> bool:
        """Pin, unpin or drop a unit of features. key: FeatureInfo.key. Where pinned units fill the room, new ones are
        not kept.

        False when there is no such unit, or (drop) when it is pinned.
        """
        raw = _raw_key(key)
        return raw is not None and await self._asking.reply(lambda reply: ChangeFeatures(action, raw, reply))


def _raw_key(key: str) -> bytes | None:
    try:
        return bytes.fromhex(key)
    except ValueError:
        return None
