"""GET /health, and what a supervisor asks: is it alive, is it ready. No key, so that it can ask."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from engine.api.answering.failures import error_response
from engine.api.models.cards import model_json, stage_word, without_folder, words_without_folders
from engine.core import Engine
from engine.errors import Unavailable
from engine.types import BatchState, Json, ModelState, RankMemory, Snapshot, State, added_bytes

STATUS = {"starting": "loading", "loading": "loading", "ready": "ok", "failed": "failed", "stopped": "stopped"}
GONE: tuple[State, ...] = ("failed", "stopped")
"""Only a new process helps then."""


def health_router(engine: Engine) -> APIRouter:
    """/health tells everything; /health/live and /health/ready answer one question each by their status.

    https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/
    """
    router = APIRouter(prefix="/health", tags=["Server"])

    @router.get("", summary="Its state, and what it holds")
    async def health() -> Response:
        snapshot = engine.snapshot()
        status = 503 if snapshot.state in GONE else 200
        return JSONResponse(health_json(snapshot, engine.media_bytes(), engine.config.max_queue), status_code=status)

    @router.get("/live", summary="Whether this process is worth keeping")
    async def live() -> Response:
        snapshot = engine.snapshot()
        if snapshot.state in GONE:
            return error_response(Unavailable(f"The engine has {snapshot.state}.", code="engine_failed"))
        return _fine("alive")

    @router.get("/ready", summary="Whether a request would be taken now")
    async def ready() -> Response:
        snapshot = engine.snapshot()
        state, away = snapshot.state, _away(snapshot)
        if (draining := engine.draining) is not None:
            return error_response(draining)
        if state != "ready":
            code = "engine_failed" if state in GONE else "model_not_ready"
            return error_response(Unavailable(f"No model is ready: {state}.", code=code))
        if away is not None and away.stage == "failed":
            return error_response(Unavailable(away.error or "", code="server_unreachable"))
        return _fine("ready")

    return router


def _fine(status: Literal["alive", "ready"]) -> Response:
    return JSONResponse({"status": status})


def health_json(snapshot: Snapshot, media_bytes: int = 0, max_queue: int = 0) -> dict[str, Any]:
    """State of the server, its machine, and its memory in bytes. Nothing that users sent.

    media_bytes: size of the decoded media in the engine's cache. max_queue: requests that may wait.
    """
    num_waiting = sum(request.stage == "waiting" for request in snapshot.running)
    parts = memory_parts(snapshot, media_bytes)
    device = snapshot.device
    return {
        "status": STATUS[snapshot.state],
        "error": words_without_folders(snapshot.error or "", snapshot.states) or None,
        "model": _default_json(snapshot),
        "models": [health_of(state) for state in snapshot.states],
        "running": len(snapshot.running) - num_waiting,
        "waiting": num_waiting,
        "batch": batch_json(snapshot.batch, num_waiting, max_queue),
        "device": {
            "os": device.os,
            "chip": device.chip,
            "cores": device.num_cores,
            "mlx_device": device.mlx_device,
            "mlx_version": device.mlx_version,
            "blas": device.blas,
        },
        "memory": {
            "total_bytes": device.memory_bytes,
            "process_bytes": snapshot.process_bytes,
            "mlx_active_bytes": snapshot.active_bytes,
            "mlx_cache_bytes": snapshot.cache_bytes,
            "mlx_peak_bytes": snapshot.peak_bytes,
            "wired_limit_bytes": snapshot.wired_limit_bytes,
            "used_bytes": sum(parts.values()),
            "parts": parts,
            **({"ranks": [rank_json(rank) for rank in own_and_others(snapshot)]} if snapshot.ranks else {}),
        },
    }


def own_and_others(snapshot: Snapshot) -> list[RankMemory]:
    """The memory of every process that holds a part of the model, this one's first."""
    own = RankMemory(
        rank=0,
        active_bytes=snapshot.active_bytes,
        cache_bytes=snapshot.cache_bytes,
        peak_bytes=snapshot.peak_bytes,
        process_bytes=snapshot.process_bytes,
        total_bytes=snapshot.device.memory_bytes,
    )
    return [own, *snapshot.ranks]


def rank_json(rank: RankMemory) -> Json:
    """Names as of the process that answers, see `health_json`."""
    return {
        "rank": rank.rank,
        "total_bytes": rank.total_bytes,
        "process_bytes": rank.process_bytes,
        "mlx_active_bytes": rank.active_bytes,
        "mlx_cache_bytes": rank.cache_bytes,
        "mlx_peak_bytes": rank.peak_bytes,
    }


def _default_json(snapshot: Snapshot) -> Json | None:
    if snapshot.model is None:
        return None
    default = _away(snapshot)
    return model_json(snapshot.model) | ({"state": stage_word(default), "server": default.server} if default else {})


def _away(snapshot: Snapshot) -> ModelState | None:
    """The default model, where another server answers for it."""
    return next((state for state in snapshot.states if state.is_default and state.server), None)


def health_of(state: ModelState) -> Json:
    """One of the models, its memory in bytes. seconds: how long its stage lasts, or how long it took to load."""
    return {
        "id": state.name,
        "state": stage_word(state),
        "default": state.is_default,
        "done_bytes": state.done_bytes,
        "total_bytes": state.total_bytes,
        "seconds": round(state.seconds, 3),
        "requests": state.num_requests,
        "waiting": state.num_waiting,
        "idle_seconds": None if state.idle_s is None else round(state.idle_s, 3),
        "weights_bytes": state.num_bytes,
        **({"server": state.server} if state.server else {}),
        "error": without_folder(state.error, state) if state.error else None,
    }


def batch_json(batch: BatchState, num_waiting: int, max_queue: int) -> dict[str, Any]:
    """What is worked on at once, of how much. bounded_by: what keeps requests waiting now."""
    bound = "memory" if batch.num_waiting_for_memory else "requests" if num_waiting else None
    return {
        "answers": batch.num_rows,
        "max_answers": batch.max_rows,
        "max_requests": batch.max_requests,
        "max_queue": max_queue,
        "kv_tokens": batch.kv_tokens,
        "max_kv_tokens": batch.max_kv_tokens,
        "waiting_for_memory": batch.num_waiting_for_memory,
        "bounded_by": bound,
    }


def memory_parts(snapshot: Snapshot, media_bytes: int) -> dict[str, int]:
    """The memory of this process by kind, in bytes; the parts sum to all that it uses.

    All that it uses is its resident memory, which on a CPU and on a Mac includes MLX's arrays; MLX's own count where
    that is larger, since not all of it is resident; on CUDA, which has its own memory, the sum of both. Weights, KV,
    row snapshots and features are the sizes of their arrays. running: all else that MLX has in use, such as the KV of
    running rows. mlx_free: freed memory that MLX keeps for its next arrays. media: decoded pictures, clips and sounds
    in the engine's cache. other: Python, libraries, everything else.
    """
    stats, mlx_bytes = snapshot.cache, snapshot.active_bytes + snapshot.cache_bytes
    on_cuda = snapshot.device.mlx_device.startswith("CUDA")
    process_bytes = snapshot.process_bytes if on_cuda else max(0, snapshot.process_bytes - mlx_bytes)
    in_use = {
        "weights_bytes": sum(added_bytes(snapshot.models)),
        "stored_kv_bytes": stats.kv_bytes,
        "snapshots_bytes": stats.snapshot_bytes,
        "features_bytes": stats.feature_bytes,
    }
    parts = _within(in_use, snapshot.active_bytes, rest="running_bytes")
    parts["mlx_free_bytes"] = snapshot.cache_bytes
    return parts | _within({"media_bytes": media_bytes}, process_bytes, rest="other_bytes")


def _within(sizes: dict[str, int], total: int, rest: str) -> dict[str, int]:
    """The sizes, cut so that they sum to at most total (they were counted at another moment), and the rest."""
    parts: dict[str, int] = {}
    for name, size in sizes.items():
        parts[name] = min(size, total - sum(parts.values()))
    return parts | {rest: total - sum(parts.values())}
