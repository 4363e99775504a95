"""The block pool -> squares, pictures and details of the Cache tab. Pure: no Gradio, no engine, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from engine.privacy import Caller, visible_block
from engine.types import BlockInfo
from workbench.header import size

Json = dict[str, Any]


def cells(blocks: Sequence[BlockInfo], block_tokens: int, who: Caller) -> list[Json]:
    """One square per block; what continues a block stands behind it. Others' blocks have no key and no picture."""
    shown = [visible_block(block, who) for block in in_chains(blocks)]
    return [
        {
            "key": block.key or f"{place}",
            "opens": block.start == 0,
            "state": state(block),
            "fill": round(block.num_tokens / block_tokens, 2),
            "readable": bool(block.key),
            "medium": block.media[0] if block.media else None,
            "title": f"{plural(block.num_tokens, 'token')} · {size(block.num_bytes)} · {times(block.hits)}",
        }
        for place, block in enumerate(shown)
    ]


def state(block: BlockInfo) -> str:
    if block.pinned:
        return "pinned"
    return "used" if block.refs else "stored"


def in_chains(blocks: Iterable[BlockInfo]) -> list[BlockInfo]:
    """Blocks so that each prompt's beginning is followed by what continues it; oldest beginning first."""
    held = list(blocks)
    keys = {block.key for block in held}
    children: dict[str, list[BlockInfo]] = {}
    for block in held:
        children.setdefault(block.parent if block.parent in keys else "", []).append(block)
    out, stack = [], children.get("", [])[::-1]
    while stack:
        out.append(stack.pop())
        stack += children.get(out[-1].key, [])[::-1]
    return out


def media(blocks: Sequence[BlockInfo]) -> list[Json]:
    """Every picture and clip in these blocks: in how many, of how many bytes, in how many prompts it was reused whole,
    and the first of its blocks, to look at."""
    holders: dict[str, list[BlockInfo]] = {}
    hits: dict[str, int] = {}
    for block in blocks:
        for sha256, num_hits in zip(block.media, block.media_hits, strict=True):
            holders.setdefault(sha256, []).append(block)
            hits[sha256] = max(num_hits, hits.get(sha256, 0))
    return [
        {
            "medium": sha256,
            "block": held[0].key,
            "pinned": all(block.pinned for block in held),
            "words": f"{plural(len(held), 'block')} · {size(sum(block.num_bytes for block in held))}",
            "hits": times(hits[sha256]),
        }
        for sha256, held in holders.items()
    ]


def details(block: BlockInfo) -> Json:
    """What a click on a square tells."""
    users = f"in use by {plural(block.refs, 'running request')}" if block.refs else "in use by no running request"
    return {
        "key": block.key,
        "text": block.text,
        "media": list(block.media),
        "pinned": block.pinned,
        "facts": [
            f"tokens {block.start + 1:,} to {block.start + block.num_tokens:,} of its prompt",
            size(block.num_bytes),
            times(block.hits),
            users,
            f"stored {ago(block.age_s)}, last used {ago(block.idle_s)}",
        ],
    }


def times(hits: int) -> str:
    return {0: "not reused yet", 1: "reused once"}.get(hits, f"reused {hits:,} times")


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def ago(seconds: float) -> str:
    """ "just now", "12 s ago", "5 min ago", "3 h ago"."""
    if seconds < 1:
        return "just now"
    for unit, length in (("s", 1.0), ("min", 60.0)):
        if seconds < 120 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds / 3600:.0f} h ago"
