"""Where stored blocks come from: whose they are and which pictures and clips they hold. Engine thread only.

Blocks know token ids and hashes alone; the Cache tab shows names. What is remembered is bounded: the oldest is
forgotten, and a block of which nothing is known is shown without it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from engine.cache.table import Block
from engine.types import BlockInfo
from engine.types.media import Media
from engine.types.prompt import MEDIUM, Prompt, media_id

_MAX_CONTENTS = 4096
_MAX_TENANTS = 4096

DecodeIds = Callable[[Sequence[int]], str]


def decode_ids(cache_ids: Iterable[int], decode: DecodeIds) -> str:
    """Cache ids as text: each run of a medium's ids becomes one MEDIUM."""
    runs = groupby(cache_ids, key=lambda i: i if i < 0 else 0)
    return "".join(MEDIUM if i < 0 else decode(list(run)) for i, run in runs)


class Provenance:
    """Tenants by the root of their chains, contents by the negative id they have in prompts."""

    def __init__(self) -> None:
        self._contents: OrderedDict[int, str] = OrderedDict()
        self._tenants: OrderedDict[bytes, str] = OrderedDict()
        self._reuses: Counter[tuple[bytes, str]] = Counter()

    def add_tenant(self, root: bytes, tenant: str) -> None:
        """Chains from this root are this tenant's."""
        self._tenants[root] = tenant
        self._tenants.move_to_end(root)
        if len(self._tenants) > _MAX_TENANTS:
            self._tenants.popitem(last=False)

    def add_media(self, prompt: Prompt) -> None:
        """Which content each negative id of this prompt stands for."""
        for placed in prompt.media:
            self._contents[media_id(placed.content)] = placed.media.sha256
        while len(self._contents) > _MAX_CONTENTS:
            self._contents.popitem(last=False)

    def count_reuses(self, root: bytes, media: Iterable[Media]) -> None:
        """A prompt has reused each of these whole."""
        self._reuses.update((root, medium.sha256) for medium in media)
        while len(self._reuses) > _MAX_CONTENTS:
            self._reuses.pop(next(iter(self._reuses)))

    def clear(self) -> None:
        """Count reuses from 0."""
        self._reuses.clear()

    def describe(self, block: Block, root: bytes, decode: DecodeIds | None, now_s: float) -> BlockInfo:
        """A block as the Cache tab shows it; without decode there is no text. now_s: on the pool's clock."""
        media = tuple(dict.fromkeys(self._contents[i] for i in block.ids if i in self._contents))
        return BlockInfo(
            key=block.hash.hex(),
            parent=block.parent.hex(),
            start=block.start,
            num_tokens=len(block.ids),
            num_bytes=block.num_bytes,
            refs=block.refs,
            hits=block.hits,
            pinned=block.pinned,
            age_s=now_s - block.created_s,
            idle_s=now_s - block.last_use_s,
            text=decode_ids(block.ids, decode) if decode else "",
            media=media,
            media_hits=tuple(self._reuses[root, sha256] for sha256 in media),
            tenant=self._tenants.get(root),
        )
