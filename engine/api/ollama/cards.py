"""The loaded model as Ollama describes models."""

from __future__ import annotations

from engine.api.cards import LOADING
from engine.api.ollama.answers import time_json
from engine.config import ModelSpec
from engine.types import Json, ModelCard, Snapshot

API_VERSION = "0.13.0"
"""The release of Ollama whose answers these are: clients ask for it before they use what is new."""


def tags_json(snapshot: Snapshot, spec: ModelSpec, started: int) -> Json:
    """The answer of /api/tags. A model that is still loading is listed by its name; started: see models_json."""
    tags = [tag_json(card) for card in snapshot.models]
    if not tags and snapshot.state in LOADING:
        name = {"name": spec.served_name, "model": spec.served_name, "modified_at": time_json(started)}
        tags = [{**name, "size": 0, "digest": "", "details": {}}]
    return {"models": tags}


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
    room = {"size_vram": card.num_bytes, "context_length": card.context_tokens}
    return {**tag_json(card), **room, "expires_at": "9999-12-31T23:59:59Z"}


def show_json(card: ModelCard) -> Json:
    """The answer of /api/show."""
    return {
        "modelfile": "",
        "parameters": "",
        "template": "",
        "license": "",
        "modified_at": time_json(card.created),
        "details": details_json(card),
        "model_info": {
            "general.architecture": card.model_type,
            "general.parameter_count": card.num_params,
            f"{card.model_type}.context_length": card.context_tokens,
        },
        "capabilities": [
            "completion",
            "tools",
            *(["vision"] if card.vision else []),
            *(["audio"] if card.audio else []),
            *(["thinking"] if card.reasons else []),
        ],
    }


def details_json(card: ModelCard) -> Json:
    return {
        "parent_model": "",
        "format": "safetensors",
        "family": card.model_type,
        "families": [card.model_type],
        "parameter_size": f"{card.num_params / 1e9:.1f}B"
        if card.num_params >= 1e9
        else f"{card.num_params / 1e6:.1f}M",
        "quantization_level": card.dtype,
    }
