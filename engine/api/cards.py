"""The models and the server's health as JSON."""

from __future__ import annotations

import os
from collections.abc import Sequence
from copy import copy
from datetime import UTC, datetime
from typing import Any

from engine.config import given_folder
from engine.errors import EngineError, say_bytes
from engine.types import BatchState, DescriptionProgress, Json, ModelCard, ModelState, Snapshot, added_bytes

LOADING = ("starting", "loading")
_STATES = {"known": "not_loaded"}
"""Of a model that the first request for it loads."""

STATUS = {"starting": "loading", "loading": "loading", "ready": "ok", "failed": "failed", "stopped": "stopped"}


def models_json(snapshot: Snapshot, states: tuple[ModelState, ...], started: int) -> Json:
    """GET /v1/models: all models that may be loaded, the default one first: a client that takes the first of the list
    asks for that one, and waits while it is loaded. None where the engine has ended. started: of the server, in seconds
    since 1970.

    first_id, last_id and has_more are what Anthropic's clients read.
    """
    is_over = snapshot.state in ("failed", "stopped")
    data = [] if is_over else [state_json(state, started) for state in states]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return {"object": "list", "data": data, "has_more": False, **ends}


def state_json(state: ModelState, started: int) -> Json:
    """The model object of one that may be loaded. As long as it never was, nothing is known of its limits and
    capabilities. root and parent are vLLM's: of an adapter, the model that it belongs to."""
    known = model_json(state.card) if state.card else _named(state.name, started)
    json: Json = {**known, "state": _STATES.get(state.stage, state.stage)}
    json |= {"root": state.parent or state.name, "parent": state.parent}
    if state.aliases:
        json["aliases"] = list(state.aliases)
    if state.stage in ("downloading", "loading") and state.total_bytes:
        json["progress"] = {"done_bytes": state.done_bytes, "total_bytes": state.total_bytes}
    if state.error:
        json["error"] = without_folder(state.error, state)
    return json


def without_folder(words: str, state: ModelState) -> str:
    """Words about a model with its name in place of its folder: whoever asks need not know where files lie."""
    for source in (state.source, state.adapter_path or ""):
        folder = given_folder(source)
        if folder.is_absolute():
            for path in (source, str(folder), os.path.realpath(folder)):
                words = words.replace(path, state.name)
    return words


def without_folders(error: EngineError, states: Sequence[ModelState]) -> EngineError:
    """What a client is told of an error, which may be about any of the models."""
    words = _without_any(error.message, states)
    if words == error.message:
        return error
    told = copy(error)  # others may wait for the same
    told.message = words
    return told


def _without_any(words: str, states: Sequence[ModelState]) -> str:
    for state in states if words else ():
        words = without_folder(words, state)
    return words


def loading_words(state: ModelState) -> str:
    """What a client that waits for a model is told; "" of one that is there."""
    if state.stage == "ready":
        return ""
    done = f", {say_bytes(state.done_bytes)} of {say_bytes(state.total_bytes)}" if state.total_bytes else ""
    stage = "waiting" if state.stage in ("known", "failed") else state.stage
    return f"{state.name}: {stage}{done}, {state.seconds:.0f} s"


def describing_words(progress: DescriptionProgress) -> str:
    """What a client is told while its media are described."""
    return f"{progress.model}: describing media, {progress.num_done} of {progress.num_media} done"


def _named(name: str, created: int) -> Json:
    """OpenAI's model object, which is Anthropic's too."""
    created_at = datetime.fromtimestamp(created, UTC).isoformat()
    openai = {"id": name, "object": "model", "created": created, "owned_by": "local"}
    return {**openai, "type": "model", "display_name": name, "created_at": created_at}


def model_json(card: ModelCard) -> Json:
    """The model object, with the model's limits and capabilities, which are this server's own."""
    return {
        **_named(card.id, card.created),
        "state": "ready",
        "max_model_len": card.context_tokens,
        "model_type": card.model_type,
        "dtype": card.dtype,
        "num_params": card.num_params,
        "capabilities": {
            "vision": card.vision,
            "video": card.video,
            "audio": card.audio,
            "embeddings": card.embeds,
            "rerank": card.ranks,
            "images_per_prompt": card.images_per_prompt,
            "audios_per_prompt": card.audios_per_prompt,
            "tested": card.tested,
        },
    }


def health_json(snapshot: Snapshot, media_bytes: int = 0, max_queue: int = 0) -> dict[str, Any]:
    """State of the server, its machine, and its memory in bytes. Nothing that users sent.

    media_bytes: size of the decoded media in the engine's cache. max_queue: requests that may wait.
    """
    num_waiting = sum(request.stage == "waiting" for request in snapshot.running)
    parts = memory_parts(snapshot, media_bytes)
    device = snapshot.device
    return {
        "status": STATUS[snapshot.state],
        "error": _without_any(snapshot.error or "", snapshot.states) or None,
        "model": model_json(snapshot.model) if snapshot.model else None,
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
        },
    }


def health_of(state: ModelState) -> Json:
    """One of the models, its memory in bytes. seconds: how long its stage lasts, or how long it took to load."""
    return {
        "id": state.name,
        "state": _STATES.get(state.stage, state.stage),
        "default": state.is_default,
        "done_bytes": state.done_bytes,
        "total_bytes": state.total_bytes,
        "seconds": round(state.seconds, 3),
        "requests": state.num_requests,
        "waiting": state.num_waiting,
        "idle_seconds": None if state.idle_s is None else round(state.idle_s, 3),
        "weights_bytes": state.num_bytes,
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


def fingerprint(snapshot: Snapshot) -> str:
    """OpenAI's system_fingerprint: equal as long as the backend is the same."""
    return f"mlx-{snapshot.device.mlx_version}-{snapshot.device.mlx_device}".lower().replace(" ", "-")
