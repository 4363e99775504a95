"""The loaded model as Ollama describes models."""

from __future__ import annotations

from engine.api.ollama.answers import time_json
from engine.types import Json, ModelCard

API_VERSION = "0.13.0"
"""The release of Ollama whose answers these are: clients ask for it before they use what is new."""


def tag_json(card: ModelCard) -> Json:
    """One line of /api/tags."""
    return {
        "name": card.id,
        "model": card.id,
        "modified_at": time_json(card.created),
        "size": card.num_bytes,
        "digest": "",
        "details": details_json(card),
    }


def running_json(card: ModelCard) -> Json:
    """One line of /api/ps. The model stays until the server ends."""
    return {**tag_json(card), "size_vram": card.num_bytes, "context_length": card.context_tokens, "expires_at": "9999-12-31T23:59:59Z"}


def show_json(card: ModelCard, template: str = "") -> Json:
    """The answer of /api/show."""
    return {
        "modelfile": "",
        "parameters": "",
        "template": template,
        "license": "",
        "modified_at": time_json(card.created),
        "details": details_json(card),
        "model_info": {
            "general.architecture": card.model_type,
            "general.parameter_count": card.num_params,
            f"{card.model_type}.context_length": card.context_tokens,
        },
        "capabilities": ["completion", "tools", *(["vision"] if card.vision else []), *(["audio"] if card.audio else [])],
    }


def details_json(card: ModelCard) -> Json:
    return {
        "parent_model": "",
        "format": "safetensors",
        "family": card.model_type,
        "families": [card.model_type],
        "parameter_size": f"{card.num_params / 1e9:.1f}B" if card.num_params >= 1e9 else f"{card.num_params / 1e6:.1f}M",
        "quantization_level": card.dtype,
    }
