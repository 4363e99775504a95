"""The block pool -> squares, pictures and details of the Cache tab. Pure: no Gradio, no engine, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.access.visibility import Caller, visible_block
from engine.types import BlockInfo, FeatureInfo, Json, MediaPortion
from workbench.words import ago, plural, size


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


def media(blocks: Sequence[BlockInfo], units: Sequence[FeatureInfo] = ()) -> list[Json]:
    """Every picture and clip in these blocks and features.

    kv: in how many blocks, of how many bytes, in how many prompts it was reused whole; block: the first of them, to
    look at. features: the same of what the encoder made of it. frames: of a clip, whether each frame's are held.
    """
    kv: dict[str, list[BlockInfo]] = {}
    hits: dict[str, int] = {}
    for block in blocks:
        for sha256, num_hits in zip(block.media, block.media_hits, strict=True):
            kv.setdefault(sha256, []).append(block)
            hits[sha256] = max(num_hits, hits.get(sha256, 0))
    features: dict[str, list[tuple[FeatureInfo, MediaPortion]]] = {}
    for unit in units:
        for portion in unit.media:
            features.setdefault(portion.sha256, []).append((unit, portion))
    return [
        {
            "medium": sha256,
            "block": kv[sha256][0].key if sha256 in kv else None,
            "kv": _kv(kv[sha256], hits[sha256]) if sha256 in kv else None,
            "features": _features(features[sha256]) if sha256 in features else None,
            "frames": _frames([portion for _, portion in features.get(sha256, ())]),
        }
        for sha256 in dict.fromkeys((*kv, *features))
    ]


def _kv(held: Sequence[BlockInfo], num_hits: int) -> Json:
    return {
        "pinned": all(block.pinned for block in held),
        "words": f"{plural(len(held), 'block')} · {size(sum(block.num_bytes for block in held))}",
        "hits": times(num_hits),
    }


def _features(held: Sequence[tuple[FeatureInfo, MediaPortion]]) -> Json:
    parts = {unit.key: unit for unit, _ in held}.values()
    num_frames = max(portion.num_frames for _, portion in held)
    of = f"{sum(_frames([portion for _, portion in held]))} of {plural(num_frames, 'frame')} · " if num_frames else ""
    return {
        "pinned": all(unit.pinned for unit in parts),
        "words": of + size(sum(unit.num_bytes for unit in parts)),
        "hits": times(max(unit.hits for unit in parts)),
    }


def _frames(portions: Sequence[MediaPortion]) -> list[bool]:
    """Of each frame of a clip whether it is among these; nothing for a picture."""
    here = {frame for portion in portions for frame in portion.frames}
    return [frame in here for frame in range(max((portion.num_frames for portion in portions), default=0))]


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
