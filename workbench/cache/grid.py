"""The block pool -> squares, pictures and details of the Cache tab. Pure: no Gradio, no engine, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.access.visibility import Caller, visible_block
from engine.types import BlockInfo, FeatureInfo, Json, MediaPortion
from workbench.language import t, tn
from workbench.words import ago, plural, size


def cells(blocks: Sequence[BlockInfo], block_tokens: int, caller: Caller) -> list[Json]:
    """A square for each block, followed by the blocks that continue it. Blocks of others have no key and no picture."""
    visible = [visible_block(block, caller) for block in in_chains(blocks)]
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
        for place, block in enumerate(visible)
    ]


def state(block: BlockInfo) -> str:
    if block.pinned:
        return "pinned"
    return "used" if block.refs else "stored"


def in_chains(blocks: Iterable[BlockInfo]) -> list[BlockInfo]:
    """The blocks, each followed by those that continue it; oldest prompt first."""
    all_blocks = list(blocks)
    keys = {block.key for block in all_blocks}
    children: dict[str, list[BlockInfo]] = {}
    for block in all_blocks:
        children.setdefault(block.parent if block.parent in keys else "", []).append(block)
    out, stack = [], children.get("", [])[::-1]
    while stack:
        out.append(stack.pop())
        stack += children.get(out[-1].key, [])[::-1]
    return out


def media(blocks: Sequence[BlockInfo], units: Sequence[FeatureInfo] = ()) -> list[Json]:
    """Every picture and clip in these blocks and features.

    kv: number and size of its blocks, and how often it was reused as a whole; block: the first of them, whose details a
    click opens. features: the same for its vision features. frames: for each frame of a clip, whether its features are
    stored.
    """
    kv: dict[str, list[BlockInfo]] = {}
    hits: dict[str, int] = {}
    for block in blocks:
        for sha256, num_hits in zip(block.media, block.media_hits, strict=True):
            kv.setdefault(sha256, []).append(block)
            hits[sha256] = max(num_hits, hits.get(sha256, 0))
    features: dict[str, list[tuple[FeatureInfo, MediaPortion]]] = {}
    for unit in units:
        for part in unit.media:
            features.setdefault(part.sha256, []).append((unit, part))
    return [
        {
            "medium": sha256,
            "block": kv[sha256][0].key if sha256 in kv else None,
            "kv": _kv(kv[sha256], hits[sha256]) if sha256 in kv else None,
            "features": _features(features[sha256]) if sha256 in features else None,
            "frames": _frames([part for _, part in features.get(sha256, ())]),
        }
        for sha256 in dict.fromkeys((*kv, *features))
    ]


def _kv(blocks: Sequence[BlockInfo], num_hits: int) -> Json:
    return {
        "pinned": all(block.pinned for block in blocks),
        "words": f"{plural(len(blocks), 'block')} · {size(sum(block.num_bytes for block in blocks))}",
        "hits": times(num_hits),
    }


def _features(pairs: Sequence[tuple[FeatureInfo, MediaPortion]]) -> Json:
    units = {unit.key: unit for unit, _ in pairs}.values()
    num_frames = max(part.num_frames for _, part in pairs)
    held = sum(_frames([part for _, part in pairs]))
    of = tn("{held} of {count} frame", "{held} of {count} frames", num_frames, held=held) + " · " if num_frames else ""
    return {
        "pinned": all(unit.pinned for unit in units),
        "words": of + size(sum(unit.num_bytes for unit in units)),
        "hits": times(max(unit.hits for unit in units)),
    }


def _frames(parts: Sequence[MediaPortion]) -> list[bool]:
    """For each frame of a clip, whether these parts hold it; [] for a picture."""
    here = {frame for part in parts for frame in part.frames}
    return [frame in here for frame in range(max((part.num_frames for part in parts), default=0))]


def details(block: BlockInfo) -> Json:
    """What a click on a square opens."""
    users = (
        tn("in use by {count} running request", "in use by {count} running requests", block.refs)
        if block.refs
        else t("in use by no running request")
    )
    return {
        "key": block.key,
        "text": block.text,
        "media": list(block.media),
        "pinned": block.pinned,
        "facts": [
            t("tokens {first} to {last} of its prompt", first=block.start + 1, last=block.start + block.num_tokens),
            size(block.num_bytes),
            times(block.hits),
            users,
            t("stored {when}, last used {used}", when=ago(block.age_s), used=ago(block.idle_s))
            if block.hits
            else t("stored {when}", when=ago(block.age_s)),
        ],
    }


def times(hits: int) -> str:
    return tn("reused once", "reused {count} times", hits) if hits else t("not reused yet")
