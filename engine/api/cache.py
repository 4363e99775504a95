"""The routes of the prefix cache: its content, its counters, and changing it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal

from fastapi import APIRouter, Request

from engine.access.visibility import Caller, visible_features
from engine.api.http.guard import guarded_route, operator_only
from engine.config import ServerConfig
from engine.core import Engine
from engine.errors import Conflict, EngineError, ModelNotFound
from engine.types import BlockInfo, CacheStats, FeatureInfo, Json, Replay


def cache_router(engine: Engine, config: ServerConfig) -> APIRouter:
    """/v1/cache. Everybody gets counters, sizes, and details of what they sent; the operator gets all details, and may
    change the cache. See engine.access.visibility."""
    router = APIRouter(prefix="/v1/cache", tags=["Cache"], route_class=guarded_route(config))

    @router.get("/stats", summary="Counters of the prefix cache, and what it holds")
    async def stats() -> Json:
        return stats_json(engine.snapshot().cache)

    @router.get("/blocks", summary="Every stored block of KV")
    async def blocks(http: Request) -> Json:
        caller: Caller = http.state.caller
        stored = await engine.cache.blocks(with_text=caller.operator or bool(caller.owner))
        data = [block_json(block) if caller.sees(block.tenant) else sizes_json(block) for block in stored]
        return {"object": "list", "data": data}

    @router.post("/clear", summary="Forget all that is not in use or pinned")
    async def clear(http: Request) -> Json:
        operator_only(http)
        await engine.cache.clear()
        return stats_json(engine.snapshot().cache)

    @router.post("/replay/{request_id}", summary="Compute an ended request again without the cache, and compare")
    async def replay(request_id: str, http: Request) -> Json:
        operator_only(http)
        return replay_json(await engine.replay(request_id))

    @router.post("/blocks/{key}/{action}", summary="Pin, unpin or drop a block")
    async def change(key: str, action: Literal["pin", "unpin", "drop"], http: Request) -> Json:
        operator_only(http)
        if not await engine.cache.change_block(action, key):
            raise await _refusal(engine, key)
        return {"key": key, "action": action, "done": True}

    @router.get("/features", summary="Every stored unit of vision features")
    async def features(http: Request) -> Json:
        caller: Caller = http.state.caller
        return {"object": "list", "data": [features_json(unit, caller) for unit in await engine.cache.features()]}

    @router.post("/features/{key}/{action}", summary="Pin, unpin or drop a unit of features")
    async def change_features(key: str, action: Literal["pin", "unpin", "drop"], http: Request) -> Json:
        operator_only(http)
        if not await engine.cache.change_features(action, key):
            if all(unit.key != key for unit in await engine.cache.features()):
                raise ModelNotFound(
                    f"There are no features {key!r} in the cache.", code="features_not_found", param="key"
                )
            raise Conflict("A pin holds these features. Unpin them first.")
        return {"key": key, "action": action, "done": True}

    return router


def stats_json(stats: CacheStats) -> Json:
    """Counters since the start, and current sizes. hit_rate: of prompts. token_hit_rate: of tokens."""
    return {
        "enabled": stats.enabled,
        "total_queries": stats.total_queries,
        "hits": stats.hits,
        "misses": stats.misses,
        "hit_rate": stats.hit_rate,
        "token_hit_rate": stats.token_hit_rate,
        "tokens_saved": stats.tokens_saved,
        "tokens_seen": stats.tokens_seen,
        "image_hits": stats.image_hits,
        "video_hits": stats.video_hits,
        "bytes": {"kv": stats.kv_bytes, "snapshots": stats.snapshot_bytes, "features": stats.feature_bytes},
        "kv_layer_bytes": list(stats.kv_layer_bytes),
        "blocks": stats.blocks,
        "blocks_in_use": stats.blocks_in_use,
        "blocks_pinned": stats.blocks_pinned,
        "block_tokens": stats.block_tokens,
        "snapshots": stats.snapshots,
        "features": stats.features,
        "features_pinned": stats.features_pinned,
        "feature_hits": stats.feature_hits,
        "feature_misses": stats.feature_misses,
        "encoder_runs_avoided": stats.encoder_runs_avoided,
        "stored": stats.stored,
        "shared": stats.shared,
        "copied_on_write": stats.copied_on_write,
        "evictions": stats.evictions,
        "cache_verified": stats.cache_verified,
        "cache_mismatches": stats.cache_mismatches,
        "limits": {
            "blocks": stats.max_blocks,
            "bytes": stats.max_bytes,
            "feature_bytes": stats.max_feature_bytes,
        },
        "disk": asdict(stats.disk),
    }


def replay_json(replay: Replay) -> Json:
    """Both answers of a replay, and where they differ first."""
    fields = {**asdict(replay), "equal": replay.equal, "first_difference": replay.first_difference}
    fields["verdict"] = replay.verdict
    return fields


def block_json(block: BlockInfo) -> Json:
    """A block with its text and the sha256 of its media. Ages in seconds."""
    fields = {**asdict(block), "media": list(block.media), "media_hits": list(block.media_hits)}
    del fields["tenant"]
    return fields


def sizes_json(block: BlockInfo) -> Json:
    """A block for a visitor: nothing by which a guess about others' prompts could be checked, so no key either."""
    hidden = {"key", "parent", "text", "media", "media_hits", "tenant"}
    return {name: value for name, value in asdict(block).items() if name not in hidden}


def features_json(unit: FeatureInfo, caller: Caller) -> Json:
    """A unit of features with its media (sha256, which frames of how many), as far as `caller` may see it."""
    fields = asdict(visible_features(unit, caller))
    del fields["tenant"]
    return (
        fields if caller.sees(unit.tenant) else {name: fields[name] for name in fields if name not in ("key", "media")}
    )


async def _refusal(engine: Engine, key: str) -> EngineError:
    """Why a block could not be changed."""
    if await engine.cache.block(key) is None:
        return ModelNotFound(f"There is no block {key!r} in the cache.", code="block_not_found", param="key")
    return Conflict("A running request or a pin holds this block, or one that continues it.")
