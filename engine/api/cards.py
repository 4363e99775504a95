"""What the engine is and holds, as JSON: models and health. And under which names a model may be asked for."""

from __future__ import annotations

from typing import Any

from engine.config import ModelSpec
from engine.errors import ModelNotFound
from engine.types import ModelCard, Snapshot

DEFAULT = "default"
"""The name under which clients may ask for whatever model is loaded."""

STATUS = {"starting": "loading", "loading": "loading", "ready": "ok", "failed": "failed", "stopped": "stopped"}


def check_model(name: str | None, spec: ModelSpec, card: ModelCard) -> None:
    """Raise ModelNotFound unless name is "default", what the server was started with, or what /v1/models says."""
    if name in (None, DEFAULT, card.id, spec.name, spec.source):
        return
    raise ModelNotFound(f"The model {name!r} is not loaded; this server has {card.id!r}.", param="model")


def model_json(card: ModelCard) -> dict[str, Any]:
    """OpenAI's model object; what the model can take is this server's own."""
    return {
        "id": card.id,
        "object": "model",
        "created": card.created,
        "owned_by": "local",
        "max_model_len": card.context_tokens,
        "model_type": card.model_type,
        "dtype": card.dtype,
        "num_params": card.num_params,
        "capabilities": {
            "vision": card.vision,
            "video": card.video,
            "audio": card.audio,
            "images_per_prompt": card.images_per_prompt,
            "audios_per_prompt": card.audios_per_prompt,
        },
    }


def health_json(snapshot: Snapshot, media_bytes: int = 0) -> dict[str, Any]:
    """State of the server, the machine it runs on and its memory in bytes. Nothing of what users sent.

    media_bytes: decoded media that are kept.
    """
    parts = memory_parts(snapshot, media_bytes)
    device = snapshot.device
    return {
        "status": STATUS[snapshot.state],
        "error": snapshot.error,
        "model": model_json(snapshot.model) if snapshot.model else None,
        "running": sum(held.stage != "waiting" for held in snapshot.running),
        "waiting": sum(held.stage == "waiting" for held in snapshot.running),
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
            "used_bytes": sum(parts.values()),
            "parts": parts,
        },
    }


def memory_parts(snapshot: Snapshot, media_bytes: int) -> dict[str, int]:
    """What this process's memory is filled with, in bytes; the parts sum to all that it uses.

    That is the resident memory that the system reports, in which MLX's arrays lie on a CPU and, shared with the GPU, on
    a Mac; MLX's own count where that is more (not all of it is resident); on CUDA, whose memory is apart, both.
    Weights, KV, row snapshots and features are counted by their arrays' sizes. running: what else MLX has in use: the
    KV of running rows, and what a step computes. mlx_free: freed, and kept by MLX for its next arrays. media: decoded
    pictures, clips and sounds that are kept. other: Python, libraries, and all the rest.
    """
    stats, mlx_bytes = snapshot.cache, snapshot.active_bytes + snapshot.cache_bytes
    on_cuda = snapshot.device.mlx_device.startswith("CUDA")
    process_bytes = snapshot.process_bytes if on_cuda else max(0, snapshot.process_bytes - mlx_bytes)
    in_use = {
        "weights_bytes": sum(model.num_bytes for model in snapshot.models),
        "stored_kv_bytes": stats.kv_bytes,
        "snapshots_bytes": stats.snapshot_bytes,
        "features_bytes": stats.feature_bytes,
    }
    parts = _within(in_use, snapshot.active_bytes, rest="running_bytes")
    parts["mlx_free_bytes"] = snapshot.cache_bytes
    return parts | _within({"media_bytes": media_bytes}, process_bytes, rest="other_bytes")


def _within(sizes: dict[str, int], total: int, rest: str) -> dict[str, int]:
    """Sizes that were counted at other moments than their total: each at most what is left, then what is left."""
    parts: dict[str, int] = {}
    for name, size in sizes.items():
        parts[name] = min(size, total - sum(parts.values()))
    return parts | {rest: total - sum(parts.values())}


def fingerprint(snapshot: Snapshot) -> str:
    """OpenAI's system_fingerprint: equal while the backend that makes the answers is the same."""
    return f"mlx-{snapshot.device.mlx_version}-{snapshot.device.mlx_device}".lower().replace(" ", "-")
