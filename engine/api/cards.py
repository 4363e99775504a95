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


def health_json(snapshot: Snapshot) -> dict[str, Any]:
    """State of the server, the machine it runs on and its memory in bytes. Nothing of what users sent."""
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
    """OpenAI's system_fingerprint: equal while the backend that makes the answers is the same."""
    return f"mlx-{snapshot.device.mlx_version}-{snapshot.device.mlx_device}".lower().replace(" ", "-")
