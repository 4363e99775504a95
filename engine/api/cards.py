"""The loaded model and the server's health as JSON, and the names under which a model may be requested."""

from __future__ import annotations

from typing import Any

from engine.config import ModelSpec
from engine.errors import ModelNotFound
from engine.types import ModelCard, Snapshot

DEFAULT = "default"
"""The name for whichever model is loaded."""

STATUS = {"starting": "loading", "loading": "loading", "ready": "ok", "failed": "failed", "stopped": "stopped"}


def check_model(name: str | None, spec: ModelSpec, card: ModelCard) -> None:
    """Raises ModelNotFound unless name is "default", the name or source at the start, or an id of /v1/models."""
    if name in (None, DEFAULT, card.id, spec.name, spec.source):
        return
    raise ModelNotFound(f"The model {name!r} is not loaded; this server has {card.id!r}.", param="model")


def model_json(card: ModelCard) -> dict[str, Any]:
    """OpenAI's model object, with the model's limits and capabilities, which are this server's own."""
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


def health_json(snapshot: Snapshot) -> dict[str, Any]:
    """State of the server, its machine, and its memory in bytes. Nothing that users sent."""
    device = snapshot.device
    return {
        "status": STATUS[snapshot.state],
        "error": snapshot.error,
        "model": model_json(snapshot.model) if snapshot.model else None,
        "running": sum(request.stage != "waiting" for request in snapshot.running),
        "waiting": sum(request.stage == "waiting" for request in snapshot.running),
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
        },
    }


def fingerprint(snapshot: Snapshot) -> str:
    """OpenAI's system_fingerprint: equal as long as the backend is the same."""
    return f"mlx-{snapshot.device.mlx_version}-{snapshot.device.mlx_device}".lower().replace(" ", "-")
